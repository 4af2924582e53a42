"""Runs that go on as new ones: from a checkpoint, over another state, or from where they failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sandgraph.errors import Conflict, NotFound
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordCommit
from sandgraph.model.events import Event, Reopened, UnpauseRequested
from sandgraph.model.replay import Told
from sandgraph.model.run import RunStatus
from sandgraph.model.state import StateDiff


@dataclass(slots=True)
class History:
    """What a new run has behind it when it begins.

    Attributes:
        run: As it is after that.
        commands: All that followed from what it was told, in order.
        events: All that it was told, in order.
        upto: Number of the last event of the other run that is part of it; 0 for none.
    """

    run: scheduler.Run
    commands: list[Command] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    upto: int = 0

    def tell(self, event: Event) -> None:
        """Tell the run one more event; one that changes nothing is left out."""
        run, commands = scheduler.step(self.run, event)
        if commands:
            self.run = run
            self.commands += commands
            self.events.append(event)

    def go_on(self) -> None:
        """Let the run go on as a new one, which nobody paused."""
        self.tell(Reopened())
        self.tell(UnpauseRequested())


def forked(fresh: scheduler.Run, told: Iterable[Told], at: int, changes: StateDiff, *, asks: bool) -> History:
    """Return the history of a run that goes on from a checkpoint of another one.

    Of the checkpoint of the initial state there is none: that run begins.

    Args:
        fresh: The run before it was told anything.
        told: What the other one was told.
        at: The checkpoint's number.
        changes: Are laid over what its commit changed: sets and deletes.
        asks: Whether the conditions behind that commit are asked anew.

    Raises:
        NotFound: There is no such checkpoint.
        Conflict: The commit is not an attempt's, and there are changes (``commit_not_amendable``); or the run
            ended with it (``nothing_left``).
    """
    history = History(fresh)
    if at == 0:
        return history
    for number, each in enumerate(told, 1):
        _, commands = scheduler.step(history.run, each.event)
        made = next((found for found in _commits(commands) if found.number == at), None)
        if made is None:
            history.tell(each.event)
            continue
        event = _amended(each.event, made, changes, asks=asks)
        history.upto = number
        history.tell(event)
        if history.run.status.is_final:
            message = f"With commit {at} the run came to its end: nothing is left to go on with."
            raise Conflict(message, code="nothing_left")
        history.go_on()
        return history
    raise NotFound("checkpoint", str(at))


def reopened(fresh: scheduler.Run, told: Iterable[Told]) -> History:
    """Return the history of a run that goes on where another one ended: without what ended it, or broke it for good.

    What was done stays done. Numbers of commits may be others than they were.
    """
    all_events = [each.event for each in told]
    left_out: set[int] = set()
    while True:
        history, causes = _told_again(fresh, all_events, left_out)
        if not causes:
            break
        left_out |= causes
    if history.run.status is not RunStatus.PENDING:
        history.go_on()
    return history


def overlaid(diff: StateDiff, changes: StateDiff) -> StateDiff:
    """Return a diff with other operations in the place of its own on the same keys."""
    ops = {**{op.key: op for op in diff.ops}, **{op.key: op for op in changes.ops}}
    return StateDiff(tuple(ops[key] for key in sorted(ops)))


def _commits(commands: Iterable[Command]) -> Iterator[RecordCommit]:
    return (command for command in commands if isinstance(command, RecordCommit))


def _amended(event: events.Event, made: RecordCommit, changes: StateDiff, *, asks: bool) -> events.Event:
    if made.attempt is None and changes:
        message = f"Commit {made.number} is not that of an attempt, but of {made.key} as a whole: it cannot be changed."
        raise Conflict(message, code="commit_not_amendable")
    if not isinstance(event, events.AttemptSucceeded) or made.attempt is None or not (changes or asks):
        return event
    return replace(event, diff=overlaid(event.diff, changes), is_amended=True)


def _told_again(
    fresh: scheduler.Run, all_events: Sequence[events.Event], left_out: set[int]
) -> tuple[History, set[int]]:
    """Tell a run what did not break it; or find what inside a subgraph or a map led to the failure of the whole."""
    history = History(fresh)
    broke: dict[str, set[int]] = {}
    for index, event in enumerate(all_events):
        if index in left_out or isinstance(event, events.CancelRequested | events.RunTimedOut):
            continue
        before = history.run
        after, commands = scheduler.step(before, event)
        if not commands:
            continue
        inside, still = _broken_inside(before), _broken_inside(after)
        earlier = {each for scope in inside.keys() - still.keys() for each in broke.get(scope, ())}
        # A success may be but the last thing that a failure of the whole waited for.
        causes = earlier if earlier and isinstance(event, events.AttemptSucceeded) else earlier | {index}
        if after.status.is_final or after.failure != before.failure or after.broken.keys() - before.broken.keys():
            if earlier:
                return history, causes
            continue
        for scope, what in still.items():
            if what - inside.get(scope, frozenset()):
                broke.setdefault(scope, set()).update(causes)
        history.run = after
        history.commands += commands
        history.events.append(event)
        history.upto = index + 1
    return history, set()


def _broken_inside(run: scheduler.Run) -> dict[str, frozenset[str]]:
    """Return what is broken in each subgraph, and which items failed of each map, in progress."""
    found = {key.path: frozenset(map(str, mapped.failures)) for key, mapped in run.maps.items()}
    for inner in run.inside.values():
        found[inner.run.scope] = frozenset(inner.run.broken)
        found |= _broken_inside(inner.run)
    return found
