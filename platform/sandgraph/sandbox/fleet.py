"""Starts and destroys this process's containers, and knows the name of each that may exist."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Collection
from contextlib import suppress

from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.model.limits import Limits
from sandgraph.sandbox.container import Container, start_container
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.kinds import Kind
from sandgraph.sandbox.profile import Image, container_config, load_seccomp, resource_limits
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL, PROCESS_LABEL, Reaper
from sandgraph.sandbox.tasks import Tasks
from sandgraph.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

#: Removals at the same time: they must not keep the engine from starting and killing.
_REMOVALS = 4

#: Seconds that a supervisor which has reported gets to end by itself: the engine removes what has ended for less.
_OWN_END_S = 0.5


class Fleet:
    """This process's containers on one engine.

    Args:
        engine: A connected one.
        deployment: Goes into names and labels.
        metrics: Take how long starts take.
    """

    def __init__(self, engine: Engine, deployment: str, metrics: Metrics | None = None) -> None:
        self._engine = engine
        self._metrics = metrics
        self._seccomp = load_seccomp()
        self._deployment = deployment
        self._process = uuid.uuid4().hex
        self._tasks = Tasks()
        self._removals = asyncio.Semaphore(_REMOVALS)
        self._names: set[str] = set()
        self._going: set[str] = set()
        self._starting = 0
        self._nothing_starts = asyncio.Event()
        self._nothing_starts.set()
        self._is_closed = False

    @property
    def names(self) -> Collection[str]:
        """Names of the containers that run, are being started or are being removed."""
        return self._names

    @property
    def tasks(self) -> Tasks:
        """Owns what ends containers in the background."""
        return self._tasks

    async def start(self, kind: Kind) -> Container:
        """Start a container and wait until it is ready; it stays until `destroy`.

        Raises:
            EngineUnavailable: The engine fails, or this fleet is closed.
            SandboxLost: It ended before it was ready.
        """
        if self._is_closed:
            raise EngineUnavailable("The sandboxes are being shut down.")
        name = f"sandgraph-{self._deployment}-{uuid.uuid4().hex[:20]}"
        image = Image(kind.image_id, kind.runtime, self._seccomp)
        config = container_config(image, kind.limits, self._labels())
        self._names.add(name)
        self._starting += 1
        self._nothing_starts.clear()
        began = time.monotonic()
        try:
            container = await start_container(self._engine, name, config)
            if self._metrics is not None:
                self._metrics.sandbox_started(kind.runtime, time.monotonic() - began)
            return container  # noqa: TRY300 - what is raised here is not expected
        except BaseException:
            self._remove_soon(name)
            raise
        finally:
            self._starting -= 1
            if not self._starting:
                self._nothing_starts.set()

    async def change(self, container: Container, kind: Kind, limits: Limits) -> None:
        """Give a running container other limits (but for ``/tmp``), if they differ.

        Raises:
            EngineUnavailable: The engine fails.
            SandboxLost: It is gone.
        """
        resources = resource_limits(limits, kind.runtime)
        if resources != resource_limits(kind.limits, kind.runtime):
            await self._engine.update(container.container_id, resources)

    def retire(self, container: Container) -> None:
        """Remove a container in the background, whose supervisor has reported for the last time and ends by itself."""
        self._tasks.spawn(self._retire(container), f"retire {container.name}")

    def destroy(self, container: Container) -> None:
        """Kill and remove a container in the background; once is enough, twice is fine."""
        container.channel.close()
        self._remove_soon(container.name)

    async def close(self, timeout_s: float) -> None:
        """Destroy all that this process started, whoever uses it; takes ``timeout_s``, or twice that at the worst."""
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._nothing_starts.wait()
        for name in list(self._names):
            self._remove_soon(name)
        await self._tasks.join(timeout_s)
        # Whatever was lost track of; usually nothing.
        try:
            await Reaper(self._engine, PROCESS_LABEL, self._process, lambda: ()).reap()
        except Unavailable as trouble:
            _log.warning(
                "Sandboxes may be left; they exit by themselves, and the next start removes them. %s",
                trouble.message,
                extra={"action": "sandboxes_left"},
            )

    def _labels(self) -> dict[str, str]:
        # Not whom it works for: the engine cannot change labels, and a container waits before it has an owner.
        return {
            DEPLOYMENT_LABEL: self._deployment,
            PROCESS_LABEL: self._process,
            "sandgraph.role": "sandbox",
        }

    async def _retire(self, container: Container) -> None:
        await container.channel.drain(_OWN_END_S)
        self.destroy(container)

    def _remove_soon(self, name: str) -> None:
        if name in self._names and name not in self._going:
            self._going.add(name)
            self._tasks.spawn(self._remove(name), f"remove {name}")

    async def _remove(self, name: str) -> None:
        try:
            async with self._removals:
                await self._engine.remove(name)
        except Unavailable as trouble:
            _log.warning(
                "The sandbox %s could not be removed yet; the reaper will try again. %s",
                name,
                trouble.message,
                extra={"action": "sandbox_not_removed", "sandbox": name},
            )
        finally:
            # Forgotten either way: what is still there now has no owner, which makes it the reaper's.
            self._names.discard(name)
            self._going.discard(name)
