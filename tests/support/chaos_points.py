"""The boundaries at which faults are put: each transaction, and each side effect, by name. The one table of them.

A boundary has stages, and a stage of a boundary is a point: ``steps.apply:committed``. Nothing in the platform knows of
them: a life (`chaos_life`) lays wrappers around what is named here before the platform is composed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens at a point."""

    KILL = "kill"
    """SIGKILL."""

    FAIL = "fail"
    """The caller is told that it failed, and it did."""

    TOLD_FAILED = "told_failed"
    """The caller is told that it failed, and it did not."""

    LOCKED = "locked"
    """Another process holds the database for longer than a write waits for it."""

    DISK_FULL = "disk_full"
    """The database cannot grow for a while."""

    FREEZE = "freeze"
    """The process is stopped, and continued later."""

    STOP = "stop"
    """The platform is asked to stop."""


class Phase(StrEnum):
    """When a point is passed."""

    SUBMISSION = "submission"
    ANY = "any"
    RECOVERY = "recovery"
    CLOSE = "close"


class How(StrEnum):
    """What a boundary is."""

    ASYNC = "async"
    SYNC = "sync"
    BLOCK = "block"
    """An asynchronous context manager: its stages are those of entering and of leaving it."""


@dataclass(frozen=True)
class SideEffect:
    """A boundary that is no transaction.

    Attributes:
        name: Of the boundary.
        where: The function, as ``module:Class.method``.
        how: What it is.
        phase: When it is passed.
        error: The class in `sandgraph.errors` that its caller must expect of it; None where it raises nothing.
    """

    name: str
    where: str
    how: How = How.ASYNC
    phase: Phase = Phase.ANY
    error: str | None = None


@dataclass(frozen=True)
class Point:
    """A stage of a boundary, and what can happen there."""

    name: str
    phase: Phase
    actions: tuple[Action, ...]


#: The writing transactions, by module and function in `sandgraph.store`. Their stages: ``before`` (handed in, not
#: begun), ``begun``, ``written`` (all statements done, not committed), ``committed`` (the caller was not told).
TRANSACTIONS = {
    "code.save": Phase.SUBMISSION,
    "graphs.save": Phase.SUBMISSION,
    "runs.create": Phase.SUBMISSION,
    "processes.beat": Phase.ANY,
    "leases.claim": Phase.RECOVERY,
    "leases.take_pending": Phase.ANY,
    "leases.park": Phase.ANY,
    "received_events.receive": Phase.ANY,
    "steps.apply": Phase.ANY,
    "steps.record_usage": Phase.ANY,
    "journal.append_logs": Phase.ANY,
    "recovery.in_progress": Phase.ANY,
    "recovery.in_line": Phase.ANY,
    "recovery.hand_back": Phase.RECOVERY,
    "recovery.resume": Phase.RECOVERY,
}

#: Modules of `sandgraph.store` whose own transactions no run depends on: they tidy up and count, now and then, and
#: `store` itself installs what comes with the platform, at each start.
HOUSEKEEPING = frozenset({"api_keys", "kept_answers", "retention", "store", "tenants", "webhook_deliveries"})

#: The same whatever the sandboxes are.
_PLATFORM = (
    SideEffect("dispatcher.start", "sandgraph.execution.dispatcher:Dispatcher.start"),
    SideEffect("dispatcher.submit", "sandgraph.execution.dispatcher:Dispatcher.submit", phase=Phase.SUBMISSION),
    SideEffect("dispatcher.cancel", "sandgraph.execution.dispatcher:Dispatcher.cancel"),
    SideEffect("dispatcher.pause", "sandgraph.execution.dispatcher:Dispatcher.pause"),
    SideEffect("dispatcher.unpause", "sandgraph.execution.dispatcher:Dispatcher.unpause"),
    SideEffect("dispatcher.send_event", "sandgraph.execution.dispatcher:Dispatcher.send_event"),
    SideEffect("dispatcher.close", "sandgraph.execution.dispatcher:Dispatcher.close", phase=Phase.CLOSE),
    SideEffect("database.close", "sandgraph.store.database:Database.close", phase=Phase.CLOSE),
    SideEffect("actor.perform", "sandgraph.execution.actor:RunActor._perform", How.SYNC),
    SideEffect("actor.park", "sandgraph.execution.actor:RunActor._park"),
    SideEffect("actor.untold", "sandgraph.store.store:Store.untold_events", error="Unavailable"),
    SideEffect("floor.wake", "sandgraph.execution.floor:Floor.wake", error="Unavailable"),
    SideEffect("waker.next", "sandgraph.store.store:Store.next_wake", error="Unavailable"),
    SideEffect("waker.due", "sandgraph.store.store:Store.due_runs", error="Unavailable"),
    SideEffect("actor.resume", "sandgraph.execution.checkpoints:read_past", phase=Phase.RECOVERY),
    SideEffect("transport.perform", "sandgraph.execution.worker:Worker.perform", error="Unavailable"),
    SideEffect("transport.end_run", "sandgraph.execution.worker:Worker.end_run", error="Unavailable"),
)

_IN_PROCESS = (
    SideEffect("sandbox.lease", "sandgraph.sandbox.inprocess:InProcessSandboxes.lease", How.BLOCK, error="Unavailable"),
    SideEffect("sandbox.execute", "sandgraph.sandbox.inprocess:_Stand.execute", error="SandboxLost"),
)

_ENGINE = "sandgraph.sandbox.engine:Engine"

_DOCKER = (
    SideEffect("sandbox.lease", "sandgraph.sandbox.pool:SandboxPool.lease", How.BLOCK, error="EngineUnavailable"),
    SideEffect("sandbox.execute", "sandgraph.sandbox.attempt:ContainerSandbox.execute", error="SandboxLost"),
    SideEffect("sandbox.close", "sandgraph.sandbox.pool:SandboxPool.close", phase=Phase.CLOSE),
    SideEffect("reaper.reap", "sandgraph.sandbox.reaper:Reaper.reap"),
    SideEffect("engine.create", f"{_ENGINE}.create", error="EngineUnavailable"),
    SideEffect("engine.attach", f"{_ENGINE}.attach", error="EngineUnavailable"),
    SideEffect("engine.start", f"{_ENGINE}.start", error="EngineUnavailable"),
    SideEffect("engine.update", f"{_ENGINE}.update", error="EngineUnavailable"),
    SideEffect("engine.remove", f"{_ENGINE}.remove", error="EngineUnavailable"),
)

#: Events of the scheduler, at the moment at which a run is told of them: a result that came back, a timer that rang.
EVENTS = {
    "tell.RunStarted": Phase.ANY,
    "tell.AttemptSucceeded": Phase.ANY,
    "tell.AttemptFailed": Phase.ANY,
    "tell.RetryDue": Phase.ANY,
    "tell.CancelRequested": Phase.ANY,
    "tell.PauseRequested": Phase.ANY,
    "tell.UnpauseRequested": Phase.ANY,
    "tell.TimeElapsed": Phase.ANY,
}

#: Any statement of a writing transaction, and any commit, by its number alone.
STATEMENTS = ("statement:before", "statement:after", "commit:before")

_STAGES = {
    How.ASYNC: ("before", "after"),
    How.SYNC: ("before", "after"),
    How.BLOCK: ("enter:before", "enter:after", "exit:before", "exit:after"),
}


def side_effects(*, docker: bool) -> tuple[SideEffect, ...]:
    """Return the boundaries that are no transactions."""
    return (*_PLATFORM, *(_DOCKER if docker else _IN_PROCESS))


def points(*, docker: bool) -> list[Point]:
    """Return every point. With containers these are the side effects alone: transactions do not know of them."""
    found = [point for boundary in side_effects(docker=docker) for point in _of_side_effect(boundary)]
    if docker:
        return [point for point in found if point.name.startswith(("sandbox.", "reaper.", "engine."))]
    found += [point for name, phase in TRANSACTIONS.items() for point in _of_transaction(name, phase)]
    found += [Point(name, phase, (Action.KILL, Action.STOP)) for name, phase in EVENTS.items()]
    found += [Point(name, Phase.ANY, (Action.KILL, Action.FAIL)) for name in STATEMENTS]
    return found


def pairs(*, docker: bool) -> list[tuple[Point, Action]]:
    """Return the whole matrix."""
    return [(point, action) for point in points(docker=docker) for action in point.actions]


def _of_side_effect(boundary: SideEffect) -> Iterator[Point]:
    for stage in _STAGES[boundary.how]:
        actions = [Action.KILL]
        if boundary.error is not None:
            actions.append(Action.FAIL if stage.endswith("before") else Action.TOLD_FAILED)
        if boundary.how is How.BLOCK and stage.startswith("exit"):
            # A lease ends in silence.
            actions = [Action.KILL]
        if boundary.name == "sandbox.execute":
            actions.append(Action.FREEZE)
        yield Point(f"{boundary.name}:{stage}", boundary.phase, tuple(actions))


def _of_transaction(name: str, phase: Phase) -> Iterator[Point]:
    yield Point(f"{name}:before", phase, (Action.KILL, Action.LOCKED, Action.DISK_FULL))
    yield Point(f"{name}:begun", phase, (Action.KILL, Action.FAIL, Action.FREEZE))
    yield Point(f"{name}:written", phase, (Action.KILL,))
    yield Point(f"{name}:committed", phase, (Action.KILL, Action.TOLD_FAILED))
