"""Functions that nodes run, and tools that functions call."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, LARGEST, ListQuery, Reads, Submits, answers, known_id, takes
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.answers import CodeAnswer, FunctionList, ToolList
from sandgraph.api.schemas.code import FunctionSource, ToolSource
from sandgraph.api.schemas.code_answers import VersionList
from sandgraph.api.schemas.validation import parser
from sandgraph.api.services import Services
from sandgraph.api.views import code_view, source_view
from sandgraph.store.filters import NameSort
from sandgraph.store.records import CodeKind, CodeVersion

router = router_of()

#: Versions are fetched so many at a time, and a page that has grown to so many characters ends.
_PART, _LONG_PAGE = 4, 4 * 1024 * 1024

# Without this, asking it with GET would tell of a function of that name that is not there.
_POST_ONLY = "register"

Name = Annotated[str, Path(description="The name that it is registered under.", examples=["double"])]


class CodeQuery(ListQuery):
    """Which functions or tools are listed, and in which order."""

    name_prefix: str = Field(default="", max_length=128, description="Those whose names begin so.")
    sort: NameSort = Field(default=NameSort.NAME, description="By name, or by when the latest version came.")


class VersionQuery(ListQuery):
    """Which versions are read."""

    version: int | None = Field(default=None, ge=1, le=LARGEST, description="This version only.")
    limit: int = Field(default=10, ge=1, le=100, description="Most items of a page.")


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
async def list_functions(query: Annotated[CodeQuery, Query()], uses: Reads) -> Response:
    """List the functions, each in its latest version."""
    return await _list(CodeKind.FUNCTION, "nodes", query, uses)


@router.get(
    "/nodes/{name}",
    tags=["nodes"],
    summary="Read a node function",
    responses=answers({200: (VersionList, "A page.")}, 404, 422),
)
async def get_function(name: Name, query: Annotated[VersionQuery, Query()], uses: Reads) -> Response:
    """Read the versions of a function with their code, the latest first. A page ends early where they are large."""
    return await _versions(CodeKind.FUNCTION, name, query, uses)


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
async def list_tools(query: Annotated[CodeQuery, Query()], uses: Reads) -> Response:
    """List the tools, each in its latest version."""
    return await _list(CodeKind.TOOL, "tools", query, uses)


@router.get(
    "/tools/{name}",
    tags=["tools"],
    summary="Read a tool",
    responses=answers({200: (VersionList, "A page.")}, 404, 422),
)
async def get_tool(name: Name, query: Annotated[VersionQuery, Query()], uses: Reads) -> Response:
    """Read the versions of a tool with their code, the latest first. A page ends early where they are large."""
    return await _versions(CodeKind.TOOL, name, query, uses)


async def _list(kind: CodeKind, field: str, query: CodeQuery, uses: Services) -> Response:
    page = await uses.reader.list_code(
        kind, prefix=query.name_prefix, sort=query.sort, cursor=query.cursor, limit=query.limit
    )
    return reply({field: [code_view(version) for version in page.items], "next_cursor": page.next_cursor})


async def _versions(kind: CodeKind, name: str, query: VersionQuery, uses: Services) -> Response:
    if name == _POST_ONLY:
        raise HTTPException(405, "This route takes POST.", {"Allow": "POST"})
    known_id(kind.value, name)
    found: list[CodeVersion] = []
    cursor, length = query.cursor, 0
    while True:
        most = min(_PART, query.limit - len(found))
        page = await uses.reader.code_versions(kind, name, version=query.version, cursor=cursor, limit=most)
        found += page.items
        length += sum(len(version.code) for version in page.items)
        cursor = page.next_cursor
        if cursor is None or len(found) >= query.limit or length >= _LONG_PAGE:
            versions = [source_view(version) for version in found]
            return reply({"name": name, "versions": versions, "next_cursor": cursor})
