"""The pool: sandboxes started ahead of their use, each used once and destroyed off the critical path."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sandgraph.errors import EngineUnavailable, SandboxLost, Unavailable
from sandgraph.model.limits import Isolation, Limits
from sandgraph.sandbox.attempt import ContainerSandbox
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.fleet import Fleet
from sandgraph.sandbox.kept import KeptSandboxes, Place
from sandgraph.sandbox.kinds import Kind, container_limits, is_gvisor, kind_for
from sandgraph.sandbox.observed import EngineFacts
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL, Reaper
from sandgraph.sandbox.spec import Owner, Sandbox
from sandgraph.sandbox.stock import Stock
from sandgraph.sandbox.tasks import Tasks, persistently
from sandgraph.settings import Settings
from sandgraph.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

#: Seconds a lease tries to get a sandbox before it gives up.
LEASE_S = 60.0
#: Seconds that `SandboxPool.close` gives the engine, twice.
CLOSE_S = 8.0
_CHECK_S = 2.0
#: Sandboxes that are started at the same time for each CPU: more at once take longer, and give no more.
_STARTS_A_CPU = 2
_REAP_S = 30.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a started pool consists of."""

    facts: EngineFacts
    fleet: Fleet
    stock: Stock
    kept: KeptSandboxes
    reaper: Reaper


class SandboxPool:
    """Sandboxes on a Docker engine; implements `sandgraph.sandbox.spec.Sandboxes`.

    Args:
        settings: Those of the engine, the runner image and the pool are read.
        warm: The limits of the sandboxes that wait. Others are given at the lease (some 20 ms), except for ``tmp_mb``:
            for another size of ``/tmp``, and under gVisor for any other limits, sandboxes of their own are started, and
            kept waiting from then on as long as they are asked for.
        engine: Another engine than the settings name; closed with the pool.
        metrics: Take what is measured.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        warm: Limits | None = None,
        engine: Engine | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._warm = warm or Limits()
        self._metrics = metrics or Metrics()
        self._engine = engine or Engine(settings, metrics=metrics)
        self._tasks = Tasks()
        self._parts: _Parts | None = None
        self._is_closed = False
        self._leased: dict[Container, str] = {}

    async def start(self) -> None:
        """Reap what an earlier process left and begin to fill.

        Raises:
            EngineUnavailable: The engine does not answer, has no such image or runtime, or cannot enforce the limits.
            ConfigurationError: The engine is reached in a way that sandboxes cannot use.
        """
        facts = await self._engine.connect()
        fleet = Fleet(self._engine, self._settings.deployment, self._metrics)
        reaper = Reaper(self._engine, DEPLOYMENT_LABEL, self._settings.deployment, lambda: fleet.names)
        await reaper.reap()
        stock = Stock(
            fleet,
            self._kind(facts, facts.runtime, container_limits(self._warm, facts.cpus)),
            least=self._settings.pool_min,
            most=self._settings.pool_max,
            parallelism=min(self._settings.pool_refill_parallelism, _STARTS_A_CPU * facts.cpus),
            held=self._held,
            tasks=self._tasks,
            metrics=self._metrics,
        )
        kept = KeptSandboxes(fleet, self._settings.worker_slots)
        self._parts = _Parts(facts, fleet, stock, kept, reaper)
        self._tasks.spawn(self._keep_house(self._parts), "sandbox housekeeping")

    async def close(self) -> None:
        """Remove every sandbox, leased ones too; takes half a minute at the worst."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._parts is not None:
            await self._tasks.cancel()
            self._parts.stock.close()
            self._parts.kept.close()
            for container in self._leased:
                container.channel.shut_down()
            await self._parts.fleet.close(CLOSE_S)
        await self._engine.close()

    @asynccontextmanager
    async def lease(
        self, limits: Limits, owner: Owner, *, runtime: str | None = None, isolation: Isolation = Isolation.NODE
    ) -> AsyncIterator[Sandbox]:
        """Hand out a started sandbox with these limits; at the end of the block it is destroyed, or kept for its run.

        Raises:
            EngineUnavailable: None could be started within `LEASE_S`, or the pool is not open, or has no such runtime.
        """
        parts = self._parts
        if parts is None or self._is_closed:
            raise EngineUnavailable("The pool of sandboxes is not open.")
        began = time.monotonic()
        runtime = _allowed(runtime, parts.facts)
        place = Place(owner.run_id, runtime, container_limits(limits, parts.facts.cpus))
        container = parts.kept.take(place) if isolation is Isolation.RUN else None
        is_first = container is None
        if container is None:
            container = await self._acquire(parts, place, owner.tenant)
        else:
            self._metrics.sandbox_leased("kept")
        self._leased[container] = owner.tenant
        sandbox = ContainerSandbox(
            self._engine,
            container,
            limits,
            parts.fleet.tasks,
            gvisor=is_gvisor(runtime),
            start_s=time.monotonic() - began,
            is_first=is_first,
            keep=isolation is Isolation.RUN,
        )
        try:
            yield sandbox
        finally:
            self._leased.pop(container, None)
            if sandbox.is_reusable and not self._is_closed:
                parts.kept.put(place, container)
            elif sandbox.has_reported:
                parts.fleet.retire(container)
            else:
                parts.fleet.destroy(container)

    async def end_run(self, run_id: str) -> None:
        """Destroy what is kept for a run."""
        if self._parts is not None:
            self._parts.kept.end_run(run_id)

    async def ping(self) -> None:
        """Do nothing, if the engine answers and has the image.

        Raises:
            EngineUnavailable: It does not.
        """
        if self._parts is None or self._is_closed:
            raise EngineUnavailable("The pool of sandboxes is not open.")
        await self._engine.check(self._parts.facts.image_id)

    def facts(self) -> Mapping[str, object]:
        """Tell what there is, for health checks; ``trouble`` says why no sandbox can be started at present."""
        parts = self._parts
        if parts is None:
            return {"engine": None, "waiting": 0, "leased": len(self._leased)}
        return {
            "engine": parts.facts.version,
            "runtime": parts.facts.runtime,
            "image": parts.facts.image_id,
            "waiting": parts.stock.waiting,
            "wanted": parts.stock.wanted,
            "starting": parts.stock.starting,
            "leased": len(self._leased),
            "kept": parts.kept.count,
            "trouble": str(parts.stock.trouble) if parts.stock.trouble else None,
        }

    def _held(self, tenant: str | None) -> int:
        return len(self._leased) if tenant is None else sum(each == tenant for each in self._leased.values())

    def _kind(self, facts: EngineFacts, runtime: str, limits: Limits) -> Kind:
        return kind_for(facts.image_id, runtime, limits, container_limits(self._warm, facts.cpus))

    async def _acquire(self, parts: _Parts, place: Place, tenant: str) -> Container:
        try:
            async with asyncio.timeout(LEASE_S):
                return await persistently(
                    lambda: self._fit(parts, place, tenant),
                    lambda error: isinstance(error, Unavailable) and not self._is_closed,
                    within_s=LEASE_S,
                )
        except TimeoutError:
            reason = parts.stock.trouble or "All of them are in use."
            raise EngineUnavailable(f"No sandbox could be had within {LEASE_S:g} s. {reason}") from None
        except SandboxLost as lost:
            raise EngineUnavailable(f"No sandbox could be had. {lost}") from lost

    async def _fit(self, parts: _Parts, place: Place, tenant: str) -> Container:
        if self._is_closed:
            raise EngineUnavailable("The pool of sandboxes is not open.")
        kind = self._kind(parts.facts, place.runtime, place.limits)
        container = await parts.stock.take(kind, tenant)
        try:
            await parts.fleet.change(container, kind, place.limits)
        except BaseException:
            parts.fleet.destroy(container)
            raise
        return container

    async def _keep_house(self, parts: _Parts) -> None:
        next_reap = time.monotonic() + _REAP_S
        while True:
            await asyncio.sleep(_CHECK_S)
            ended: Collection[str] = ()
            if time.monotonic() >= next_reap:
                next_reap = time.monotonic() + _REAP_S
                try:
                    ended = await parts.reaper.reap()
                except Unavailable as trouble:
                    _log.warning(
                        "The reaper could not do its round. %s", trouble.message, extra={"action": "reap_failed"}
                    )
            parts.stock.tidy(ended)
            parts.kept.tidy()


def _allowed(runtime: str | None, facts: EngineFacts) -> str:
    if runtime is None or runtime == facts.runtime:
        return facts.runtime
    if runtime not in facts.runtimes:
        raise EngineUnavailable(
            f"This deployment offers no runtime {runtime!r}: SANDGRAPH_RUNTIMES lists those that a graph may choose."
        )
    return runtime
