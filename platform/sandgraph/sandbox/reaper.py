"""Removes sandboxes that nobody owns: what an earlier process left, and what this one lost track of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from sandgraph.sandbox.engine import Engine
from sandgraph.settings import Settings

_log = logging.getLogger(__name__)

DEPLOYMENT_LABEL = "sandgraph.deployment"
PROCESS_LABEL = "sandgraph.process"


class Reaper:
    """Compares what the engine has with what this process owns.

    Two processes of one deployment on one engine would reap each other's sandboxes: give them different names.

    Args:
        engine: A connected one.
        label: Only containers with this label are looked at,
        value: and with this value of it.
        owned: Names of the containers that this process has, is starting or is removing.
    """

    def __init__(self, engine: Engine, label: str, value: str, owned: Callable[[], Collection[str]]) -> None:
        self._engine = engine
        self._label = label
        self._value = value
        self._owned = owned

    async def reap(self) -> Collection[str]:
        """Remove the containers that are not owned; return the names of those that are, and do not run.

        Raises:
            EngineUnavailable: The engine does not answer; what was not removed yet stays for the next time.
        """
        # Asked before and after: what ends while the engine makes its list is on it, and so is what begins.
        owned = set(self._owned())
        found = await self._engine.labelled(self._label, self._value)
        owned.update(self._owned())
        orphans = [each for each in found if each.name not in owned]
        for orphan in orphans:
            await self._engine.remove(orphan.container_id)
            _log.warning(
                "Removed the sandbox %s, which nobody owned.",
                orphan.name,
                extra={"action": "sandbox_reaped", "sandbox": orphan.name},
            )
        return {each.name for each in found if each.name in owned and not each.is_running}


async def count_containers(settings: Settings) -> int:
    """Return how many containers, running or not, the engine has of a deployment.

    Raises:
        EngineUnavailable: The engine does not answer.
    """
    engine = Engine(settings)
    try:
        await engine.connect()
        return len(await engine.labelled(DEPLOYMENT_LABEL, settings.deployment))
    finally:
        await engine.close()
