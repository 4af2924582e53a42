"""Events of a journal, several in one row: a list in the order of their numbers, of which the last is the row's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from sandgraph.model.journal import Entry
from sandgraph.model.state import Json
from sandgraph.store.columns import storable, to_json
from sandgraph.store.records import JournalRecord

#: Events in one row: what is read of a row and not asked for is no more than this.
MOST = 64

#: A longer diff, as JSON, is not repeated in the journal.
MAX_DIFF_BYTES = 64 * 1024

#: Of a diff that is not repeated, as many of its keys are named as fit.
_MAX_KEYS_BYTES = 8 * 1024

_MAX_MESSAGE = 4_096

#: In the data of an event as it is stored: the number of the commit that a reader takes the diff from. No event's data
#: has such a name.
_DIFF_OF = "diff_of"

#: Type, status, message, node, iteration, attempt, scope and data, of which nulls at the end are left out.
Packed = list[Json]


def packs(first_seq: int, events: Sequence[Entry]) -> Iterator[tuple[int, list[Packed]]]:
    """Yield the rows of events that are numbered from ``first_seq``: the number of the last in each, and all in it."""
    for first in range(0, len(events), MOST):
        part = [_packed(entry) for entry in events[first : first + MOST]]
        yield first_seq + first + len(part) - 1, part


def records(last_seq: int, ts: datetime, entries: Sequence[Sequence[Any]]) -> Iterator[JournalRecord]:
    """Yield the records of a row; of those that `diff_of` tells of, the diff is still to be put in."""
    for seq, entry in enumerate(entries, last_seq - len(entries) + 1):
        yield _record(seq, ts, *entry)


def diff_of(record: JournalRecord) -> int | None:
    """Return the number of the commit whose diff belongs in a record, if it is not there."""
    return cast("int | None", record.data.get(_DIFF_OF))


def with_diff(record: JournalRecord, diff: Json) -> JournalRecord:
    """Return a record with the diff that belongs in it."""
    kept = {name: value for name, value in record.data.items() if name != _DIFF_OF}
    return replace(record, data={**kept, "diff": diff})


def _packed(entry: Entry) -> Packed:
    message, key, data = entry.message, entry.key, entry.data
    if len(message) > _MAX_MESSAGE:
        message = message[: _MAX_MESSAGE - 1] + "…"
    packed: Packed = [entry.type, entry.status, storable(message)]
    if key is None and not data:
        return packed
    if key is not None:
        packed += (key.node, key.iteration, entry.attempt, key.scope)
    else:
        packed += (None, None, entry.attempt, "")
    if data:
        packed.append(_without_diff(data) if "diff" in data else dict(data))
    return packed


def _record(  # noqa: PLR0913, PLR0917 - as many as a record has
    seq: int,
    ts: datetime,
    type_: str,
    status: str,
    message: str,
    node: str | None = None,
    iteration: int | None = None,
    attempt: int | None = None,
    scope: str = "",
    data: dict[str, Json] | None = None,
) -> JournalRecord:
    return JournalRecord(seq, ts, "event", type_, node, iteration, attempt, status, message, data or {}, scope)


def _without_diff(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return what is kept of a commit's event: the diff is stored in the commit already, where a reader takes it."""
    kept = {name: value for name, value in data.items() if name != "diff"}
    diff, number = data["diff"], data["commit"]
    if not isinstance(diff, list) or not isinstance(number, int):
        raise TypeError("the entry of a commit has its number and its diff")
    if len(to_json(diff)) <= MAX_DIFF_BYTES:
        return {**kept, _DIFF_OF: number}
    keys: list[Json] = []
    left = _MAX_KEYS_BYTES
    for op in diff:
        left -= len(to_json(op["key"])) if isinstance(op, dict) else 0
        if left < 0:
            break
        keys.append(op["key"] if isinstance(op, dict) else None)
    return {**kept, "keys": keys, "truncated": True}
