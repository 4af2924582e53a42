"""Webhooks and their deliveries as clients get them; `schemas.webhook` describes each."""

from __future__ import annotations

from datetime import UTC, datetime

from sandgraph.store.webhook_records import Delivery, Webhook

Document = dict[str, object]


def webhook_view(webhook: Webhook) -> Document:
    """Return a webhook, without its secret."""
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "events": list(webhook.events),
        "graph": webhook.graph,
        "description": webhook.description,
        "enabled": webhook.is_enabled,
        "disabled_reason": webhook.disabled_reason,
        "version": webhook.version,
        "failures": webhook.failures,
        "paused_until": _time(webhook.closed_until),
        "pending": webhook.pending,
        "dropped": webhook.dropped,
        "created_at": _time(webhook.created_at),
        "updated_at": _time(webhook.updated_at),
    }


def delivery_view(delivery: Delivery) -> Document:
    """Return a delivery, without what it says."""
    return {
        "delivery_id": delivery.delivery_id,
        "webhook_id": delivery.webhook_id,
        "event": delivery.event,
        "run_id": delivery.run_id,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "tries": [
            {"at": _time(each.at), "status": each.status, "latency_ms": each.latency_ms, "error": each.error}
            for each in delivery.tries
        ],
        "next_attempt_at": _time(delivery.next_at),
        "created_at": _time(delivery.created_at),
        "finished_at": _time(delivery.finished_at),
    }


def _time(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None
