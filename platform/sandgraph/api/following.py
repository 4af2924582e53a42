"""A run's records for a live reader: from where on, which, and up to the end, which everybody is told."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sandgraph.api.log_views import kind_of, log_view, text_of
from sandgraph.api.reply import to_json
from sandgraph.api.schemas.logs import RecordParameters
from sandgraph.api.services import Services
from sandgraph.api.views import end_record, record_view
from sandgraph.model.log_filter import LogFilter
from sandgraph.store.logs import wants
from sandgraph.store.records import JournalRecord, LogQuery

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


class PlatformStops(Exception):
    """The records stop here, and go on after the platform's next start."""


async def start_of(uses: Services, run_id: str, parameters: RecordParameters, wanted: LogFilter) -> int:
    """Return after which number a live reader begins: with the last so many, or what was stored since a time.

    Raises:
        NotFound: There is no such run.
    """
    if parameters.tail is None and parameters.since is None:
        return parameters.after
    query = LogQuery(
        wanted,
        after=parameters.after,
        since=parameters.moment,
        limit=parameters.tail or 1,
        newest=parameters.tail is not None,
    )
    page = await uses.reader.log(run_id, query)
    return (page.previous or 1) - 1


async def told(uses: Services, run_id: str, after: int, wanted: LogFilter) -> AsyncGenerator[list[JournalRecord]]:
    """Yield the records that are wanted, up to the run's end, which comes last, and always.

    Raises:
        NotFound: There is no such run.
        PlatformStops: The run has not ended.
    """
    run = await uses.reader.run_summary(run_id)
    # A number that the run has not reached would hide its end.
    after = min(after, run.last_seq)
    if not (run.is_final and after == run.last_seq):
        async with aclosing(uses.runs.follow(run_id, after)) as batches:
            async for batch in batches:
                chosen = batch if wanted.wants_all else [record for record in batch if wants(wanted, record)]
                if chosen:
                    yield chosen
                if batch[-1].is_end:
                    return
    # The reader has seen the end, or the journal has lost it: it is told all the same.
    run = await uses.reader.run_summary(run_id)
    if not run.is_final:
        raise PlatformStops
    ends = [each for each in await uses.reader.journal(run_id, after=run.last_seq - 1, limit=1) if each.is_end]
    yield ends or [end_record(run)]


def as_record(record: JournalRecord) -> str:
    """Return a record as JSON; made once for all readers."""
    return record.memo.get("record") or record.memo.setdefault("record", to_json(record_view(record)))


def as_log(record: JournalRecord) -> str:
    """Return a record of a log as JSON; made once for all readers."""
    return record.memo.get("log") or record.memo.setdefault("log", to_json(log_view(record)))


def as_event(record: JournalRecord) -> str:
    """Return a record as a server-sent event."""
    return f"id: {record.seq}\nevent: {kind_of(record)}\ndata: {one_line(as_log(record))}\n\n"


def one_line(document: str) -> str:
    """Return a JSON text that is a line also to who takes more for a line's end than the standards do."""
    return document if document.isascii() else _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def as_line(record: JournalRecord) -> str:
    """Return a record as a line of text."""
    return record.memo.get("text") or record.memo.setdefault("text", f"{text_of(record)}\n")
