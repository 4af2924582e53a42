"""A run's lines in pages: filtered in the database as far as it can, with a bound on the work for one page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from sandgraph.errors import NotFound
from sandgraph.model.log_filter import LogFilter, lowered
from sandgraph.model.state import Json
from sandgraph.store import journal, tables
from sandgraph.store.columns import now, storable
from sandgraph.store.log_numbers import first_since
from sandgraph.store.records import JournalRecord, LogPage, LogQuery, TailPage
from sandgraph.store.traces import traced
from sandgraph.store.truncations import truncations

#: Rows fetched at a time where all that is fetched is shown, and numbers looked at where some are not.
_CHUNK = 200
_WINDOW = 2_000

#: Numbers that one page looks at, and seconds that it takes, before it is handed out as it is.
_MOST_SEEN = 50_000
_MOST_S = 0.05

#: Characters of the lines of one page.
_MOST_TEXT = 1024 * 1024


# Made once: making one takes longer than the database needs to run it, and each batch of lines that is told takes one.
_RUN = select(
    tables.run.c.last_seq, tables.run.c.finished_at, tables.run.c.logs_kept_from, tables.run.c.logs_removed
).where(tables.run.c.id == bindparam("run_id"), tables.run.c.deleted_at.is_(None))


class place_of(GenericFunction[int]):  # noqa: N801 - the name of an SQL function
    """Where in a text another one begins, from 1; 0 where it does not."""

    inherit_cache = True


class place_of_lowered(GenericFunction[int]):  # noqa: N801
    """The same, with the letters of ASCII in the text taken as lower case ones."""

    inherit_cache = True


@compiles(place_of)
def _strpos(element: place_of, compiler: SQLCompiler, **kwargs: object) -> str:
    text, sought = (compiler.process(each, **kwargs) for each in element.clauses)
    return f"strpos({text}, {sought})"


@compiles(place_of, "sqlite")
def _instr(element: place_of, compiler: SQLCompiler, **kwargs: object) -> str:
    text, sought = (compiler.process(each, **kwargs) for each in element.clauses)
    return f"instr({text}, {sought})"


@compiles(place_of_lowered)
def _strpos_lowered(element: place_of_lowered, compiler: SQLCompiler, **kwargs: object) -> str:
    text, sought = (compiler.process(each, **kwargs) for each in element.clauses)
    return f'strpos(lower({text} COLLATE "C"), {sought})'


@compiles(place_of_lowered, "sqlite")
def _instr_lowered(element: place_of_lowered, compiler: SQLCompiler, **kwargs: object) -> str:
    text, sought = (compiler.process(each, **kwargs) for each in element.clauses)
    return f"instr(lower({text}), {sought})"


@dataclass(frozen=True, slots=True)
class _Run:
    last_seq: int
    is_final: bool
    kept_from: int
    removed: int


def page(connection: Connection, run_id: str, query: LogQuery) -> LogPage:
    """Return a page, in order of the numbers.

    Raises:
        NotFound: There is no such run.
    """
    run = _run(connection, run_id)
    low = min(query.after, run.last_seq)
    if query.since is not None:
        low = max(low, first_since(connection, run_id, run.last_seq, query.since) - 1)
    high = run.last_seq if query.before is None else min(query.before - 1, run.last_seq)
    high = max(low, high)
    walk = _Walk(connection, run_id, query.wanted, low, high, query.limit)
    seen_from, seen_to = walk.backward() if query.newest else walk.forward(_first_kept(run, query.wanted, low, high))
    found = walk.found
    if not query.wanted.events:
        found += truncations(connection, run_id, query.wanted, seen_from, seen_to)
        found.sort(key=lambda record: record.seq)
    if run.removed and seen_from < min(run.kept_from - 1, seen_to):
        found.insert(0, gap(seen_from + 1, min(run.kept_from - 1, seen_to), run.removed))
    return LogPage(
        tuple(traced(connection, run_id, found)),
        next=seen_to,
        previous=seen_from + 1 if seen_from > 0 else None,
        more=seen_from > low if query.newest else seen_to < high,
        is_final=run.is_final and seen_to == run.last_seq,
    )


def tail(connection: Connection, run_id: str, after: int, limit: int) -> TailPage:
    """Return the records, events and lines, among the ``limit`` numbers that follow ``after``.

    Raises:
        NotFound: There is no such run.
    """
    run = _run(connection, run_id)
    records = journal.read(connection, run_id, after, limit) if after < run.last_seq and limit else []
    return TailPage(tuple(records), run.last_seq, run.is_final, run.kept_from, run.removed)


def gap(first: int, last: int, removed: int) -> JournalRecord:
    """Return the record that stands for lines that are kept no more; its own number is the one before them."""
    lines = removed if first == 1 else None
    what = "Lines were" if lines is None else "1 line was" if lines == 1 else f"{lines} lines were"
    message = f"{what} removed by retention, up to number {last}."
    data: dict[str, Json] = {"from": first, "to": last, "lines": lines, "reason": "retention"}
    return JournalRecord(first - 1, now(), "gap", "gap", None, None, None, "removed", message, data)


def _run(connection: Connection, run_id: str) -> _Run:
    row = connection.execute(_RUN, {"run_id": run_id}).first()
    if row is None:
        raise NotFound("run", run_id)
    return _Run(row.last_seq, row.finished_at is not None, row.logs_kept_from, row.logs_removed)


def _first_kept(run: _Run, wanted: LogFilter, low: int, high: int) -> int:
    """Return after which number there is something to be seen."""
    return low if wanted.events else min(max(low, run.kept_from - 1), high)


class _Walk:
    """Goes through the numbers above ``low``, up to ``high``, until there is enough of it."""

    def __init__(self, connection: Connection, run_id: str, wanted: LogFilter, low: int, high: int, limit: int) -> None:
        self._connection = connection
        self._run_id = run_id
        self._wanted = wanted
        self._low = low
        self._high = high
        self._limit = limit
        self._text = 0
        self._deadline = time.monotonic() + _MOST_S
        bare = replace(wanted, events=False) == LogFilter()
        self._step = _CHUNK if wanted.events else high - low if bare else _WINDOW
        self.found: list[JournalRecord] = []

    def forward(self, start: int) -> tuple[int, int]:
        """Return after which number it began, and up to which it went."""
        at = start
        while at < self._high and self._goes_on(at - start):
            end = min(at + self._step, self._high)
            last = self._take(self._read(at, end, newest=False))
            at = end if last is None else last
        return self._low, at

    def backward(self) -> tuple[int, int]:
        """Begin at the end; return the same as `forward`."""
        at = self._high
        while at > self._low and self._goes_on(self._high - at):
            end = max(at - self._step, self._low)
            last = self._take(self._read(end, at, newest=True))
            at = end if last is None else last - 1
        self.found.reverse()
        return at, self._high

    def _goes_on(self, seen: int) -> bool:
        if len(self.found) >= self._limit or self._text >= _MOST_TEXT:
            return False
        return seen == 0 or (seen < _MOST_SEEN and time.monotonic() < self._deadline)

    def _take(self, records: Sequence[JournalRecord]) -> int | None:
        """Keep what is wanted; return the number of the last one looked at, None where it was all there was."""
        for record in records:
            if record.kind == "log" and not self._wanted.is_grave(record.type, record.message):
                continue
            self.found.append(record)
            self._text += len(record.message)
            if len(self.found) >= self._limit or self._text >= _MOST_TEXT:
                return record.seq
        return records[-1].seq if not self._wanted.events and len(records) == _CHUNK else None

    def _read(self, low: int, high: int, *, newest: bool) -> list[JournalRecord]:
        read = self._records if self._wanted.events else self._lines
        return read(low, high, newest=newest)

    def _lines(self, low: int, high: int, *, newest: bool) -> list[JournalRecord]:
        query = lines_query(self._run_id, self._wanted, low, high, newest=newest)
        return [_record(row) for row in self._connection.execute(query.limit(_CHUNK))]

    def _records(self, low: int, high: int, *, newest: bool) -> list[JournalRecord]:
        found = journal.read(self._connection, self._run_id, low, high - low)
        kept = [record for record in found if wants(self._wanted, record)]
        return kept[::-1] if newest else kept


def wants(wanted: LogFilter, record: JournalRecord) -> bool:
    """Tell whether a reader wants a record; what says that something is missing, or over, everybody wants."""
    if record.kind == "gap" or record.is_end:
        return True
    if not wanted.is_about(record.scope, record.node, record.iteration, record.attempt):
        return False
    if record.kind == "log":
        return wanted.takes_text(record.type, record.message)
    return wanted.events or record.is_truncation


def lines_query(run_id: str, wanted: LogFilter, low: int, high: int, *, newest: bool) -> Select[Any]:
    """Return the statement of the lines above ``low``, up to ``high``; the level is left to the reader."""
    log = tables.log_record.c
    query = select(tables.log_record).where(log.run_id == run_id, log.seq > low, log.seq <= high, *_conditions(wanted))
    return query.order_by(log.seq.desc() if newest else log.seq)


def _conditions(wanted: LogFilter) -> Iterable[ColumnElement[bool]]:
    log = tables.log_record.c
    for name in ("scope", "node", "iteration", "attempt", "stream"):
        value = getattr(wanted, name)
        if value is not None:
            yield log[name] == value
    if wanted.grep is not None:
        text, sought = log.text, storable(wanted.grep)
        found = place_of_lowered(text, lowered(sought)) if wanted.ignore_case else place_of(text, sought)
        yield found > 0


def _record(row: Row[Any]) -> JournalRecord:
    data: dict[str, Json] = {"elapsed_s": row.elapsed_s, "cut": row.is_cut}
    which = (row.node, row.iteration, row.attempt)
    return JournalRecord(row.seq, row.ts, "log", row.stream, *which, "running", row.text, data, row.scope)
