"""Keeps the books of a run: takes each step's commands, and fails where one contradicts what was recorded before."""

from __future__ import annotations

from collections.abc import Sequence

from sandgraph.model import scheduler
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordEdge,
    RecordNodeRun,
    RecordRun,
    ScheduleRetry,
    StartAttempt,
    StopAttempt,
)
from sandgraph.model.history import state_at, state_so_far
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
    """What was recorded of a run; ``running`` and ``waiting`` are the attempts that are outstanding."""

    def __init__(self, initial: State) -> None:
        self.initial = initial
        self.node_runs: dict[NodeRunKey, NodeRunStatus] = {}
        self.messages: dict[NodeRunKey, str] = {}
        self.attempts: dict[tuple[NodeRunKey, int], AttemptStatus] = {}
        self.running: dict[NodeRunKey, StartAttempt] = {}
        self.waiting: dict[NodeRunKey, ScheduleRetry] = {}
        self.commits: dict[int, RecordCommit] = {}
        self.edges: list[RecordEdge] = []
        self.outcome: RecordRun | None = None

    def take(self, run: scheduler.Run, commands: Sequence[Command]) -> None:
        """Enter a step's commands and check them, and that the run agrees with the books."""
        for command in commands:
            assert self.outcome is None, f"after the run's end: {command}"
            self._enter(command)
        stopped = [(each.key, each.attempt) for each in commands if isinstance(each, StopAttempt)]
        ended = [each for each in commands if isinstance(each, RecordAttempt)]
        assert stopped == [(each.key, each.attempt) for each in ended if each.status is AttemptStatus.CANCELLED]
        assert len(list(entries(commands))) == len(commands) - len(stopped)
        self._agree(run)

    def state_at(self, number: int) -> dict[str, Json]:
        state = state_at(self.initial, self.commits.values(), number)
        assert state is not None
        return state

    def state_so_far(self) -> dict[str, Json]:
        return state_so_far(self.initial, self.commits.values())[0]

    def with_status(self, status: NodeRunStatus) -> set[str]:
        return {str(key) for key, found in self.node_runs.items() if found is status}

    def _enter(self, command: Command) -> None:
        match command:
            case RecordRun(RunStatus.RUNNING):
                assert not self.node_runs
            case RecordRun():
                self.outcome = command
            case RecordNodeRun():
                self._node_run(command)
            case StartAttempt():
                self._start(command)
            case RecordAttempt(key, attempt, status):
                self._end_attempt(key, attempt, status)
            case ScheduleRetry(key, attempt):
                assert self.node_runs[key] is NodeRunStatus.RETRYING
                assert self.attempts[key, attempt - 1]
                self.waiting[key] = command
            case RecordCommit():
                self._commit(command)
            case RecordEdge():
                self.edges.append(command)
            case StopAttempt():
                pass

    def _node_run(self, command: RecordNodeRun) -> None:
        before = self.node_runs.get(command.key)
        assert before not in _DONE, f"{command.key} was {before} and became {command.status}"
        if before is None:
            assert command.status in {NodeRunStatus.RUNNING, NodeRunStatus.SKIPPED}
            earlier = sum(key.node == command.key.node for key in self.node_runs)
            assert command.key.iteration == earlier + 1
        if command.status in _DONE:
            assert command.key not in self.running
            self.waiting.pop(command.key, None)
        self.node_runs[command.key] = command.status
        self.messages[command.key] = command.message

    def _start(self, command: StartAttempt) -> None:
        key, attempt = command.key, command.attempt
        assert key not in self.running
        assert (key, attempt) not in self.attempts
        assert self.node_runs[key] in {NodeRunStatus.RUNNING, NodeRunStatus.RETRYING}
        assert attempt == 1 or self.waiting.pop(key).attempt == attempt
        self.running[key] = command

    def _end_attempt(self, key: NodeRunKey, attempt: int, status: AttemptStatus) -> None:
        assert (key, attempt) not in self.attempts
        assert self.running.pop(key).attempt == attempt
        self.attempts[key, attempt] = status

    def _commit(self, command: RecordCommit) -> None:
        assert command.number == len(self.commits) + 1
        assert command.parents == tuple(sorted(set(command.parents)))
        assert all(0 <= parent < command.number for parent in command.parents)
        assert self.attempts[command.key, command.attempt or 0] is AttemptStatus.SUCCEEDED
        self.commits[command.number] = command

    def _agree(self, run: scheduler.Run) -> None:
        assert run.status.is_final is (self.outcome is not None)
        assert {key for key, active in run.active.items() if not active.is_waiting} == set(self.running)
        assert {key for key, active in run.active.items() if active.is_waiting} == set(self.waiting)
        open_runs = {key for key, status in self.node_runs.items() if status not in _DONE}
        assert open_runs == set(run.active)
        if run.status is RunStatus.RUNNING:
            assert run.active, "the run waits for nothing and is not over"
            assert run.latest == self.state_so_far()
        if self.outcome is not None:
            assert self.outcome.status is run.status
            assert not run.active
            if run.status is not RunStatus.COMPLETED and self.outcome.state is not None:
                assert self.outcome.state == self.state_so_far()
