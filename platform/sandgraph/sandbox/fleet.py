"""Starts and destroys this process's containers, and knows the name of each that may exist."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.model.limits import Limits
from sandgraph.sandbox.container import Container, start_container
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.observed import EngineFacts
from sandgraph.sandbox.profile import Image, container_config, load_seccomp, resource_limits
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL, PROCESS_LABEL, Reaper
from sandgraph.sandbox.spec import Owner
from sandgraph.sandbox.tasks import Tasks

_log = logging.getLogger(__name__)

#: Removals at the same time: they must not keep the engine from starting and killing.
_REMOVALS = 4

#: How the names of runtimes begin under which PID 1 can be killed from inside, and limits cannot change once it runs.
GVISOR = ("runsc", "gvisor")


class Fleet:
    """This process's containers on one engine.

    Args:
        engine: A connected one.
        facts: What it said when it was connected to.
        deployment: Goes into names and labels.
    """

    def __init__(self, engine: Engine, facts: EngineFacts, deployment: str) -> None:
        self._engine = engine
        self._image = Image(facts.image_id, facts.runtime, load_seccomp())
        self._cpus = facts.cpus
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

    async def start(self, limits: Limits, owner: Owner | None = None) -> Container:
        """Start a container and wait until it is ready; it stays until `destroy`.

        Args:
            limits: What it may use.
            owner: Whom it is started for. A container that waits in the pool has none: its labels cannot be changed
                any more when it is leased.

        Raises:
            EngineUnavailable: The engine fails, or this fleet is closed.
            SandboxLost: It ended before it was ready.
        """
        if self._is_closed:
            raise EngineUnavailable("The sandboxes are being shut down.")
        name = f"sandgraph-{self._deployment}-{uuid.uuid4().hex[:20]}"
        config = container_config(self._image, self._fitting(limits), self._labels(owner))
        self._names.add(name)
        self._starting += 1
        self._nothing_starts.clear()
        try:
            return await start_container(self._engine, name, config)
        except BaseException:
            self._remove_soon(name)
            raise
        finally:
            self._starting -= 1
            if not self._starting:
                self._nothing_starts.set()

    def can_change(self, before: Limits, after: Limits) -> bool:
        """Tell whether a running container can be given other limits: not another ``/tmp``, and under gVisor none."""
        same = resource_limits(self._fitting(after)) == resource_limits(self._fitting(before))
        return before.tmp_mb == after.tmp_mb and (same or not self._image.runtime.startswith(GVISOR))

    async def change(self, container: Container, before: Limits, after: Limits) -> None:
        """Give a running container other limits (but for ``/tmp``), if they differ.

        Raises:
            EngineUnavailable: The engine fails.
            SandboxLost: It is gone.
        """
        resources = resource_limits(self._fitting(after))
        if resources != resource_limits(self._fitting(before)):
            await self._engine.update(container.container_id, resources)

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
                "Sandboxes may be left; they exit by themselves, and the next start removes them. %s", trouble.message
            )

    def _fitting(self, limits: Limits) -> Limits:
        """Lower what the engine would refuse: more CPUs than its machine has."""
        return replace(limits, cpus=min(limits.cpus, self._cpus))

    def _labels(self, owner: Owner | None) -> dict[str, str]:
        labels = {
            DEPLOYMENT_LABEL: self._deployment,
            PROCESS_LABEL: self._process,
            "sandgraph.role": "sandbox",
        }
        if owner is not None:
            labels |= {
                "sandgraph.run": owner.run_id,
                "sandgraph.node": owner.node,
                "sandgraph.iteration": str(owner.iteration),
                "sandgraph.attempt": str(owner.attempt),
            }
        return labels

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
                "The sandbox %s could not be removed yet; the reaper will try again. %s", name, trouble.message
            )
        finally:
            # Forgotten either way: what is still there now has no owner, which makes it the reaper's.
            self._names.discard(name)
            self._going.discard(name)
