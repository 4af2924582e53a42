"""Functions that nodes run, and tools that functions call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, Listing, Reads, Submits, answers, takes
from sandgraph.api.schemas.answers import CodeAnswer, FunctionList, ToolList
from sandgraph.api.schemas.code import FunctionSource, ToolSource
from sandgraph.api.schemas.validation import parser
from sandgraph.api.views import code_view
from sandgraph.store.records import CodeKind

router = APIRouter()

_REGISTERED = {201: (CodeAnswer, "A new version."), 200: (CodeAnswer, "The latest version has this code already.")}


@router.post(
    "/nodes/register",
    tags=["nodes"],
    summary="Register a node function",
    status_code=201,
    responses=answers(_REGISTERED, *BODY, 503),
    openapi_extra=takes(FunctionSource),
)
async def register_function(
    source: Annotated[FunctionSource, Depends(body_of(parser(FunctionSource)))], uses: Submits
) -> Response:
    """Compile the code in a sandbox, see that it defines the function, and store it as a version.

    Runs in flight keep the version they started with.
    """
    version, is_new = await uses.catalog.register_function(source.name, source.code)
    return reply(code_view(version), status=201 if is_new else 200)


@router.get(
    "/nodes/list",
    tags=["nodes"],
    summary="List node functions",
    responses=answers({200: (FunctionList, "A page.")}, 422),
)
async def list_functions(listing: Listing, uses: Reads) -> Response:
    """List the functions, each in its latest version."""
    page = await uses.reader.list_code(CodeKind.FUNCTION, cursor=listing.cursor, limit=listing.limit)
    return reply({"nodes": [code_view(version) for version in page.items], "next_cursor": page.next_cursor})


@router.post(
    "/tools/register",
    tags=["tools"],
    summary="Register a tool",
    status_code=201,
    responses=answers(_REGISTERED, *BODY, 503),
    openapi_extra=takes(ToolSource),
)
async def register_tool(source: Annotated[ToolSource, Depends(body_of(parser(ToolSource)))], uses: Submits) -> Response:
    """Check and store a tool. Inside a node: `get_global_registry().invoke("my_tool", …)` or `tools.invoke(…)`."""
    version, is_new = await uses.catalog.register_tool(source.name, source.code, source.description)
    return reply(code_view(version), status=201 if is_new else 200)


@router.get(
    "/tools/list",
    tags=["tools"],
    summary="List tools",
    responses=answers({200: (ToolList, "A page.")}, 422),
)
async def list_tools(listing: Listing, uses: Reads) -> Response:
    """List the tools, each in its latest version."""
    page = await uses.reader.list_code(CodeKind.TOOL, cursor=listing.cursor, limit=listing.limit)
    return reply({"tools": [code_view(version) for version in page.items], "next_cursor": page.next_cursor})
