"""What the routes share: the services, parameters, and how their answers are described."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Header, Path, Query, Security
from fastapi.security import SecurityScopes
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.requests import HTTPConnection

from sandgraph.api.auth.admission import demand
from sandgraph.api.auth.scopes import scopes_of
from sandgraph.api.routing import ApiRoute
from sandgraph.api.schemas.tree import shown
from sandgraph.api.services import Services, ServicesFor
from sandgraph.errors import NotFound
from sandgraph.model.access import ANYBODY, Principal, Scope
from sandgraph.telemetry import context

#: The largest number that any count of ours reaches.
LARGEST = 2**63 - 1

#: Every id that was ever made looks like this; the store is not asked for others.
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def known_id(kind: str, key: str) -> str:
    """Return an id that may exist.

    Raises:
        NotFound: It has no id's form.
    """
    if not _ID.fullmatch(key):
        raise NotFound(kind, shown(key))
    return key


GraphId = Annotated[str, Path(description="The graph version.")]
RunId = Annotated[str, Path(description="The run.")]


async def principal_of(connection: HTTPConnection, _required: SecurityScopes) -> Principal:
    """Return who asks, if it may do what the route says.

    All scopes of the route are demanded, whichever of its parts asks first: before anything is read of a body.

    Raises:
        HttpError: It may not (``scope_missing``).
    """
    principal: Principal = getattr(connection.state, "principal", ANYBODY)
    if principal.tenant:
        context.add(tenant=principal.tenant)
    route = connection.scope.get("route")
    demand(principal, route.scopes if isinstance(route, ApiRoute) else scopes_of(route))
    return principal


async def services_of(connection: HTTPConnection, required: SecurityScopes) -> Services:
    """Return what whoever asks may use: there is nothing of other tenants in it; raises as `principal_of`."""
    principal = await principal_of(connection, required)
    services_for = cast("ServicesFor", connection.app.state.services)
    return services_for(principal.tenant)


#: For what is the same whoever asks; a route says with one of the others what it lets people do.
Uses = Annotated[Services, Depends(services_of)]
Reads = Annotated[Services, Security(services_of, scopes=[Scope.READ])]
Submits = Annotated[Services, Security(services_of, scopes=[Scope.SUBMIT])]
Operates = Annotated[Services, Security(services_of, scopes=[Scope.OPERATE])]
Administers = Annotated[Services, Security(services_of, scopes=[Scope.ADMIN])]


#: Who asks, where that is all there is to know.
Asker = Annotated[Principal, Security(principal_of, scopes=[])]
AdministersKeys = Annotated[Principal, Security(principal_of, scopes=[Scope.ADMIN])]

#: As every list makes them.
Cursor = Annotated[str, Field(max_length=1_024, pattern=r"^[A-Za-z0-9_-]+$")]


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


def _told_in_full(value: object) -> object:
    """Refuse what is no time in full: a number may be seconds or milliseconds, and a day has no zone."""
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise PydanticCustomError("invalid_value", "It must be a time with its zone, as 2026-11-23T12:00:00Z.")
    return value


#: A time as RFC 3339 has it.
Moment = Annotated[AwareDatetime, BeforeValidator(_told_in_full)]


class ListQuery(BaseModel):
    """Where a list goes on, and how long a page is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before.")
    limit: int = Field(default=100, ge=1, le=500, description="Most items of a page.")


Listing = Annotated[ListQuery, Query()]

#: Of an answer that tells of a run that was started.
STARTED = {
    "Location": "Where the run's status can be read.",
    "Idempotent-Replayed": "`true` where the Idempotency-Key was seen before and no run was started.",
}

#: Of an answer that a client may have already.
CACHED = {"ETag": "Names this very answer; sent back as If-None-Match, it is answered 304 while nothing changed."}

IfNoneMatch = Annotated[
    str | None,
    Header(
        max_length=1_024, description="ETags of answers that the client has.", examples=['"9f86d081884c7d659a2feaa0"']
    ),
]
IfMatch = Annotated[
    str | None,
    Header(max_length=1_024, description="The ETag of what was read, or `*`; without it 428.", examples=['"3"', "*"]),
]

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key with the same body again gives the run that it gave before.",
    ),
]


def started(run_id: str, *, is_new: bool) -> dict[str, str]:
    """Return the headers of such an answer."""
    headers = {"Location": f"/graph/status/{run_id}"}
    return headers if is_new else {**headers, "Idempotent-Replayed": "true"}


_DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "No key or token came, or none that is good here.",
    403: "What came lacks the scope, or a web page of another origin sent this.",
    304: "It is what the client has already, by its If-None-Match.",
    404: "There is nothing of that id.",
    408: "The body took too long to arrive.",
    409: "Not in the present state of things.",
    412: "It is another version by now than If-Match names.",
    413: "The body is too large.",
    415: "The body is not JSON by its headers.",
    422: "A field or parameter is wrong.",
    429: "Too many requests, or too many runs wait; Retry-After says when to try again.",
    428: "A change has to say what it changes: send If-Match.",
    500: "Something went wrong inside the platform.",
    503: "A part that is needed does not answer; Retry-After says when to try again.",
}

#: What every route that takes a body may answer.
BODY = (400, 403, 408, 413, 415, 422)

Answers = dict[int | str, dict[str, object]]


def answers(
    success: Mapping[int, tuple[type[BaseModel], str]],
    *failures: int,
    headers: Mapping[str, str] | None = None,
    other: Mapping[str, object] | None = None,
) -> Answers:
    """Describe a route's answers: models by status, and the statuses of its problems.

    Args:
        success: Model and description, by status.
        failures: The statuses of its problems; 422, for unknown parameters, and 500 always are.
        headers: Of the answers that are no problems: names with descriptions.
        other: Contents of those by media type, beside JSON.
    """
    described: Answers = {
        status: {"model": model, "description": description} for status, (model, description) in success.items()
    }
    if other:
        for each in described.values():
            each["content"] = dict(other)
    for name, description in (headers or {}).items():
        for each in described.values():
            each.setdefault("headers", {})
            cast("dict[str, object]", each["headers"])[name] = {
                "description": description,
                "schema": {"type": "string"},
            }
    for status in sorted({*failures, 422, 429, 500}):
        if status == HTTPStatus.NOT_MODIFIED:
            described[status] = {"description": _DESCRIPTIONS[status]}
            continue
        described[status] = {
            "description": _DESCRIPTIONS[status],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
        }
    return described


def takes(model: type[BaseModel], *, required: bool = True) -> dict[str, object]:
    """Describe a route's body, which the route reads by itself."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": reference}}}}
