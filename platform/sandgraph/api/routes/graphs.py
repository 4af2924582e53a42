"""Graphs: made once, never changed; the same name again makes the next version."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.reply import reply, reply_unless_known
from sandgraph.api.routes.common import (
    BODY,
    CACHED,
    GraphId,
    IfNoneMatch,
    ListQuery,
    Reads,
    Submits,
    answers,
    known_id,
    takes,
)
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import GraphAnswer, GraphList, GraphSummary
from sandgraph.api.schemas.graph import GraphDocument, parse_graph
from sandgraph.api.views import graph_summary, graph_view
from sandgraph.model.graph import Graph
from sandgraph.store.filters import GraphFilter, NameSort

#: To be included after all routes of one more fixed part below /graph: an id matches any of them.
router = router_of("graphs")

# Without this, asking one of them with GET would tell of a graph of that name that is not there.
_POST_ONLY = {"create", "run", "run_async"}


class GraphQuery(ListQuery):
    """Which graphs are listed."""

    name: str | None = Field(default=None, max_length=200, description="Versions of this name only.")
    name_prefix: str = Field(default="", max_length=200, description="Versions whose names begin so.")
    latest: bool = Field(default=False, description="Of each name, the latest version only.")
    sort: NameSort = Field(default=NameSort.NEWEST, description="By when they were made, or by name.")


@router.post(
    "/graph/create",
    summary="Create a graph",
    status_code=201,
    responses=answers(
        {201: (GraphSummary, "A new version."), 200: (GraphSummary, "The latest version of that name is this graph.")},
        *BODY,
        503,
        headers={"Location": "Where the graph can be read."},
    ),
    openapi_extra=takes(GraphDocument),
)
async def create_graph(graph: Annotated[Graph, Depends(body_of(parse_graph))], uses: Submits) -> Response:
    """Check and store a graph.

    Each function that it names must be registered; each condition that is an expression is compiled in a sandbox.
    """
    version, is_new = await uses.catalog.create_graph(graph)
    headers = {"Location": f"/graph/{version.graph_id}"}
    return reply(graph_summary(version), status=201 if is_new else 200, headers=headers)


@router.get("/graph/list", summary="List graphs", responses=answers({200: (GraphList, "A page.")}, 422))
async def list_graphs(query: Annotated[GraphQuery, Query()], uses: Reads) -> Response:
    """List graph versions. With filters, a page may be shorter than `limit`, and even empty, before the list's end."""
    where = GraphFilter(query.name, query.name_prefix, query.latest)
    page = await uses.reader.list_graphs(where, sort=query.sort, cursor=query.cursor, limit=query.limit)
    return reply({"graphs": [graph_summary(version) for version in page.items], "next_cursor": page.next_cursor})


@router.get(
    "/graph/{graph_id}",
    summary="Read a graph",
    responses=answers({200: (GraphAnswer, "The graph.")}, 304, 404, 422, headers=CACHED),
)
async def get_graph(request: Request, graph_id: GraphId, uses: Reads, _if_none_match: IfNoneMatch = None) -> Response:
    """Read a graph with its document, every field spelled out; posting that to /graph/create makes the same graph."""
    if graph_id in _POST_ONLY:
        raise HTTPException(405, "This route takes POST.", {"Allow": "POST"})
    return reply_unless_known(request, graph_view(await uses.reader.graph(known_id("graph", graph_id))))
