"""Keeps the books of a run: takes each step's commands, and fails where one contradicts what was recorded before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.unit.model.ancestors import state_by_ancestors

from sandgraph.model import scheduler
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordEdge,
    RecordEvent,
    RecordNodeRun,
    RecordPause,
    RecordRun,
    ScheduleRetry,
    ScheduleTimer,
    StartAttempt,
    StopAttempt,
)
from sandgraph.model.graph import NodeType
from sandgraph.model.history import state_so_far
from sandgraph.model.journal import entries
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, State

_DONE = {
    NodeRunStatus.SUCCEEDED,
    NodeRunStatus.FAILED,
    NodeRunStatus.TIMED_OUT,
    NodeRunStatus.SKIPPED,
    NodeRunStatus.CANCELLED,
}


class Ledger:
    """What was recorded of a run.

    Attributes:
        running: Attempts that run.
        waiting: Those that are to follow.
        held: Node runs whose next attempt is held until the run is unpaused.
        timers: Of waits, maps and subgraphs in progress that have one.
    """

    def __init__(self, initial: State) -> None:
        self.initial = initial
        self.status = RunStatus.PENDING
        self.is_paused = False
        self.node_runs: dict[NodeRunKey, NodeRunStatus] = {}
        self.messages: dict[NodeRunKey, str] = {}
        self.attempts: dict[tuple[NodeRunKey, int], AttemptStatus] = {}
        self.running: dict[NodeRunKey, StartAttempt] = {}
        self.waiting: dict[NodeRunKey, ScheduleRetry] = {}
        self.held: set[NodeRunKey] = set()
        self.timers: dict[NodeRunKey, float] = {}
        self.received: list[tuple[str, str]] = []
        self.taken: dict[str, NodeRunKey] = {}
        self.commits: dict[int, RecordCommit] = {}
        self.edges: list[RecordEdge] = []
        self.outcome: RecordRun | None = None

    def take(self, run: scheduler.Run, commands: Sequence[Command]) -> None:
        """Enter a step's commands and check them, and that the run agrees with the books."""
        for command in commands:
            assert self.outcome is None, f"after the run's end: {command}"
            self._enter(command)
        stopped = [(each.key, each.attempt) for each in commands if isinstance(each, StopAttempt)]
        timers = [each for each in commands if isinstance(each, ScheduleTimer)]
        ended = [each for each in commands if isinstance(each, RecordAttempt)]
        assert stopped == [(each.key, each.attempt) for each in ended if each.status is AttemptStatus.CANCELLED]
        assert len(list(entries(commands))) == len(commands) - len(stopped) - len(timers)
        self._agree(run)

    def state_at(self, number: int) -> dict[str, Json]:
        """Return a checkpoint's state, walking along its trunk."""
        walked: list[RecordCommit] = []
        while number:
            walked.append(self.commits[number])
            number = walked[-1].trunk
        state = dict(self.initial)
        for commit in reversed(walked):
            commit.merged.apply_to(state)
            commit.diff.apply_to(state)
        return state

    def state_by_ancestors(self, number: int) -> dict[str, Json]:
        """Return a checkpoint's state, of a run without reducers and subgraphs."""
        state = state_by_ancestors(self.initial, self.commits.values(), number)
        assert state is not None
        return state

    def state_so_far(self) -> dict[str, Json]:
        return state_so_far(self.initial, [each for each in self.commits.values() if not each.key.scope])[0]

    def with_status(self, status: NodeRunStatus) -> set[str]:
        return {str(key) for key, found in self.node_runs.items() if found is status}

    def _enter(self, command: Command) -> None:
        match command:
            case RecordRun():
                self._run(command)
            case RecordPause(is_paused, status):
                assert (is_paused, status) == (not self.is_paused, self.status)
                self.is_paused = is_paused
            case RecordNodeRun():
                self._node_run(command)
            case StartAttempt():
                self._start(command)
            case RecordAttempt(key, attempt, status):
                self._end_attempt(key, attempt, status)
            case ScheduleRetry() | ScheduleTimer() | StopAttempt():
                self._work(command)
            case RecordEvent():
                self._event(command)
            case RecordCommit():
                self._commit(command)
            case RecordEdge():
                self._inside(command.scope)
                self.edges.append(command)

    def _work(self, command: ScheduleRetry | ScheduleTimer | StopAttempt) -> None:
        key = command.key
        match command:
            case ScheduleRetry(_, attempt):
                assert self.node_runs[key] is NodeRunStatus.RETRYING
                assert self.attempts[key, attempt - 1]
                self.waiting[key] = command
            case ScheduleTimer(_, delay_s):
                assert self.node_runs[key] in {NodeRunStatus.RUNNING, NodeRunStatus.WAITING}
                assert key not in self.timers
                self.timers[key] = delay_s
            case StopAttempt(_, attempt):
                assert self.attempts[key, attempt] is AttemptStatus.CANCELLED

    def _run(self, command: RecordRun) -> None:
        assert command.status is not self.status
        if command.status.is_final:
            assert not self._open()
            self.outcome = command
        elif self.status is RunStatus.PENDING:
            assert command.status is RunStatus.RUNNING
            assert not self.node_runs
        else:
            assert {self.status, command.status} == {RunStatus.RUNNING, RunStatus.WAITING}
        self.status = command.status

    def _open(self) -> set[NodeRunKey]:
        return {key for key, status in self.node_runs.items() if status not in _DONE}

    def _inside(self, scope: str) -> None:
        """Check that what this is the scope of is in progress."""
        if scope:
            (around,) = (key for key in self.node_runs if key.path == scope)
            assert self.node_runs[around] is NodeRunStatus.RUNNING

    def _node_run(self, command: RecordNodeRun) -> None:
        key, status = command.key, command.status
        before = self.node_runs.get(key)
        assert before not in _DONE, f"{key} was {before} and became {status}"
        if before is None:
            assert status in {NodeRunStatus.RUNNING, NodeRunStatus.SKIPPED, NodeRunStatus.WAITING}
            earlier = sum((each.node, each.scope) == (key.node, key.scope) for each in self.node_runs)
            assert key.iteration == earlier + 1
            self._inside(key.scope)
        else:
            assert status in {NodeRunStatus.RETRYING, *_DONE}, "it begins once"
        if status in _DONE:
            assert key not in self.running
            assert not any(each.scope == key.path for each in self._open()), f"{key} ended before what is in it"
            self.waiting.pop(key, None)
            self.held.discard(key)
            self.timers.pop(key, None)
        elif status is NodeRunStatus.RETRYING and before is NodeRunStatus.RETRYING:
            # The wait before the attempt is over, but not the pause.
            assert self.is_paused
            self.waiting.pop(key, None)
        self.node_runs[key] = status
        self.messages[key] = command.message

    def _start(self, command: StartAttempt) -> None:
        key, attempt = command.key, command.attempt
        assert not self.is_paused
        assert key not in self.running
        assert (key, attempt) not in self.attempts
        assert self.node_runs[key] not in _DONE
        assert attempt == 1 or (key, attempt - 1) in self.attempts
        if retry := self.waiting.pop(key, None):
            assert retry.attempt == attempt
        # A node run that waited, or that was to be tried again, runs from then on.
        self.node_runs[key] = NodeRunStatus.RUNNING
        self.running[key] = command

    def _end_attempt(self, key: NodeRunKey, attempt: int, status: AttemptStatus) -> None:
        assert (key, attempt) not in self.attempts
        assert self.running.pop(key).attempt == attempt
        self.attempts[key, attempt] = status

    def _event(self, command: RecordEvent) -> None:
        if command.key is None:
            assert all(command.event_id != known for _, known in self.received)
            self.received.append((command.name, command.event_id))
            return
        first = next(known for name, known in self.received if name == command.name and known not in self.taken)
        assert command.event_id == first, "events are taken in the order they came in"
        assert self.node_runs[command.key] in {NodeRunStatus.RUNNING, NodeRunStatus.WAITING}
        assert command.key not in self.taken.values()
        self.taken[first] = command.key

    def _commit(self, command: RecordCommit) -> None:
        assert command.number == len(self.commits) + 1
        assert command.parents == tuple(sorted(set(command.parents)))
        assert all(0 <= parent < command.number for parent in command.parents)
        assert all(commit.key != command.key for commit in self.commits.values()), "it has made its commit"
        assert self.node_runs[command.key] not in _DONE
        if command.attempt is not None:
            assert self.attempts[command.key, command.attempt] is AttemptStatus.SUCCEEDED
        self.commits[command.number] = command
        assert command.before is not None
        assert command.after is not None
        assert command.before.state == command.merged.apply(self.state_at(command.trunk))
        assert command.after.state == self.state_at(command.number) == command.diff.apply(command.before.state)
        assert command.after.heads == (command.number,)

    def _agree(self, run: scheduler.Run) -> None:
        assert run.status is self.status
        assert run.is_paused is self.is_paused
        active = dict(run.attempts())
        assert {key for key, each in active.items() if not each.is_waiting} == set(self.running)
        assert {key for key, each in active.items() if each.is_waiting and not each.is_held} == set(self.waiting)
        self.held = {key for key, each in active.items() if each.is_held}
        assert self.is_paused or not self.held
        in_progress = list(_in_progress(run))
        assert len(in_progress) == len(set(in_progress))
        assert self._open() == set(in_progress)
        assert run.commits == len(self.commits)
        if run.status is RunStatus.PENDING:
            assert not in_progress
        elif not run.status.is_final:
            assert in_progress, "the run waits for nothing and is not over"
            is_idle = not self.running and not self.waiting
            assert run.status is (RunStatus.WAITING if is_idle else RunStatus.RUNNING)
            assert run.latest == self.state_so_far()
            for inner in _runs(run):
                self._agree_on_kinds(inner)
        self._agree_on_events(run)
        if self.outcome is not None:
            assert not in_progress
            if run.status is not RunStatus.COMPLETED and self.outcome.state is not None:
                assert self.outcome.state == self.state_so_far()

    def _agree_on_kinds(self, run: scheduler.Run) -> None:
        """Check what is in progress in a graph against the types of its nodes."""
        assert run.status is RunStatus.RUNNING or not run.scope
        for key, kind in [
            *((key, NodeType.WAIT) for key in run.waits),
            *((key, NodeType.MAP) for key in run.maps),
            *((key, NodeType.SUBGRAPH) for key in run.inside),
        ]:
            assert run.topology.nodes[key.node].type is kind
            expected = NodeRunStatus.WAITING if kind is NodeType.WAIT else NodeRunStatus.RUNNING
            assert self.node_runs[key] is expected
        for key in run.maps:
            items = [each for each in self._open() if each.scope == key.path]
            assert 0 < len(items) <= run.topology.nodes[key.node].max_concurrency
            assert set(items) == {each for each in run.active if each.scope == key.path}
            assert {run.active[each].item for each in items} == {each.iteration - 1 for each in items}
        own = {key for key in run.active if key.scope == run.scope}
        assert {key.scope for key in run.active.keys() - own} == {key.path for key in run.maps}
        for key in self.held:
            assert self.node_runs[key] in {NodeRunStatus.WAITING, NodeRunStatus.RETRYING}

    def _agree_on_events(self, run: scheduler.Run) -> None:
        kept = [(each.name, each.event_id) for queue in run.mail.values() for each in queue]
        assert sorted(kept) == sorted(each for each in self.received if each[1] not in self.taken)
        if not run.status.is_final:
            awaited = {wait.event for each in _runs(run) for wait in each.waits.values()}
            assert awaited.isdisjoint(run.mail), "an event lies there that somebody waits for"
        assert all(run.mail.values())
        assert max(Counter(self.taken.values()).values(), default=0) <= 1


def _runs(run: scheduler.Run) -> Iterator[scheduler.Run]:
    yield run
    for inner in run.inside.values():
        yield from _runs(inner.run)


def _in_progress(run: scheduler.Run) -> Iterator[NodeRunKey]:
    for each in _runs(run):
        yield from [*each.active, *each.waits, *each.maps, *each.inside]
