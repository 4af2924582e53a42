"""Webhooks: endpoints that are told of runs that end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Header, Path, Query
from pydantic import Field
from starlette.responses import Response

from sandgraph.api.body import body_of
from sandgraph.api.problem import HttpError
from sandgraph.api.reply import reply
from sandgraph.api.routes.common import BODY, Administers, ListQuery, Reads, answers, known_id, takes
from sandgraph.api.routing import router_of
from sandgraph.api.schemas.webhook import (
    DeliveryAnswer,
    DeliveryList,
    WebhookAnswer,
    WebhookChange,
    WebhookCreated,
    WebhookDocument,
    WebhookList,
    WebhookRequest,
    parse_change,
    parse_webhook,
)
from sandgraph.api.webhook_views import delivery_view, webhook_view
from sandgraph.errors import Conflict, Problem
from sandgraph.model.webhooks import DeliveryStatus
from sandgraph.store.webhook_records import Webhook

router = router_of("webhooks")

WebhookId = Annotated[str, Path(description="The webhook.")]
DeliveryId = Annotated[str, Path(description="The delivery.")]
IfMatch = Annotated[
    str | None,
    Header(max_length=255, description="The ETag of the version that is to be changed; no other one is then."),
]

#: No cache, and nothing else between here and there, may keep what has a secret in it.
_SECRET = {"Cache-Control": "no-store"}
_ETAG = {"ETag": "Of this version, for If-Match."}
_STRONG = re.compile(r'"([0-9]{1,18})"')


class DeliveryQuery(ListQuery):
    """Which deliveries are listed."""

    status: DeliveryStatus | None = Field(default=None, description="Deliveries of this status only.")


@router.post(
    "/webhooks",
    summary="Make a webhook",
    status_code=201,
    responses=answers(
        {201: (WebhookCreated, "The webhook, and its secret.")},
        *BODY,
        409,
        503,
        headers={"Location": "Where the webhook can be read.", **_ETAG},
    ),
    openapi_extra=takes(WebhookDocument),
)
async def create_webhook(
    webhook: Annotated[WebhookRequest, Depends(body_of(parse_webhook))], uses: Administers
) -> Response:
    """Have an endpoint told of each run that ends from now on.

    What is sent is signed with the secret, which this answer alone has.
    """
    made, secret = await uses.webhooks.create(
        webhook.url,
        webhook.events,
        graph=webhook.graph,
        description=webhook.description,
        secret=webhook.secret,
        enabled=webhook.enabled,
    )
    headers = {"Location": f"/webhooks/{made.webhook_id}", **_etag(made), **_SECRET}
    return reply({**webhook_view(made), "secret": secret}, status=201, headers=headers)


@router.get("/webhooks", summary="List webhooks", responses=answers({200: (WebhookList, "A page.")}, 422))
async def list_webhooks(query: Annotated[ListQuery, Query()], uses: Reads) -> Response:
    """List webhooks, newest first."""
    page = await uses.webhooks.page(cursor=query.cursor, limit=query.limit)
    return reply({"webhooks": [webhook_view(each) for each in page.items], "next_cursor": page.next_cursor})


@router.get(
    "/webhooks/{webhook_id}",
    summary="Read a webhook",
    responses=answers({200: (WebhookAnswer, "The webhook.")}, 404, 422, headers=_ETAG),
)
async def get_webhook(webhook_id: WebhookId, uses: Reads) -> Response:
    """Read a webhook, and how its endpoint does."""
    return _webhook(await uses.webhooks.get(known_id("webhook", webhook_id)))


@router.patch(
    "/webhooks/{webhook_id}",
    summary="Change a webhook",
    responses=answers({200: (WebhookAnswer, "As it is now.")}, *BODY, 404, 412, 503, headers=_ETAG),
    openapi_extra=takes(WebhookChange),
)
async def change_webhook(
    webhook_id: WebhookId,
    changes: Annotated[Mapping[str, object], Depends(body_of(parse_change))],
    uses: Administers,
    if_match: IfMatch = None,
) -> Response:
    """Change what is named; with `If-Match`, only if nobody else changed it meanwhile."""
    try:
        changed = await uses.webhooks.change(known_id("webhook", webhook_id), changes, _version(if_match))
    except Conflict as conflict:
        problem = Problem("If-Match", conflict.code, conflict.message)
        raise HttpError(HTTPStatus.PRECONDITION_FAILED, problem) from None
    return _webhook(changed)


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Remove a webhook",
    responses=answers({200: (WebhookAnswer, "As it was.")}, 403, 404, 422, 503),
)
async def remove_webhook(webhook_id: WebhookId, uses: Administers) -> Response:
    """Remove a webhook, with all that it was told and what it was still to be told."""
    return reply(webhook_view(await uses.webhooks.remove(known_id("webhook", webhook_id))))


@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Change a webhook's secret",
    responses=answers({200: (WebhookCreated, "The webhook, and its new secret.")}, 403, 404, 422, 503, headers=_ETAG),
)
async def rotate_webhook(webhook_id: WebhookId, uses: Administers) -> Response:
    """Make another secret. For one more day both sign what is sent, so that the receiver can be changed in between."""
    webhook, secret = await uses.webhooks.rotate(known_id("webhook", webhook_id))
    return reply({**webhook_view(webhook), "secret": secret}, headers={**_etag(webhook), **_SECRET})


@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Try a webhook out",
    status_code=202,
    responses=answers({202: (DeliveryAnswer, "It is going to be sent.")}, 403, 404, 409, 422, 503),
)
async def test_webhook(webhook_id: WebhookId, uses: Administers) -> Response:
    """Send the endpoint a `webhook.test`; the list of deliveries tells what came of it."""
    return reply(delivery_view(await uses.webhooks.ping(known_id("webhook", webhook_id))), status=202)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="List what a webhook was told",
    responses=answers({200: (DeliveryList, "A page.")}, 404, 422),
)
async def list_deliveries(webhook_id: WebhookId, query: Annotated[DeliveryQuery, Query()], uses: Reads) -> Response:
    """List deliveries, newest first, with their tries; those that are over are kept for seven days."""
    page = await uses.webhooks.deliveries(
        known_id("webhook", webhook_id), status=query.status, cursor=query.cursor, limit=query.limit
    )
    return reply({"deliveries": [delivery_view(each) for each in page.items], "next_cursor": page.next_cursor})


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    summary="Tell a webhook once more",
    status_code=202,
    responses=answers({202: (DeliveryAnswer, "It is going to be sent again.")}, 403, 404, 409, 422, 503),
)
async def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, uses: Administers) -> Response:
    """Send a delivery again that was made or given up: with the same id, by which the receiver knows it."""
    made = await uses.webhooks.redeliver(known_id("webhook", webhook_id), known_id("delivery", delivery_id))
    return reply(delivery_view(made), status=202)


def _webhook(webhook: Webhook) -> Response:
    return reply(webhook_view(webhook), headers=_etag(webhook))


def _etag(webhook: Webhook) -> dict[str, str]:
    return {"ETag": f'"{webhook.version}"'}


def _version(if_match: str | None) -> int | None:
    """Return the version that may be changed; None for any, and one that never was for what is no ETag of ours."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _STRONG.fullmatch(if_match.strip())
    return int(found[1]) if found else 0
