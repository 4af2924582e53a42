"""The semantics of graphs: a pure state machine over tokens.

`step` takes a run and one event and returns the run as it then is, with the commands that follow. No I/O, no clock: the
dispatcher stores the commands that are records in one transaction, and only then does the rest.

How tokens move is `tokens`' matter, and what nodes of each type do `node_runs`'; here is what each event does.
"""

from __future__ import annotations

from dataclasses import replace

from sandgraph.model import events
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordEvent,
    RecordNodeRun,
    RecordPause,
    RecordRun,
    ScheduleRetry,
)
from sandgraph.model.graph import NodeType, OnMax, Outcome
from sandgraph.model.node_runs import NodeRuns
from sandgraph.model.progress import Active, Run
from sandgraph.model.retry import LOST
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import View

__all__ = ["Active", "Run", "step"]


def step(run: Run, event: events.Event) -> tuple[Run, list[Command]]:
    """Return the run after an event, and what follows from it.

    An event that comes too late or too early changes nothing: a result of an attempt that is no longer the present one,
    a second start, or anything once the run has ended.
    """
    if run.status.is_final:
        return run, []
    draft = _Steps(run)
    if not draft.take(event):
        return run, []
    draft.settle()
    draft.rest()
    return draft.freeze(), draft.commands


class _Steps(NodeRuns):
    """What each event does to a run."""

    def inner(self, run: Run) -> NodeRuns:
        return _Steps(run, self)

    def take(self, event: events.Event) -> bool:
        """Let an event happen, and tell whether it changed anything."""
        match event:
            case events.AttemptSucceeded() | events.AttemptFailed() | events.RetryDue() | events.TimeElapsed():
                return self._take_where_it_belongs(event)
            case events.RunStarted(state) if self.status is RunStatus.PENDING:
                self.commands.append(RecordRun(RunStatus.RUNNING))
                self.enter(View.initial(state))
            case events.EventReceived():
                self._receive(event)
            case events.PauseRequested() if not self.is_paused:
                self.is_paused = True
                self.commands.append(RecordPause(is_paused=True, status=self.status))
            case events.UnpauseRequested() if self.is_paused:
                self.is_paused = False
                self.commands.append(RecordPause(is_paused=False, status=self.status))
                self.unhold()
            case events.Reopened() if self.status is not RunStatus.PENDING:
                self.reopen()
            case events.CancelRequested():
                self.finish(RunStatus.CANCELLED, Failure("cancelled", "The run was cancelled."))
            case events.RunTimedOut(timeout_s):
                failure = Failure("run_timeout", f"The run took longer than the {timeout_s:g} s it may.")
                self.finish(RunStatus.FAILED, failure)
            case _:
                return False
        return True

    def rest(self) -> None:
        """Say that the run waits, where nothing is left to be done but that; or that it goes on."""
        if self.status.is_final or self.status is RunStatus.PENDING:
            return
        is_idle = all(active.is_held for active in self.active.values()) and all(
            active.is_held for inner in self.inside.values() for _, active in inner.run.attempts()
        )
        status = RunStatus.WAITING if is_idle else RunStatus.RUNNING
        if status is not self.status:
            self.status = status
            self.commands.append(RecordRun(status))

    # What is about one node run

    def _take_where_it_belongs(
        self, event: events.AttemptSucceeded | events.AttemptFailed | events.RetryDue | events.TimeElapsed
    ) -> bool:
        for key in self.inside:
            if event.key.scope == key.path or event.key.scope.startswith(f"{key.path}/"):
                return self.within(key, lambda inner: inner.take(event))
        match event:
            case events.AttemptSucceeded(key, attempt) if self._expects(key, attempt):
                self._succeed(event)
            case events.AttemptFailed(key, attempt) if self._expects(key, attempt):
                self._fail(event)
            case events.RetryDue(key, attempt) if self._expects(key, attempt, waiting=True):
                self.attempt(key, replace(self.active[key], is_waiting=False))
            case events.TimeElapsed(key) if key in self.waits or key in self.maps or key in self.inside:
                self.time_out(key)
            case _:
                return False
        return True

    def _expects(self, key: NodeRunKey, attempt: int, *, waiting: bool = False) -> bool:
        active = self.active.get(key)
        return active is not None and active.attempt == attempt and active.is_waiting is waiting and not active.is_held

    def _succeed(self, event: events.AttemptSucceeded) -> None:
        key, active = event.key, self.active.pop(event.key)
        node = self.topology.nodes[key.node]
        self.commands.append(RecordAttempt(key, event.attempt, AttemptStatus.SUCCEEDED))
        if active.item is not None:
            self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED))
            self.end_item(key, active.item, event.value)
            return
        view = active.view
        message = "" if event.entered else "The loop's condition did not hold: no iteration."
        if event.entered and node.function is not None and not active.asks_only:
            view = self.commit(key, event.attempt, view, event.diff)
        conditions = node.condition or any(self.graph.edges[i].condition for i in self.topology.outgoing[node.name])
        if event.is_amended and conditions:
            number = event.attempt + 1
            self.attempt(key, Active(view, number, earlier=event.attempt, lap=active.lap, asks_only=True))
            return
        goes_on = node.type is NodeType.LOOP and event.entered and event.again is not False
        is_last = active.lap >= (node.max_iterations or 1)
        too_often = goes_on and is_last and node.condition is not None and node.on_max is OnMax.FAIL
        if too_often:
            message = f"The loop {node.name!r} ran {active.lap} times and its condition {node.condition} still holds."
        self.commands.append(RecordNodeRun(key, NodeRunStatus.SUCCEEDED, message=message))
        if too_often:
            self.break_off(node, view, Outcome.FAILED, Failure("max_iterations_reached", message, node=node.name))
        elif goes_on and not is_last:
            self.begin(node, view, active.lap + 1)
        else:
            self.leave(node, view, event.after)

    def _fail(self, event: events.AttemptFailed) -> None:
        key, active = event.key, self.active[event.key]
        node = self.topology.nodes[key.node]
        failure = replace(event.failure, node=node.name)
        self.commands.append(RecordAttempt(key, event.attempt, event.status, failure))
        is_lost = event.status is AttemptStatus.LOST
        lost = active.lost + is_lost
        retry, attempts = (LOST, lost) if is_lost else (node.retry, event.attempt - active.earlier - lost)
        delay_s = retry.delay_after(attempts, event.status)
        if delay_s is not None:
            self.active[key] = replace(active, attempt=event.attempt + 1, lost=lost, is_waiting=True)
            self.commands.append(RecordNodeRun(key, NodeRunStatus.RETRYING, failure))
            self.commands.append(ScheduleRetry(key, event.attempt + 1, delay_s, retry.jitter))
            return
        del self.active[key]
        if is_lost:
            failure = replace(failure, message=f"Attempts were lost {lost} times; of the last one: {failure.message}")
        outcome = Outcome.TIMED_OUT if event.status is AttemptStatus.TIMEOUT else Outcome.FAILED
        if active.item is None:
            self.fail_node_run(key, active.view, outcome, failure)
        else:
            self.commands.append(RecordNodeRun(key, NodeRunStatus(outcome.value), failure))
            self.end_item(key, active.item, failure)

    def _receive(self, event: events.EventReceived) -> None:
        """Give an event to the node run that waits longest for it, or keep it for the first that will."""
        self.commands.append(RecordEvent(event.name, event.event_id))
        if waiting := sorted(self.run.waiting_for(event.name)):
            self.deliver(waiting[0][1], event)
        else:
            self.mail[event.name] = (*self.mail.get(event.name, ()), event)
