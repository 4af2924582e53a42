"""Tenants: their own quotas, and what they use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from sqlalchemy import Connection, func, insert, select, union, update

from sandgraph.errors import Conflict
from sandgraph.store import cursors, tables
from sandgraph.store.columns import now
from sandgraph.store.database import Database
from sandgraph.store.records import Page, TenantRecord

_LIST = "tenants"

_TENANT, _USAGE = tables.tenant.c, tables.tenant_usage.c


class Tenants:
    """The tenants of a deployment.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str) -> TenantRecord:
        """Return a tenant; one of which nothing is stored has no quotas of its own."""
        return await self._database.read(_get, tenant)

    async def page(self, *, cursor: str | None = None, limit: int = 100) -> Page[TenantRecord]:
        """Return those that have quotas of their own, keys or graphs, in the order of their names."""
        return await self._database.read(_page, cursor, limit)

    async def own_quotas(self) -> dict[str, Mapping[str, float]]:
        """Return the quotas that tenants have of their own."""
        return await self._database.read(_own_quotas)

    async def set_quotas(
        self, tenant: str, quotas: Mapping[str, float], versions: Collection[int] | None
    ) -> TenantRecord:
        """Give a tenant quotas of its own, in the place of those that it had.

        Args:
            tenant: Its name.
            quotas: By name; what is not there is as the deployment has it.
            versions: One of them has to be the present one; None for any.

        Raises:
            Conflict: None of them is (``tenant_changed``).
        """
        return await self._database.write(_set_quotas, tenant, dict(quotas), versions)

    async def add_usage(self, day: date, used: Mapping[str, tuple[float, int]]) -> None:
        """Add what tenants used: CPU-seconds, and attempts."""
        await self._database.write(_add_usage, day, dict(used))

    async def used_on(self, day: date) -> dict[str, float]:
        """Return the CPU-seconds that tenants used on a day."""
        return await self._database.read(_used_on, day)

    async def stored_bytes(self) -> dict[str, int]:
        """Return what is stored of the runs of each tenant."""
        return await self._database.read(_stored_bytes)

    async def output_of(self, run_id: str) -> int:
        """Return how much a run has printed that is stored."""
        return await self._database.read(_output_of, run_id)


def _get(connection: Connection, tenant: str) -> TenantRecord:
    row = connection.execute(select(tables.tenant).where(_TENANT.tenant == tenant)).first()
    if row is None:
        return TenantRecord(tenant, {}, 0, None, None)
    return TenantRecord(tenant, row.quotas, row.version, row.created_at, row.updated_at)


def _page(connection: Connection, cursor: str | None, limit: int) -> Page[TenantRecord]:
    after = cursors.decode(_LIST, cursor) or ""
    known = union(select(_TENANT.tenant), select(tables.api_key.c.tenant), select(tables.graph.c.tenant)).subquery()
    query = select(known.c.tenant).where(known.c.tenant > after).order_by(known.c.tenant).limit(limit + 1)
    found = [_get(connection, name) for name in list(connection.scalars(query))]
    return cursors.page(_LIST, found, limit, lambda each: each.tenant)


def _own_quotas(connection: Connection) -> dict[str, Mapping[str, float]]:
    return {row.tenant: row.quotas for row in connection.execute(select(_TENANT.tenant, _TENANT.quotas))}


def _set_quotas(
    connection: Connection, tenant: str, quotas: Mapping[str, float], versions: Collection[int] | None
) -> TenantRecord:
    present, ts = _get(connection, tenant), now()
    if versions is not None and present.version not in versions:
        message = f"The quotas of {tenant} were changed meanwhile: they are at version {present.version} now."
        raise Conflict(message, code="tenant_changed")
    values = {"quotas": quotas, "version": present.version + 1, "updated_at": ts}
    if present.version:
        connection.execute(update(tables.tenant).where(_TENANT.tenant == tenant).values(values))
    else:
        connection.execute(insert(tables.tenant), {"tenant": tenant, "created_at": ts, **values})
    return _get(connection, tenant)


def _add_usage(connection: Connection, day: date, used: Mapping[str, tuple[float, int]]) -> None:
    for tenant, (cpu_s, attempts) in used.items():
        changes = {"cpu_s": _USAGE.cpu_s + cpu_s, "attempts": _USAGE.attempts + attempts}
        key = (_USAGE.tenant == tenant, _USAGE.day == day.isoformat())
        if connection.execute(update(tables.tenant_usage).where(*key).values(changes)).rowcount == 0:
            row = {"tenant": tenant, "day": day.isoformat(), "cpu_s": cpu_s, "attempts": attempts}
            connection.execute(insert(tables.tenant_usage), row)


def _used_on(connection: Connection, day: date) -> dict[str, float]:
    query = select(_USAGE.tenant, _USAGE.cpu_s).where(_USAGE.day == day.isoformat())
    return {row.tenant: row.cpu_s for row in connection.execute(query)}


def _stored_bytes(connection: Connection) -> dict[str, int]:
    run = tables.run.c
    query = select(run.tenant, func.sum(run.stored_bytes).label("stored")).group_by(run.tenant)
    return {row.tenant: int(row.stored or 0) for row in connection.execute(query)}


def _output_of(connection: Connection, run_id: str) -> int:
    log = tables.log_record.c
    return int(connection.scalar(select(func.sum(func.length(log.text))).where(log.run_id == run_id)) or 0)
