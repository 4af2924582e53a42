"""Whether the platform lives, and whether it can take runs and do them; no answer takes longer than its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from sandgraph.errors import SandgraphError, Unavailable
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.health_report import Checked, HealthReport
from sandgraph.execution.heart import Heart
from sandgraph.sandbox.spec import Sandboxes
from sandgraph.settings import Settings
from sandgraph.store import examine
from sandgraph.store.store import Store
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.watchdog import Watchdog

#: Seconds that all checks together may take.
DEADLINE_S = 2.0

#: Seconds for which an answer is good: however many ask, the parts are asked this often.
CACHED_S = 1.0

#: The check that fails once the platform is being stopped.
STOPPING = "accepting"

#: Seconds without a turn of the heart, which writes to the database, after which something in there is stuck.
_LEAST_SILENCE_S = 30.0

_MIB = 2**20


class Probe:
    """One check, that is made once for all who ask at the same time.

    Args:
        name: Of the check.
        look: Returns what there is, or raises what is wrong.
        good_for_s: Seconds for which an answer is good.
    """

    def __init__(self, name: str, look: Callable[[], Awaitable[str]], good_for_s: float = CACHED_S) -> None:
        self._name = name
        self._good_for_s = good_for_s
        self._look = look
        self._task: asyncio.Task[Checked] | None = None
        self._began = 0.0
        self._last: tuple[float, Checked] | None = None

    async def checked(self, deadline_s: float) -> Checked:
        """Return what the check finds, or that it does not come to an end."""
        if self._last is not None and time.monotonic() - self._last[0] < self._good_for_s:
            return self._last[1]
        if self._task is None:
            self._began = time.monotonic()
            self._task = asyncio.create_task(self._check(), name=f"check {self._name}")
        # One that hangs goes on to hang, and no other is begun beside it.
        done, _ = await asyncio.wait({self._task}, timeout=deadline_s)
        if done:
            return done.pop().result()
        return Checked(self._name, is_ok=False, detail=f"No answer for {time.monotonic() - self._began:.1f} s.")

    async def stop(self) -> None:
        """Wait for nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _check(self) -> Checked:
        try:
            found = Checked(self._name, is_ok=True, detail=await self._look())
        except SandgraphError as wrong:
            found = Checked(self._name, is_ok=False, detail=wrong.message)
        except OSError as wrong:
            found = Checked(self._name, is_ok=False, detail=wrong.strerror or str(wrong))
        self._last, self._task = (time.monotonic(), found), None
        return found


class Health:
    """Looks after a platform that runs.

    Args:
        settings: Of the deployment.
        store: It must be writable.
        sandboxes: They must be there to be had.
        runs: Must take more.
        heart: Must beat.
        watchdog: Watches the event loop.
        metrics: Take what was found.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        sandboxes: Sandboxes,
        runs: Dispatcher,
        heart: Heart,
        watchdog: Watchdog,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._sandboxes = sandboxes
        self._runs = runs
        self._heart = heart
        self._watchdog = watchdog
        looks = {
            "database": self._database,
            "engine": self._engine,
            "sandboxes": self._startable,
            STOPPING: self._accepting,
            "queue": self._queue,
            "disk": self._disk,
        }
        # Whoever sends requests here is to know at once that it stops.
        self._probes = [Probe(name, look, 0.0 if name == STOPPING else CACHED_S) for name, look in looks.items()]
        self._found: Sequence[Checked] = ()
        metrics.watch(lambda: {"check_ok": {each.name: float(each.is_ok) for each in self._found}})

    def alive(self) -> HealthReport:
        """Tell whether the process works, or had better be started again."""
        limit = max(_LEAST_SILENCE_S, 2 * self._settings.lease_s)
        silence = self._heart.silence_s
        loop = "It turns." if not self._watchdog.is_stalled else f"It did nothing for {self._watchdog.silence_s:.1f} s."
        if self._heart.lost.is_set():
            heart = "Another process took this one's place."
        elif silence > limit:
            heart = f"Nothing was written to the database, nor refused by it, for {silence:.0f} s."
        else:
            heart = "It beats."
        return HealthReport(
            [
                Checked("loop", is_ok=not self._watchdog.is_stalled, detail=loop),
                Checked("heart", is_ok=heart == "It beats.", detail=heart),
            ],
            {},
        )

    async def ready(self) -> HealthReport:
        """Tell whether it can take runs and do them; takes `DEADLINE_S` at the most."""
        self._found = await asyncio.gather(*(probe.checked(DEADLINE_S) for probe in self._probes))
        return HealthReport(self._found, {**self._runs.facts(), "sandboxes": self._sandboxes.facts()})

    async def stop(self) -> None:
        """Wait for no check any more."""
        for probe in self._probes:
            await probe.stop()

    async def _database(self) -> str:
        await self._store.heartbeat()
        return "It can be written."

    async def _engine(self) -> str:
        await self._sandboxes.ping()
        return "It answers, and has the image."

    async def _startable(self) -> str:
        trouble = self._sandboxes.facts().get("trouble")
        if trouble:
            raise Unavailable(f"None can be started: {trouble}")
        return "They start."

    async def _accepting(self) -> str:
        if not self._runs.is_accepting:
            raise Unavailable("The platform is being stopped, and takes no more runs.")
        return "Runs are taken."

    async def _queue(self) -> str:
        waiting, most = self._runs.facts()["queued_runs"], self._settings.max_queued_runs
        if most and waiting >= most:
            raise Unavailable(f"{waiting} runs wait, and no more may.")
        return f"{waiting} runs wait; {most} may."

    async def _disk(self) -> str:
        free = await asyncio.to_thread(examine.free_bytes, self._settings.data_dir)
        least = self._settings.min_free_mb
        if free < least * _MIB:
            raise Unavailable(f"{free // _MIB} MiB are left where the data is; there shall be {least}.")
        return f"{free // _MIB} MiB are left where the data is."
