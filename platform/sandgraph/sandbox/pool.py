"""The pool: sandboxes started ahead of their use, each used once and destroyed off the critical path."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from sandgraph.errors import EngineUnavailable, SandboxLost, Unavailable
from sandgraph.model.limits import Isolation, Limits
from sandgraph.sandbox.attempt import ContainerSandbox
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.fleet import GVISOR, Fleet
from sandgraph.sandbox.observed import EngineFacts
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL, Reaper
from sandgraph.sandbox.spec import Owner, Sandbox
from sandgraph.sandbox.stock import Stock
from sandgraph.sandbox.tasks import Tasks
from sandgraph.settings import Settings

_log = logging.getLogger(__name__)

#: Seconds a lease tries to get a sandbox before it gives up.
LEASE_S = 60.0
#: Seconds that `SandboxPool.close` gives the engine, twice.
CLOSE_S = 15.0
_CHECK_S = 2.0
_REAP_S = 30.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a started pool consists of."""

    facts: EngineFacts
    fleet: Fleet
    stock: Stock
    reaper: Reaper


class SandboxPool:
    """Sandboxes on a Docker engine; implements `sandgraph.sandbox.spec.Sandboxes`.

    Args:
        settings: Those of the engine, the runner image and the pool are read.
        warm: The limits of the sandboxes that wait. Others are given at the lease, except for ``tmp_mb``: a lease with
            another size of ``/tmp``, and under gVisor any other, starts its own sandbox (a few hundred milliseconds).
        engine: Another engine than the settings name; closed with the pool.
    """

    def __init__(self, settings: Settings, *, warm: Limits | None = None, engine: Engine | None = None) -> None:
        self._settings = settings
        self._warm = warm or Limits()
        self._engine = engine or Engine(settings)
        self._cold_starts = asyncio.Semaphore(settings.pool_refill_parallelism)
        self._tasks = Tasks()
        self._parts: _Parts | None = None
        self._is_closed = False
        self._leased: set[Container] = set()

    async def start(self) -> None:
        """Reap what an earlier process left and begin to fill.

        Raises:
            EngineUnavailable: The engine does not answer, has no such image or runtime, or cannot enforce the limits.
            ConfigurationError: The engine is reached in a way that sandboxes cannot use.
        """
        facts = await self._engine.connect()
        fleet = Fleet(self._engine, facts, self._settings.deployment)
        reaper = Reaper(self._engine, DEPLOYMENT_LABEL, self._settings.deployment, lambda: fleet.names)
        await reaper.reap()
        stock = Stock(
            fleet,
            self._warm,
            size=self._settings.pool_min,
            parallelism=self._settings.pool_refill_parallelism,
            tasks=self._tasks,
        )
        self._parts = _Parts(facts, fleet, stock, reaper)
        self._tasks.spawn(self._keep_house(stock, reaper), "sandbox housekeeping")

    async def close(self) -> None:
        """Remove every sandbox, leased ones too; takes half a minute at the worst."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._parts is not None:
            await self._tasks.cancel()
            self._parts.stock.close()
            for container in self._leased:
                container.channel.shut_down()
            await self._parts.fleet.close(CLOSE_S)
        await self._engine.close()

    @asynccontextmanager
    async def lease(
        self,
        limits: Limits,
        owner: Owner,
        *,
        runtime: str | None = None,  # noqa: ARG002
        isolation: Isolation = Isolation.NODE,  # noqa: ARG002
    ) -> AsyncIterator[Sandbox]:
        """Hand out a started sandbox with these limits; at the end of the block it is destroyed.

        Raises:
            EngineUnavailable: None could be started within `LEASE_S`, or the pool is not open.
        """
        parts = self._parts
        if parts is None or self._is_closed:
            raise EngineUnavailable("The pool of sandboxes is not open.")
        began = time.monotonic()
        container = await self._acquire(parts, limits, owner)
        self._leased.add(container)
        try:
            yield ContainerSandbox(
                self._engine,
                container,
                limits,
                parts.fleet.tasks,
                can_kill_supervisor=parts.facts.runtime.startswith(GVISOR),
                start_s=time.monotonic() - began,
            )
        finally:
            self._leased.discard(container)
            parts.fleet.destroy(container)

    async def end_run(self, run_id: str) -> None:
        """Destroy what is kept for a run."""

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
            "wanted": self._settings.pool_min,
            "leased": len(self._leased),
            "trouble": str(parts.stock.trouble) if parts.stock.trouble else None,
        }

    async def _acquire(self, parts: _Parts, limits: Limits, owner: Owner) -> Container:
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Unavailable) and not self._is_closed),
            stop=stop_after_delay(LEASE_S),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        )
        try:
            async with asyncio.timeout(LEASE_S):
                return await retrying(self._fit, parts, limits, owner)
        except TimeoutError:
            reason = parts.stock.trouble or "All of them are in use."
            raise EngineUnavailable(f"No sandbox could be had within {LEASE_S:g} s. {reason}") from None
        except SandboxLost as lost:
            raise EngineUnavailable(f"No sandbox could be had. {lost}") from lost

    async def _fit(self, parts: _Parts, limits: Limits, owner: Owner) -> Container:
        if self._is_closed:
            raise EngineUnavailable("The pool of sandboxes is not open.")
        if not parts.fleet.can_change(self._warm, limits):
            async with self._cold_starts:
                return await parts.fleet.start(limits, owner)
        container = await parts.stock.take()
        try:
            await parts.fleet.change(container, self._warm, limits)
        except BaseException:
            parts.fleet.destroy(container)
            raise
        return container

    async def _keep_house(self, stock: Stock, reaper: Reaper) -> None:
        next_reap = time.monotonic() + _REAP_S
        while True:
            await asyncio.sleep(_CHECK_S)
            stock.discard_dead()
            if time.monotonic() >= next_reap:
                next_reap = time.monotonic() + _REAP_S
                try:
                    await reaper.reap()
                except Unavailable as trouble:
                    _log.warning("The reaper could not do its round. %s", trouble.message)
