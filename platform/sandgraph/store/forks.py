"""Runs that begin with the history of another: all of it is stored at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from sandgraph.model.commands import Command, RecordRun
from sandgraph.model.journal import entries
from sandgraph.model.run import RunStatus
from sandgraph.store import journal, received_events, run_events, runs, steps
from sandgraph.store.columns import now
from sandgraph.store.ids import new_id
from sandgraph.store.records import ReceivedEvent, RunEvent, RunRecord
from sandgraph.store.runs import NewRun

#: Commands whose rows are made at a time: those of a whole history together are many objects, and to look through them
#: for garbage holds all threads up.
_AT_ONCE = 500


def create(
    connection: Connection,
    new: NewRun,
    commands: Sequence[Command],
    told: Sequence[RunEvent],
    forked_from: str,
    forked_at: int,
) -> tuple[RunRecord, bool]:
    """Store a run with a history, or return the one that this key made before.

    Raises:
        NotFound: The other run is there no more.
        Conflict: The key was used for something else.
        ValueError: The history is that of a run that has ended.
    """
    known = runs.known_by(connection, new)
    if known is not None:
        return known, False
    # Deleted meanwhile, its history may not have been read whole.
    runs.summary(connection, forked_from)
    run_id, ts = new_id("run"), now()
    runs.begin(connection, run_id, new, {"created_at": ts, "forked_from": forked_from, "forked_at": forked_at})
    _append(connection, run_id, [RecordRun(RunStatus.PENDING)], ts)
    for first in range(0, len(commands), _AT_ONCE):
        _append(connection, run_id, commands[first : first + _AT_ONCE], ts)
    if told:
        run_events.add_all(connection, run_id, told, commands)
        received_events.insert_all(connection, run_id, _received(ts, told))
    return runs.get(connection, run_id), True


def _append(connection: Connection, run_id: str, commands: Sequence[Command], ts: datetime) -> None:
    """Store a part of the history."""
    step = steps.Step(ts)
    for command in commands:
        step.add(command)
    if "finished_at" in step.run:
        raise ValueError("a run that has ended cannot go on as another")
    events = list(entries(commands))
    last = journal.advance(connection, run_id, len(events), step.run, stored=step.encode())
    if last is None:
        raise LookupError(f"the run {run_id} is not there")
    first = last - len(events) + 1
    step.write(connection, run_id, steps.first_numbers(events, first))
    journal.insert_events(connection, run_id, first, events, ts)


def _received(ts: datetime, told: Sequence[RunEvent]) -> list[ReceivedEvent]:
    """Return the events from outside among those that a run was told, so that their ids are not used again."""
    found: dict[str, ReceivedEvent] = {}
    for each in told:
        event_id = received_events.of_told(each)
        if event_id is not None and event_id not in found:
            name, payload = str(each.document["name"]), each.document["payload"]
            found[event_id] = ReceivedEvent(len(found) + 1, event_id, name, payload, each.number, ts)
    return list(found.values())
