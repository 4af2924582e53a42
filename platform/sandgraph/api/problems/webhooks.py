"""What goes wrong with webhooks."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_missing, _not_now = of(404), of(409)
_ID = "webhook_01M83P6WKPG4A75175D707R5SQ"

PAGES = (
    _missing(
        "webhook_not_found",
        "There is no webhook of that id.",
        "GET /webhooks lists them.",
        f"There is no webhook {_ID!r}.",
        "webhook_id",
    ),
    _missing(
        "delivery_not_found",
        "The webhook has no delivery of that id; those that are over are kept for seven days.",
        "GET /webhooks/{webhook_id}/deliveries lists them.",
        "There is no delivery 'msg_01M83P6WKPG4A75175D707R5SQ'.",
        "delivery_id",
    ),
    of(422)(
        "url_not_allowed",
        "The URL leads where the platform sends nothing: it is not https, its port is not among "
        "`SANDGRAPH_WEBHOOK_PORTS`, or its address is not public and not in `SANDGRAPH_WEBHOOK_NETWORKS`. One that can "
        "be read in two ways is refused too.",
        "Give a plain https URL of a public host; for receivers of your own network, ask the operator.",
        "127.0.0.1 is no public address.",
        "url",
    ),
    _not_now(
        "too_many_webhooks",
        "The tenant has as many webhooks as it may have.",
        "Remove one; a webhook may be told of several events.",
        "There are 20 webhooks already; remove one first.",
    ),
    of(412)(
        "webhook_changed",
        "Somebody changed the webhook since the version that `If-Match` names.",
        "Read it again, and decide anew.",
        f"The webhook {_ID} was changed meanwhile: it is version 4 now.",
        "If-Match",
    ),
    _not_now(
        "webhook_disabled",
        "Nothing is sent to the webhook: somebody disabled it, or its endpoint answered 410.",
        'Enable it: PATCH /webhooks/{webhook_id} with `{"enabled": true}`.',
        f"The webhook {_ID} is disabled; enable it first.",
    ),
    _not_now(
        "webhook_queue_full",
        "Too many deliveries wait for the webhook.",
        "See to its endpoint; deliveries that cannot be made are given up after 30 hours.",
        f"10000 deliveries wait for the webhook {_ID}.",
    ),
    _not_now(
        "delivery_pending",
        "The delivery is still to be made, or to be tried again.",
        "Wait for it: `next_attempt_at` says when.",
        "The delivery msg_01M83P6WKPG4A75175D707R5SQ is still to be made.",
    ),
)
