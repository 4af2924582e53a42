"""Commits as they are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, String, bindparam, false, or_, select, type_coerce

from sandgraph.errors import InvalidInput, NotFound
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import StateDiff
from sandgraph.store import cursors, journal, tables
from sandgraph.store.columns import to_json
from sandgraph.store.logs import place_of
from sandgraph.store.records import CommitRecord, Page

_LIST = "commits"
_ROW = tables.state_commit.c
_MAX_INTEGER = 2**63 - 1

#: Commits that one statement names.
_NAMED_AT_ONCE = 500

# Made once: making one takes longer than SQLite needs to run it.
_AUTHORS = select(_ROW.number, _ROW.scope, _ROW.node, _ROW.iteration, _ROW.attempt).where(
    _ROW.run_id == bindparam("run_id"), _ROW.number.in_(bindparam("numbers", expanding=True))
)
_PARENTS = (
    select(_ROW.number, type_coerce(_ROW.parents, String))
    .where(_ROW.run_id == bindparam("run_id"), _ROW.number <= bindparam("upto"), _ROW.scope == "")
    .order_by(_ROW.number)
)


def upto(connection: Connection, run_id: str, number: int | None) -> list[CommitRecord]:
    """Return the commits of a run by number, up to one and with it."""
    journal.last_number(connection, run_id)
    query = select(tables.state_commit).where(_ROW.run_id == run_id).order_by(_ROW.number)
    if number is not None:
        query = query.where(_ROW.number <= min(number, _MAX_INTEGER))
    return [_record(row) for row in connection.execute(query)]


def get(connection: Connection, run_id: str, number: int) -> CommitRecord:
    """Return a commit.

    Raises:
        NotFound: There is no such run, or it has no such commit.
    """
    journal.last_number(connection, run_id)
    query = select(tables.state_commit).where(_ROW.run_id == run_id, _ROW.number == min(number, _MAX_INTEGER))
    row = connection.execute(query).first()
    if row is None:
        raise NotFound("commit", str(number))
    return _record(row)


def parents(connection: Connection, run_id: str, upto: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return the commits of a run's own graph, up to one and with it: their numbers and parents, by number."""
    journal.last_number(connection, run_id)
    found = connection.execute(_PARENTS, {"run_id": run_id, "upto": upto})
    # Lists of numbers: there may be many thousands, and a parser for all of JSON takes as long as all the rest.
    return [(number, tuple(map(int, text[1:-1].split(",")))) for number, text in found]


def touching(
    connection: Connection, run_id: str, after: int, upto: int, keys: Collection[str] | None
) -> list[CommitRecord]:
    """Return the commits of a run's own graph that follow one, up to another and with it; with keys, a part of them.

    Those that change one of the keys are among that part, and few others.
    """
    journal.last_number(connection, run_id)
    query = select(tables.state_commit).where(
        _ROW.run_id == run_id, _ROW.number > after, _ROW.number <= upto, _ROW.scope == ""
    )
    if keys is not None:
        # As it was written; the database need not parse it, and what it finds in some value is but one commit more.
        text = type_coerce(_ROW.diff, String)
        query = query.where(or_(false(), *(place_of(text, f'"key":{to_json(key)}') > 0 for key in sorted(keys))))
    return [_record(row) for row in connection.execute(query.order_by(_ROW.number))]


def authors(connection: Connection, run_id: str, numbers: Collection[int]) -> dict[int, tuple[NodeRunKey, int | None]]:
    """Return who made some commits, by number: the node run, and the attempt where one did. Diffs are not read."""
    journal.last_number(connection, run_id)
    wanted = sorted(numbers)
    found: dict[int, tuple[NodeRunKey, int | None]] = {}
    for first in range(0, len(wanted), _NAMED_AT_ONCE):
        some = {"run_id": run_id, "numbers": wanted[first : first + _NAMED_AT_ONCE]}
        for row in connection.execute(_AUTHORS, some):
            found[row.number] = NodeRunKey(row.node, row.iteration, row.scope), row.attempt
    return found


def page(
    connection: Connection, run_id: str, scope: str | None, node: str | None, cursor: str | None, limit: int
) -> Page[CommitRecord]:
    """Return commits by number, of one scope or node or of all."""
    journal.last_number(connection, run_id)
    after = cursors.decode(_LIST, cursor) or "0"
    if not (after.isascii() and after.isdigit() and int(after) <= _MAX_INTEGER):
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    query = page_query(run_id, scope, node, int(after), limit)
    found = [_record(row) for row in connection.execute(query)]
    return cursors.page(_LIST, found, limit, lambda commit: str(commit.number))


def page_query(run_id: str, scope: str | None, node: str | None, after: int, limit: int) -> Select[Any]:
    """Return the statement of a page, with one commit more than it shows.

    No index is kept for a node's commits, which each step of a run would have to write: to look through those of a run
    takes some milliseconds for 10,000 of them.
    """
    query = select(tables.state_commit).where(_ROW.run_id == run_id, _ROW.number > after)
    if scope is not None:
        query = query.where(_ROW.scope == scope)
    if node is not None:
        query = query.where(_ROW.node == node)
    return query.order_by(_ROW.number).limit(limit + 1)


def _record(row: Row[Any]) -> CommitRecord:
    return CommitRecord(
        row.number,
        tuple(row.parents),
        StateDiff.from_json(row.diff),
        row.node,
        row.iteration,
        row.attempt,
        row.created_at,
        row.scope,
        row.trunk,
        StateDiff.from_json(row.merged or []),
        row.merged_writers or {},
    )
