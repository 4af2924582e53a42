"""Who may do what: API keys, tickets for streams, and who one is."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from sandgraph.api.auth.admission import Admission, demand
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.public import STREAMS
from sandgraph.api.auth.tickets import GOOD_FOR_S
from sandgraph.api.body import body_of
from sandgraph.api.problem import HttpError
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, AdministersKeys, Asker, ListQuery, Reads, answers, known_id, takes
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.access import ApiKeyDocument, TicketDocument
from sandgraph.api.schemas.access_answers import ApiKeyAnswer, ApiKeyList, ApiKeyMade, TicketAnswer, WhoamiAnswer
from sandgraph.api.schemas.validation import parser
from sandgraph.api.views import admission_view, key_view, ticket_view
from sandgraph.errors import InvalidInput, Problem, Unavailable
from sandgraph.model.access import TENANT_PATTERN, Principal, is_operator

logger = logging.getLogger(__name__)

router = router_of("access")


async def gate_of(connection: HTTPConnection) -> Gate:
    """Return what lets people in.

    Raises:
        Unavailable: The application is part of a program, and lets in whoever that lets in.
    """
    gate: Gate | None = connection.app.state.gate
    if gate is None:
        raise Unavailable("This application has no keys of its own.", code="unavailable")
    return gate


async def admission_of(connection: HTTPConnection, asker: Asker) -> Admission:
    """Return what whoever asks was let in with."""
    admission: Admission = getattr(connection.state, "admission", Admission(asker))
    return admission


Gates = Annotated[Gate, Depends(gate_of)]
KeyId = Annotated[str, Path(description="The API key's id; not the key.")]


class KeyQuery(ListQuery):
    """Which keys are listed."""

    tenant: str | None = Field(
        default=None,
        pattern=TENANT_PATTERN,
        description="Keys of this tenant; without it, one's own. Others are for administrators of the tenant default.",
    )


@router.post(
    "/keys",
    summary="Make an API key",
    status_code=201,
    responses=answers({201: (ApiKeyMade, "Made; `key` is shown this once.")}, *BODY),
    openapi_extra=takes(ApiKeyDocument),
)
async def create_key(
    new: Annotated[ApiKeyDocument, Depends(body_of(parser(ApiKeyDocument)))], asker: AdministersKeys, gate: Gates
) -> Response:
    """Make a key, and show it once: what is kept of it cannot be turned back into it.

    From the first key on, nobody is let in without one.
    """
    tenant = _tenant(asker, new.tenant)
    demand(asker, frozenset(new.scopes))
    made, text = await gate.keys.create(
        tenant, new.name, frozenset(new.scopes), created_by=asker.subject, expires_in=new.expires_in
    )
    gate.shut()
    logger.info("an API key was made", extra={"action": "key_made", "key_id": made.key_id, "by": asker.subject})
    # No cache between here and there may keep it.
    return reply({**key_view(made), "key": text}, status=201, headers={"Cache-Control": "no-store"})


@router.get("/keys", summary="List API keys", responses=answers({200: (ApiKeyList, "A page.")}, 422))
async def list_keys(query: Annotated[KeyQuery, Query()], asker: AdministersKeys, gate: Gates) -> Response:
    """List keys, newest first, also those that expired or were revoked. None of them shows its secret."""
    tenant = _tenant(asker, query.tenant)
    page = await gate.keys.page(tenant, cursor=query.cursor, limit=query.limit)
    return reply({"keys": [key_view(key) for key in page.items], "next_cursor": page.next_cursor})


@router.delete(
    "/keys/{key_id}",
    summary="Revoke an API key",
    responses=answers({200: (ApiKeyAnswer, "It opens nothing any more.")}, 403, 404, 422),
)
async def revoke_key(key_id: KeyId, asker: AdministersKeys, gate: Gates) -> Response:
    """Let a key open nothing from now on; streams that it opened end within a minute. It stays in the list."""
    try:
        revoked = await gate.keys.revoke(known_id("key", key_id), None if is_operator(asker) else asker.tenant)
    finally:
        gate.forget(key_id)
    logger.info("an API key was revoked", extra={"action": "key_revoked", "key_id": key_id, "by": asker.subject})
    return reply(key_view(revoked))


@router.get("/whoami", summary="Read who one is", responses=answers({200: (WhoamiAnswer, "You.")}))
async def whoami(asker: Asker, admission: Annotated[Admission, Depends(admission_of)]) -> Response:
    """Read which tenant's things are seen with what came, and what it lets do."""
    return reply(admission_view(asker, admission.expires_at, is_open=admission.is_open))


@router.post(
    "/tickets",
    summary="Get a ticket for a stream",
    status_code=201,
    responses=answers({201: (TicketAnswer, "Good once, for this path, for 30 seconds.")}, *BODY, 404, 429),
    openapi_extra=takes(TicketDocument),
)
async def create_ticket(
    wanted: Annotated[TicketDocument, Depends(body_of(parser(TicketDocument)))],
    uses: Reads,
    admission: Annotated[Admission, Depends(admission_of)],
    gate: Gates,
) -> Response:
    """Get what a browser opens a WebSocket or an event stream with, as it can send no header there: `?ticket=`."""
    below = next((each for each in STREAMS if wanted.path.startswith(each)), None)
    if below is None:
        named = " or ".join(f"{each}{{run_id}}" for each in STREAMS)
        raise InvalidInput.at("path", "unknown_value", f"It must be {named}: a ticket is for one of these.")
    await uses.reader.run_summary(known_id("run", wanted.path.removeprefix(below)))
    ticket = gate.tickets.issue(admission, wanted.path)
    answer = ticket_view(ticket, wanted.path, datetime.now(UTC) + timedelta(seconds=GOOD_FOR_S))
    return reply(answer, status=201, headers={"Cache-Control": "no-store"})


def _tenant(asker: Principal, wanted: str | None) -> str:
    """Return whose keys are meant.

    Raises:
        HttpError: Those of others than one may manage.
    """
    if wanted is None or wanted == asker.tenant:
        return asker.tenant
    if not is_operator(asker):
        message = "Keys of other tenants are managed by administrators of the tenant default alone."
        raise HttpError(HTTPStatus.FORBIDDEN, Problem("tenant", "tenant_not_allowed", message))
    return wanted
