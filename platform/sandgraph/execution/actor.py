"""One run in progress: tells the scheduler what happens, commits what it answers, and does what it asks."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import tenacity

from sandgraph.errors import SandgraphError, Unavailable
from sandgraph.execution.bus import Bus
from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.transport import Assignment, Transport
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordAttempt, ScheduleRetry, StartAttempt, StopAttempt
from sandgraph.model.event_document import to_document
from sandgraph.model.replay import Past
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, Usage
from sandgraph.model.state import State
from sandgraph.sandbox.spec import Broken, Outcome, Succeeded
from sandgraph.settings import Settings
from sandgraph.store.records import RunEvent
from sandgraph.store.store import Store

logger = logging.getLogger(__name__)

#: Lines stored in one transaction: a few milliseconds.
_LINES_AT_ONCE = 200

#: Seconds for which a step that the database would not take is tried again before the run is given up.
_COMMIT_PATIENCE_S = 60


class RunActor:
    """Drives one run to its end, from its start or from where the platform stopped; owns its attempts and timers.

    Args:
        plan: What the run pinned.
        state: What it starts with.
        past: The run as far as it was told.
        store: Where each step is committed before anything follows from it.
        transport: Carries attempts to a worker.
        bus: Wakes up the journal's readers.
        settings: Of the deployment.
    """

    def __init__(
        self,
        plan: RunPlan,
        state: State,
        past: Past,
        store: Store,
        transport: Transport,
        bus: Bus,
        settings: Settings,
    ) -> None:
        self._plan = plan
        self._store = store
        self._transport = transport
        self._bus = bus
        self._settings = settings
        self._run = past.run
        self._told = past.number
        self._past = past
        # Bounded by what is in progress: an event an attempt, a timer each, and a cancel.
        self._inbox: asyncio.Queue[tuple[events.Event, Usage | None]] = asyncio.Queue()
        self._attempts: dict[tuple[NodeRunKey, int], asyncio.Task[None]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        lost = past.lost()
        # Their ends were stored when the run was interrupted.
        self._ended = {(event.key, event.attempt) for event in lost}
        for event in lost if past.number else [events.RunStarted(state)]:
            self.tell(event)

    def tell(self, event: events.Event, usage: Usage | None = None) -> None:
        """Hand the run an event; it is taken in its turn."""
        self._inbox.put_nowait((event, usage))

    async def drive(self) -> None:
        """Run to the end. Cancelling this stops every attempt first; the run is then as the store has it.

        Raises:
            Unavailable: The database took no step for a minute.
        """
        ceiling = self._settings.run_timeout_s
        timeout_s = min(self._plan.graph.timeout_s or ceiling, ceiling)
        self._later(timeout_s - _seconds_since(self._past.began), events.RunTimedOut(timeout_s))
        for key, (retry, since) in self._past.waits.items():
            if key in self._run.active and self._run.active[key].is_waiting:
                self._retry(retry, _seconds_since(since))
        try:
            while not self._run.status.is_final:
                event, usage = await self._inbox.get()
                self._run, commands = scheduler.step(self._run, event)
                if commands:
                    await self._commit(event, self._news(commands), usage)
                    self._perform(commands)
                else:
                    await self._record_late(event, usage)
        finally:
            for timer in self._timers:
                timer.cancel()
            await self._stop_attempts()
            await self._end()

    def _news(self, commands: Sequence[Command]) -> list[Command]:
        """Return the commands but the ends of attempts that are stored already."""
        return [
            command
            for command in commands
            if not (isinstance(command, RecordAttempt) and (command.key, command.attempt) in self._ended)
        ]

    async def _commit(self, event: events.Event, commands: Sequence[Command], usage: Usage | None) -> None:
        told = RunEvent(self._told + 1, to_document(event))
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            wait=tenacity.wait_random_exponential(0.05, max=2),
            stop=tenacity.stop_after_delay(_COMMIT_PATIENCE_S),
            reraise=True,
        ):
            with attempt:
                await self._store.apply(self._plan.run_id, commands, usage=usage, told=told)
        self._told = told.number
        self._bus.publish(self._plan.run_id)

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case StartAttempt():
                    task = asyncio.create_task(self._attempt(command), name=f"{self._plan.run_id} {command.key}")
                    self._attempts[command.key, command.attempt] = task
                case StopAttempt(key, attempt):
                    if task_to_stop := self._attempts.get((key, attempt)):
                        task_to_stop.cancel()
                case ScheduleRetry():
                    self._retry(command)
                case _:
                    pass

    def _retry(self, command: ScheduleRetry, waited_s: float = 0.0) -> None:
        # Jitter spreads load; it guards nothing.
        wait_s = random.uniform(0, command.delay_s) if command.jitter else command.delay_s  # noqa: S311
        self._later(wait_s - waited_s, events.RetryDue(command.key, command.attempt))

    def _later(self, delay_s: float, event: events.Event) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            self.tell(event)

        timer = asyncio.get_running_loop().call_later(max(0.0, delay_s), ring)
        self._timers.add(timer)

    async def _attempt(self, command: StartAttempt) -> None:
        key, number = command.key, command.attempt
        try:
            assignment = self._plan.assignment(command, self._settings)
            outcome: Outcome = await self._transport.perform(assignment, self._on_lines, self._on_stopped)
        except Exception:
            # An attempt that ends without an event would leave its run waiting for good.
            logger.exception("attempt failed on its way", extra={"action": "attempt_crashed"})
            failure = Failure(AttemptStatus.LOST, "The platform failed to run this attempt; its log has the details.")
            outcome = Broken(AttemptStatus.LOST, failure, Usage())
        finally:
            self._attempts.pop((key, number), None)
        if isinstance(outcome, Succeeded):
            event: events.Event = events.AttemptSucceeded(
                key, number, outcome.diff, outcome.entered, outcome.again, outcome.after
            )
        else:
            event = events.AttemptFailed(key, number, AttemptStatus(outcome.status), outcome.failure)
        self.tell(event, outcome.usage)

    async def _on_lines(self, assignment: Assignment, lines: Sequence[LogLine]) -> None:
        # In parts, so that the steps of other runs find their turn in between.
        for start in range(0, len(lines), _LINES_AT_ONCE):
            part = lines[start : start + _LINES_AT_ONCE]
            began = time.monotonic()
            await self._store.append_logs(assignment.run_id, assignment.key, assignment.attempt, part)
            self._bus.publish(assignment.run_id)
            if len(part) == _LINES_AT_ONCE:
                # A flood: most of the time is everybody else's. Its sandbox waits in its own write meanwhile.
                await asyncio.sleep(2 * (time.monotonic() - began))

    async def _on_stopped(self, assignment: Assignment, usage: Usage) -> None:
        await self._record_usage(assignment.key, assignment.attempt, usage)

    async def _record_usage(self, key: NodeRunKey, attempt: int, usage: Usage) -> None:
        try:
            await self._store.record_usage(self._plan.run_id, key, attempt, usage)
        except SandgraphError:
            # It is told for people; nothing depends on it.
            logger.exception("usage not stored", extra={"action": "usage_lost", "run": self._plan.run_id})

    async def _stop_attempts(self) -> None:
        tasks = list(self._attempts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._inbox.empty():
            await self._record_late(*self._inbox.get_nowait())

    async def _record_late(self, event: events.Event, usage: Usage | None) -> None:
        """Store what was used by an attempt that came too late to count."""
        if usage is not None and isinstance(event, events.AttemptSucceeded | events.AttemptFailed):
            await self._record_usage(event.key, event.attempt, usage)

    async def _end(self) -> None:
        try:
            await self._transport.end_run(self._plan.run_id)
        except Exception:
            # The run is over: what it came to does not change.
            logger.exception("run not let go", extra={"action": "end_run_failed", "run": self._plan.run_id})


def _seconds_since(then: datetime | None) -> float:
    """Return how long ago something was stored; a clock that was set back makes it no shorter than no time."""
    return max(0.0, (datetime.now(UTC) - then).total_seconds()) if then else 0.0
