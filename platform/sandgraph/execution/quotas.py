"""What each tenant may use and uses: kept in memory, and stored in small parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from sandgraph.errors import QuotaExceeded, SandgraphError
from sandgraph.model.quotas import Quotas, QuotaUse
from sandgraph.model.run import Usage
from sandgraph.settings import Settings
from sandgraph.store.records import Page, TenantRecord
from sandgraph.store.tenants import Tenants

logger = logging.getLogger(__name__)

#: Seconds between two times that what was used is stored, and that it is seen whether a day has begun.
_EVERY_S = 2.0

#: Seconds between two times that what is stored of each tenant is counted anew: retention lowers it.
_COUNT_S = 60.0

_MB = 1024 * 1024

#: Seconds after which it is worth to look whether something was removed.
_RETRY_STORED_S = 300

_RETRY_QUEUE_S = 5


def _now() -> datetime:
    return datetime.now(UTC)


class TenantQuotas:
    """The quotas of all tenants, and what they use.

    Args:
        tenants: Keep them.
        settings: Of the deployment: the quotas of whoever has none of its own.
        clock: Tells the time.
    """

    def __init__(self, tenants: Tenants, settings: Settings, clock: Callable[[], datetime] = _now) -> None:
        self._tenants = tenants
        self._clock = clock
        self._usual = Quotas(
            settings.tenant_max_active_runs,
            settings.tenant_max_queued_runs,
            settings.tenant_cpu_s_per_day,
            settings.tenant_stored_mb,
            settings.tenant_requests_per_minute,
        )
        self._own: dict[str, Mapping[str, float]] = {}
        self._quotas: dict[str, Quotas] = {}
        self._day = clock().date()
        self._cpu_s: dict[str, float] = {}
        self._new: dict[date, dict[str, tuple[float, int]]] = {}
        self._stored: dict[str, int] = {}
        self._counted_at = clock()
        self._task: asyncio.Task[None] | None = None
        self._changed: Callable[[], None] = lambda: None
        self._load: Callable[[str], tuple[int, int]] = lambda _: (0, 0)

    async def start(self, changed: Callable[[], None], load: Callable[[str], tuple[int, int]]) -> None:
        """Read what is known, and begin to keep account.

        Args:
            changed: Is called when runs may begin that might not before.
            load: Tells how many runs of a tenant are in progress, and how many wait.
        """
        self._changed, self._load = changed, load
        self._own = await self._tenants.own_quotas()
        self._cpu_s = await self._tenants.used_on(self._day)
        self._stored = await self._tenants.stored_bytes()
        self._task = asyncio.create_task(self._keep(), name="quotas")

    async def close(self) -> None:
        """Store what is not stored yet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            # Another process may have this one's place: then it is lost, and little.
            with suppress(SandgraphError):
                await self._flush()

    # What there may be

    def of(self, tenant: str) -> Quotas:
        """Return a tenant's quotas."""
        found = self._quotas.get(tenant)
        if found is None:
            own = self._own.get(tenant)
            if own is None:
                return self._usual
            found = self._quotas[tenant] = self._usual.changed(own)
        return found

    def most_active(self, tenant: str) -> int | None:
        """Return how many runs of a tenant may be in progress; None for any number."""
        if self._has_no_cpu(tenant):
            return 0
        return self.of(tenant).max_active_runs or None

    def requests_per_minute(self, tenant: str) -> int:
        """Return how often a tenant may ask; 0 for any number."""
        return self.of(tenant).requests_per_minute

    def demand_room(self, tenant: str, queued: int) -> None:
        """Do nothing, unless a tenant may not submit a run that has to wait.

        Raises:
            QuotaExceeded: As many of its runs wait as may (``tenant_queue_full``).
        """
        most = self.of(tenant).max_queued_runs
        if most and queued >= most:
            message = f"{queued} runs of this tenant are waiting already; try again later."
            raise QuotaExceeded(message, code="tenant_queue_full", retry_after_s=_RETRY_QUEUE_S)

    def demand_means(self, tenant: str) -> None:
        """Do nothing, unless a tenant may not submit a run at all.

        Raises:
            QuotaExceeded: It has used its CPU time for today (``cpu_quota_exceeded``), or as much is stored of its runs
                as may be (``storage_quota_exceeded``).
        """
        quotas = self.of(tenant)
        if self._has_no_cpu(tenant):
            message = f"This tenant has used its {quotas.cpu_s_per_day:g} CPU-seconds of today; the day begins in UTC."
            raise QuotaExceeded(message, code="cpu_quota_exceeded", retry_after_s=self._until_tomorrow_s())
        if self.has_no_room(tenant):
            message = f"{quotas.stored_mb} MB are stored of this tenant's runs, which is as much as may be."
            raise QuotaExceeded(message, code="storage_quota_exceeded", retry_after_s=_RETRY_STORED_S)

    def may_run(self, tenant: str) -> bool:
        """Tell whether a tenant has CPU time left for another attempt."""
        return not self._has_no_cpu(tenant)

    def has_no_room(self, tenant: str) -> bool:
        """Tell whether as much is stored of a tenant's runs as may be."""
        most = self.of(tenant).stored_mb
        return bool(most) and self._stored.get(tenant, 0) >= most * _MB

    # What is used

    def used(self, tenant: str, usage: Usage) -> None:
        """Note what an attempt used."""
        self._turn_the_page()
        cpu_s = usage.cpu_s or 0.0
        self._cpu_s[tenant] = self._cpu_s.get(tenant, 0.0) + cpu_s
        self._add(self._day, tenant, cpu_s, 1)

    def stored(self, tenant: str, size: int) -> None:
        """Note that so many bytes more are stored of a tenant's runs."""
        self._stored[tenant] = self._stored.get(tenant, 0) + size

    def use(self, tenant: str) -> QuotaUse:
        """Return what a tenant uses now."""
        self._turn_the_page()
        active, queued = self._load(tenant)
        return QuotaUse(active, queued, round(self._cpu_s.get(tenant, 0.0), 3), self._stored.get(tenant, 0))

    # For who manages them

    async def page(self, *, cursor: str | None, limit: int) -> Page[TenantRecord]:
        """Return tenants; see `Tenants.page`."""
        return await self._tenants.page(cursor=cursor, limit=limit)

    async def get(self, tenant: str) -> TenantRecord:
        """Return a tenant as it is stored."""
        return await self._tenants.get(tenant)

    async def set(self, tenant: str, quotas: Mapping[str, float], versions: Collection[int] | None) -> TenantRecord:
        """Give a tenant quotas of its own; see `Tenants.set_quotas`. They hold from now on."""
        record = await self._tenants.set_quotas(tenant, quotas, versions)
        self._own[tenant] = record.quotas
        self._quotas.pop(tenant, None)
        self._changed()
        return record

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                if self._turn_the_page():
                    self._changed()
                await self._flush()
                if (self._clock() - self._counted_at).total_seconds() >= _COUNT_S:
                    self._counted_at = self._clock()
                    self._stored = await self._tenants.stored_bytes()
            except SandgraphError:
                logger.warning("use of tenants not stored", exc_info=True, extra={"action": "tenant_usage_not_stored"})

    async def _flush(self) -> None:
        for day in list(self._new):
            used = self._new.pop(day)
            try:
                await self._tenants.add_usage(day, used)
            except SandgraphError:
                for tenant, (cpu_s, attempts) in used.items():
                    self._add(day, tenant, cpu_s, attempts)
                raise

    def _add(self, day: date, tenant: str, cpu_s: float, attempts: int) -> None:
        of_day = self._new.setdefault(day, {})
        before, count = of_day.get(tenant, (0.0, 0))
        of_day[tenant] = before + cpu_s, count + attempts

    def _has_no_cpu(self, tenant: str) -> bool:
        most = self.of(tenant).cpu_s_per_day
        if not most:
            return False
        self._turn_the_page()
        return self._cpu_s.get(tenant, 0.0) >= most

    def _turn_the_page(self) -> bool:
        """Begin to count anew where a day has begun; tell whether one has."""
        today = self._clock().date()
        if today == self._day:
            return False
        self._day, self._cpu_s = today, {}
        return True

    def _until_tomorrow_s(self) -> int:
        now = self._clock()
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        return max(1, int((tomorrow - now).total_seconds()) + 1)
