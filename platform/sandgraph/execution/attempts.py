"""The attempts of one run that are on their way: each a task, from the scheduler's order to the event of its end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandgraph.errors import SandgraphError
from sandgraph.execution.bus import Bus
from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.transport import Assignment, Transport
from sandgraph.model import events, scheduler
from sandgraph.model.commands import StartAttempt
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, Usage
from sandgraph.model.state import Json
from sandgraph.sandbox.spec import Broken, Outcome, Succeeded
from sandgraph.settings import Settings
from sandgraph.store.records import Reads
from sandgraph.store.store import Store
from sandgraph.telemetry import context
from sandgraph.telemetry.trace import attempt_span

logger = logging.getLogger(__name__)

#: Lines stored in one transaction: a few milliseconds.
_LINES_AT_ONCE = 200


@dataclass(slots=True)
class Lease:
    """The right to work on a run; every earlier one is over."""

    token: int


class Tell(Protocol):
    """Takes the event of an attempt's end, with what the attempt used and read."""

    def __call__(self, event: events.Event, usage: Usage | None, reads: Reads | None) -> None:
        """Take it."""


class Attempts:
    """Runs attempts of one run.

    Args:
        plan: What the run pinned.
        lease: Of the run.
        store: Keeps what they print and use.
        transport: Carries them to a worker.
        bus: Wakes up the journal's readers.
        settings: Of the deployment.
        tell: Takes their ends.
    """

    def __init__(
        self,
        plan: RunPlan,
        lease: Lease,
        store: Store,
        transport: Transport,
        bus: Bus,
        settings: Settings,
        tell: Tell,
    ) -> None:
        self._plan = plan
        self._lease = lease
        self._store = store
        self._transport = transport
        self._bus = bus
        self._settings = settings
        self._tell = tell
        self._tasks: dict[tuple[NodeRunKey, int], asyncio.Task[None]] = {}
        self._mapped: dict[str, int] = {}

    def know_results(self, run: scheduler.Run) -> None:
        """Count the results that maps in progress have."""
        for key, mapped in run.maps.items():
            self._mapped[key.path] = sum(map(_size, mapped.results.values()))
        for inner in run.inside.values():
            self.know_results(inner.run)

    def start(self, command: StartAttempt) -> None:
        """Begin an attempt."""
        task = asyncio.create_task(self._attempt(command), name=f"{self._plan.run_id} {command.key}")
        self._tasks[command.key, command.attempt] = task
        # Also where it is stopped before it began.
        task.add_done_callback(lambda _: self._tasks.pop((command.key, command.attempt), None))

    def stop(self, key: NodeRunKey, attempt: int) -> None:
        """Kill an attempt's sandbox, if it is on its way."""
        if task := self._tasks.get((key, attempt)):
            task.cancel()

    async def stop_all(self, why: str | None = None) -> None:
        """Kill all sandboxes, and return once they are gone; ``why`` is the cancellations' message."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel(why)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def record_usage(self, key: NodeRunKey, attempt: int, usage: Usage) -> None:
        """Store what an attempt used whose end does not count."""
        try:
            await self._store.record_usage(self._plan.run_id, key, attempt, usage, lease=self._lease.token)
        except SandgraphError:
            # It is told for people; nothing depends on it.
            logger.exception("usage not stored", extra={"action": "usage_lost", "run": self._plan.run_id})

    async def _attempt(self, command: StartAttempt) -> None:
        key, number = command.key, command.attempt
        context.add(node=str(key), attempt=number)
        if (run := self._plan.trace) is not None:
            context.add(span_id=attempt_span(run, self._plan.run_id, key.path, number).span_id)
        try:
            assignment = self._plan.assignment(command, self._settings)
            outcome: Outcome = await self._transport.perform(assignment, self._on_lines, self._on_stopped)
        except Exception:
            # An attempt that ends without an event would leave its run waiting for good.
            logger.exception("attempt failed on its way", extra={"action": "attempt_crashed"})
            failure = Failure(AttemptStatus.LOST, "The platform failed to run this attempt; its log has the details.")
            outcome = Broken(AttemptStatus.LOST, failure, Usage())
        if isinstance(outcome, Succeeded) and command.item is not None:
            outcome = self._bounded(key, outcome)
        if isinstance(outcome, Broken):
            event = events.AttemptFailed(key, number, AttemptStatus(outcome.status), outcome.failure)
            self._tell(event, outcome.usage, None)
            return
        reads = Reads(outcome.reads, outcome.reads_cut) if outcome.reads else None
        self._tell(succeeded(key, number, outcome), outcome.usage, reads)

    def _bounded(self, key: NodeRunKey, outcome: Succeeded) -> Outcome:
        """Refuse a map's item whose result is too much, with those that the map has already."""
        limit = self._settings.max_state_kb * 1024
        size = self._mapped.get(key.scope, 0) + _size(outcome.value)
        if size > limit:
            message = f"With this one, the results of the map have {size} bytes as JSON; a state may have {limit}."
            status = AttemptStatus.RESULT_INVALID
            return Broken(status, Failure(status, message), outcome.usage)
        self._mapped[key.scope] = size
        return outcome

    async def _on_lines(self, assignment: Assignment, lines: Sequence[LogLine]) -> None:
        # In parts, so that the steps of other runs find their turn in between.
        for start in range(0, len(lines), _LINES_AT_ONCE):
            part = lines[start : start + _LINES_AT_ONCE]
            began = time.monotonic()
            run_id, lease = assignment.run_id, self._lease.token
            await self._store.append_logs(run_id, assignment.key, assignment.attempt, part, lease=lease)
            self._bus.publish(run_id)
            if len(part) == _LINES_AT_ONCE:
                # A flood: most of the time is everybody else's. Its sandbox waits in its own write meanwhile.
                await asyncio.sleep(2 * (time.monotonic() - began))

    async def _on_stopped(self, assignment: Assignment, usage: Usage) -> None:
        await self.record_usage(assignment.key, assignment.attempt, usage)


def succeeded(key: NodeRunKey, attempt: int, outcome: Succeeded) -> events.AttemptSucceeded:
    """Return the event of an attempt that came back with a result."""
    return events.AttemptSucceeded(
        key, attempt, outcome.diff, outcome.entered, outcome.again, outcome.after, outcome.value
    )


def _size(value: Json | Mapping[str, Json]) -> int:
    # With the comma between it and the next one.
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) + 1
