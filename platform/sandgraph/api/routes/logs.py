"""What a run printed: in pages, as text, as a file, and live."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sandgraph.api.following import as_event, as_line, one_line, start_of, told
from sandgraph.api.live import EVENTS, Live
from sandgraph.api.log_views import log_view, text_of
from sandgraph.api.reply import reply, to_json
from sandgraph.api.routes.common import Reads, RunId, answers, known_id
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import LogPageAnswer
from sandgraph.api.schemas.logs import MOST_RECORDS, LogParameters
from sandgraph.api.services import Services
from sandgraph.errors import InvalidInput
from sandgraph.store.records import LogPage, LogQuery

router = router_of("runs")

_TEXT = "text/plain; charset=utf-8"
_LINES = "application/x-ndjson"

#: Of zlib: with the header and the end that gzip has.
_GZIP = 31

_EXAMPLE = "2026-11-23T12:00:00.130000Z double stderr: WARNING: nothing to double\n"

_FORMS = {
    "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
    # A record a line.
    _LINES: {"schema": {"$ref": "#/components/schemas/LogRecord"}},
    EVENTS: {
        # One of its events.
        "schema": {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}},
        "example": 'id: 6\nevent: log\ndata: {"seq": 6, "kind": "log", "message": "nothing to double", "…": "…"}\n\n',
    },
}

LastEventId = Annotated[
    str | None,
    Header(
        pattern=r"^[0-9]{1,18}$", description="Of the last server-sent event that was seen: it wins over the query."
    ),
]


def _described() -> dict[int | str, dict[str, object]]:
    described = answers({200: (LogPageAnswer, "A page, or all of it.")}, 404, 422, 503)
    described[200]["content"] = dict(_FORMS)
    described[204] = {
        "description": "The run has ended, and the reader that comes back has seen all of it.",
        "content": {},
    }
    described[200]["headers"] = {
        name: {"description": f"`{member}` of the page, where it is text.", "schema": {"type": "string"}}
        for name, member in (("X-Log-Next", "next"), ("X-Log-Previous", "previous"), ("X-Log-More", "more"))
    }
    return described


@router.get("/graph/logs/{run_id}", summary="Read what a run printed", responses=_described())
async def read_log(
    run_id: RunId,
    query: Annotated[LogParameters, Query()],
    request: Request,
    uses: Reads,
    last_event_id: LastEventId = None,
) -> Response:
    """Read the lines that a run's attempts printed, in a page of JSON or text, all of them as a file, or live.

    All parameters together say which lines; work for one page is bounded, so a page may be empty while `more` is true.
    """
    run_id = known_id("run", run_id)
    if query.follow or EVENTS in request.headers.get("accept", ""):
        return await _live(uses, run_id, query, last_event_id)
    if query.download:
        accepted = re.split(r"[\s,;]+", request.headers.get("accept-encoding", ""))
        return await _file(uses, run_id, query, is_packed="gzip" in accepted)
    page = await uses.reader.log(run_id, query.query())
    if query.is_text:
        return Response(await asyncio.to_thread(_text, page), headers=_cursors(page), media_type=_TEXT)
    return await asyncio.to_thread(_page, run_id, page)


async def _live(uses: Services, run_id: str, query: LogParameters, last_event_id: str | None) -> Response:
    for name in ("before", "download"):
        if getattr(query, name):
            raise InvalidInput.at(name, "not_together", "It cannot be asked for live.")
    run, wanted = await uses.reader.run_summary(run_id), query.wanted(events=query.events)
    if last_event_id is None:
        after = await start_of(uses, run_id, query, wanted)
    else:
        after = int(last_event_id)
        if run.is_final and after >= run.last_seq:
            # Else it would come back for ever.
            return Response(status_code=204)
    records = told(uses, run_id, after, wanted)
    return Live(records, as_line, _TEXT) if query.format == "text" else Live(records, as_event, EVENTS)


def _page(run_id: str, page: LogPage) -> Response:
    return reply(
        {
            "run_id": run_id,
            "records": [log_view(record) for record in page.records],
            "next": page.next,
            "previous": page.previous,
            "more": page.more,
            "final": page.is_final,
        }
    )


def _cursors(page: LogPage) -> dict[str, str]:
    cursors = {"X-Log-Next": str(page.next), "X-Log-More": str(page.more).lower()}
    return cursors if page.previous is None else {**cursors, "X-Log-Previous": str(page.previous)}


def _text(page: LogPage) -> bytes:
    return "".join(f"{text_of(record)}\n" for record in page.records).encode("utf-8", "replace")


def _documents(page: LogPage) -> bytes:
    return "".join(f"{one_line(to_json(log_view(record)))}\n" for record in page.records).encode("utf-8", "replace")


async def _file(uses: Services, run_id: str, parameters: LogParameters, *, is_packed: bool) -> Response:
    # Asked for once before: what is wrong is no file.
    query = parameters.query()
    first = await uses.reader.log(run_id, query)
    ending = "log" if parameters.is_text else "ndjson"
    headers = {
        "Content-Disposition": f'attachment; filename="{run_id}.{ending}"',
        "Vary": "Accept-Encoding",
        **({"Content-Encoding": "gzip"} if is_packed else {}),
    }
    chunks = _chunks(uses, run_id, query, first, is_text=parameters.is_text)
    media_type = _TEXT if parameters.is_text else f"{_LINES}; charset=utf-8"
    return StreamingResponse(_packed(chunks) if is_packed else chunks, headers=headers, media_type=media_type)


async def _chunks(
    uses: Services, run_id: str, query: LogQuery, page: LogPage, *, is_text: bool
) -> AsyncIterator[bytes]:
    """Yield the log page by page: no more than one is in memory, however slow the client is."""
    while True:
        # On a thread, as each has up to a megabyte.
        yield await asyncio.to_thread(_text if is_text else _documents, page)
        if query.newest or not page.more:
            return
        query = replace(query, after=page.next, since=None, limit=MOST_RECORDS)
        page = await uses.reader.log(run_id, query)


async def _packed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP)
    async for chunk in chunks:
        if packed := await asyncio.to_thread(packer.compress, chunk):
            yield packed
    yield packer.flush()
