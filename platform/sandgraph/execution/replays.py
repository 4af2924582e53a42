"""Runs attempts of the past again, over what they saw, and tells what is not the same."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandgraph.errors import Conflict, NotFound
from sandgraph.execution import plans
from sandgraph.execution.checkpoints import not_recoverable, read_told
from sandgraph.execution.fairness import FairSlots
from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.transport import Assignment, Transport
from sandgraph.model import events
from sandgraph.model.commands import RecordAttempt, RecordCommit, RecordNodeRun, StartAttempt
from sandgraph.model.reducers import Reducer
from sandgraph.model.replay import Past, Told
from sandgraph.model.replay import replay as tell
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, Usage
from sandgraph.model.state import Json, State, StateDiff
from sandgraph.sandbox import spec
from sandgraph.settings import Settings
from sandgraph.store.records import RunRecord
from sandgraph.store.store import Store

#: Replays that run at the same time; further ones wait.
_AT_ONCE = 4

#: In what stands for the run in an attempt that is run again.
REPLAY = ":replay:"

_STOPPED = Failure(AttemptStatus.LOST.value, "The platform stopped while the attempt ran.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to.

    Attributes:
        status: How it ended.
        diff: What it changed.
        entered: False where a loop's first check said no.
        again: Whether the loop's condition held still.
        after: The answers of the outgoing edges' conditions.
        value: The result, where it ran for an item of a map.
        failure: Why it failed, where it did.
    """

    status: AttemptStatus
    diff: StateDiff = field(default_factory=StateDiff)
    entered: bool = True
    again: bool | None = None
    after: tuple[bool, ...] = ()
    value: Json = None
    failure: Failure | None = None

    def drift(self, other: Outcome) -> list[str]:
        """Return the names of what is not the same: of two that ended otherwise, ``status`` alone."""
        if self.status is not other.status:
            return ["status"]
        answers = (self.entered, self.again, self.after), (other.entered, other.again, other.after)
        types = [each.failure.type if each.failure else None for each in (self, other)]
        same = {
            "diff": _same(self.diff.to_json(), other.diff.to_json()),
            "value": _same(self.value, other.value),
            "conditions": answers[0] == answers[1],
            "failure": types[0] == types[1],
        }
        return [name for name, is_same in same.items() if not is_same]


@dataclass(frozen=True, slots=True)
class Replayed:
    """An attempt that was tried again.

    Attributes:
        run_id: The run.
        key: The node run.
        attempt: Which try.
        drift: Names of what is not the same: ``status``, or some of ``diff``, ``value``, ``conditions`` and
            ``failure``; and ``image``.
        recorded: What it came to.
        replayed: What it came to now.
        images: The sandbox image that the run pinned, and the present one.
    """

    run_id: str
    key: NodeRunKey
    attempt: int
    drift: tuple[str, ...]
    recorded: Outcome
    replayed: Outcome
    images: tuple[str, str]


class Replays:
    """Runs attempts again; nothing of it is stored.

    Args:
        store: Has what the runs were told.
        transport: Carries attempts to a worker.
        settings: Of the deployment.
        image: The sandboxes' image.
    """

    def __init__(self, store: Store, transport: Transport, settings: Settings, image: str) -> None:
        self._store = store
        self._transport = transport
        self._settings = settings
        self._image = image
        self._turns = FairSlots(_AT_ONCE)
        self._numbers = itertools.count(1)

    async def replay(self, run_id: str, key: NodeRunKey, attempt: int | None) -> Replayed:
        """Run an attempt again over what it saw, with the code that the run pinned, and compare.

        Args:
            run_id: The run, in flight or ended.
            key: The node run.
            attempt: Which of its tries; the last that ended without it.

        Raises:
            NotFound: There is no such run, node run or attempt.
            Conflict: The attempt runs still (``attempt_not_finished``), or the run cannot be made again
                (``not_recoverable``).
        """
        record = await self._store.run(run_id)
        plan = await plans.load_plan(self._store, record)
        async with self._turns.slot(plan.tenant):
            found, number = await self._found(record, plan, key, attempt)
            start, recorded = found.starts[number], found.ends[number]
            replayed = await self._performed(plan, start)
        images = (record.image, self._image)
        drift = (*recorded.drift(replayed), *(["image"] if record.image != self._image else []))
        return Replayed(run_id, key, number, drift, recorded, replayed, images)

    async def _found(
        self, record: RunRecord, plan: RunPlan, key: NodeRunKey, attempt: int | None
    ) -> tuple[_Search, int]:
        """Return the tries of a node run, and the number of the one that was asked for."""
        search = _Search(key)
        past = Past(plans.fresh(plan))
        try:
            async for told in read_told(self._store, record):
                # On a thread, so that the steps of other runs find their turn.
                past = await asyncio.to_thread(search.look, past, told)
                if attempt in search.ends:
                    break
        except ValueError as error:
            raise not_recoverable(record.run_id, error) from error
        if past.number == 0 and record.started_at is not None:
            raise not_recoverable(record.run_id, "what it was told was not stored")
        if record.is_final and not past.run.status.is_final:
            # The platform ended the run, and with it what it left.
            for number in search.starts.keys() - search.ends.keys():
                search.ends[number] = Outcome(AttemptStatus.LOST, failure=_STOPPED)
        if not search.is_known:
            raise NotFound("node_run", str(key))
        if not search.starts or (attempt is not None and attempt not in search.starts):
            raise NotFound("attempt", str(attempt or 1))
        if attempt not in search.ends and (attempt is not None or not search.ends):
            message = f"Attempt {attempt or max(search.starts)} of {key} runs still."
            raise Conflict(message, code="attempt_not_finished")
        return search, max(search.ends) if attempt is None else attempt

    async def _performed(self, plan: RunPlan, start: StartAttempt) -> Outcome:
        assignment = plan.assignment(start, self._settings)
        # The code is told the run's own id. Nothing that is kept for the run is used, nor anything for another replay.
        run_id = f"{plan.run_id}{REPLAY}{next(self._numbers)}"
        try:
            outcome = await self._transport.perform(replace(assignment, run_id=run_id), _drop_lines, _drop_usage)
        finally:
            await self._transport.end_run(run_id)
        reducers = dict(plan.blueprint(start.graph_id).graph.reducers)
        return _outcome_of(outcome, start.view.state, reducers)


@dataclass(slots=True)
class _Search:
    """The tries of a node run, as they are met.

    Attributes:
        key: The node run.
        is_known: Whether it was met.
        starts: How each try was started, by its number.
        ends: How each try ended that did.
    """

    key: NodeRunKey
    is_known: bool = False
    starts: dict[int, StartAttempt] = field(default_factory=dict)
    ends: dict[int, Outcome] = field(default_factory=dict)

    def look(self, past: Past, told: Sequence[Told]) -> Past:
        """Tell a run more of what it was told, and look at what follows.

        Raises:
            ValueError: It does not go the way that it went.
        """
        for each in told:
            past = tell(past, [each])
            for command in past.commands:
                match command:
                    case RecordNodeRun(key) if key == self.key:
                        self.is_known = True
                    case StartAttempt(key, attempt) if key == self.key:
                        self.starts[attempt] = command
                    case RecordAttempt(key, attempt, status, failure) if key == self.key:
                        self.ends[attempt] = _recorded(each.event, status, failure)
                    case RecordCommit(key=key, attempt=int(attempt)) if key == self.key:
                        self.ends[attempt] = replace(self.ends[attempt], diff=command.diff)
                    case _:
                        pass
        return past


def _recorded(event: events.Event, status: AttemptStatus, failure: Failure | None) -> Outcome:
    if status is AttemptStatus.SUCCEEDED and isinstance(event, events.AttemptSucceeded):
        return Outcome(status, StateDiff(), event.entered, event.again, event.after, event.value)
    return Outcome(status, failure=failure)


def _outcome_of(outcome: spec.Outcome, before: State, reducers: Mapping[str, Reducer]) -> Outcome:
    if isinstance(outcome, spec.Broken):
        return Outcome(outcome.status, failure=outcome.failure)
    # As it would be committed.
    diff = outcome.diff.reduced(before, reducers).without_idle_deletes(before)
    return Outcome(AttemptStatus.SUCCEEDED, diff, outcome.entered, outcome.again, outcome.after, outcome.value)


def _same(one: object, other: object) -> bool:
    """Tell whether two values are the same JSON: True, 1 and 1.0 differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


async def _drop_lines(_: Assignment, __: Sequence[LogLine]) -> None:
    """Forget what was printed."""


async def _drop_usage(_: Assignment, __: Usage) -> None:
    """Forget what was used by what was stopped."""
