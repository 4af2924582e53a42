"""Webhooks, and the one call by which a run's end is told to them: in the transaction that ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, true, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.run import RunStatus
from sandgraph.model.webhooks import GIVE_UP_AFTER, ROTATION, TEST_EVENT, DeliveryStatus, event_of
from sandgraph.store import cursors, tables
from sandgraph.store.columns import now, to_json
from sandgraph.store.ids import new_id
from sandgraph.store.prepared import Prepared
from sandgraph.store.records import Page
from sandgraph.store.webhook_records import Changes, NewWebhook, Webhook

#: Webhooks of one tenant.
MOST_WEBHOOKS = 20

#: Deliveries to one webhook that wait; further ones are not kept, and counted.
MOST_PENDING = 10_000

_LIST = "webhooks"

_HOOK = tables.webhook.c
_RUN = tables.run.c

# Asked at the end of every run, whoever has webhooks.
_COUNT = Prepared(
    select(func.count())
    .select_from(tables.webhook.join(tables.run, _HOOK.tenant == _RUN.tenant))
    .where(_RUN.id == bindparam("run_id"))
)


def enqueue(connection: Connection, run_id: str) -> None:
    """Keep a delivery for each webhook that is to be told of the end of a run, whose row says how it ended."""
    if not _COUNT.scalar(connection, {"run_id": run_id}):
        return
    run = connection.execute(select(tables.run).where(_RUN.id == run_id)).one()
    event = event_of(RunStatus(run.status))
    wanted = (
        select(_HOOK.id, _HOOK.events, _HOOK.pending)
        .where(_HOOK.tenant == run.tenant, _HOOK.is_enabled == true())
        .where(_HOOK.graph.is_(None) | (_HOOK.graph == run.graph_name))
        .order_by(_HOOK.id)
    )
    body: str | None = None
    for hook in connection.execute(wanted).all():
        if event.value not in hook.events:
            continue
        body = body or to_json(
            {"type": event.value, "timestamp": _text(run.finished_at), "data": _run_data(connection, run)}
        )
        add(connection, hook.id, hook.pending, event.value, run_id, body)


def add(connection: Connection, webhook_id: str, pending: int, event: str, run_id: str | None, body: str) -> str | None:
    """Keep a delivery and return its id; None where too many wait."""
    hook = update(tables.webhook).where(_HOOK.id == webhook_id)
    if pending >= MOST_PENDING:
        connection.execute(hook.values(dropped=_HOOK.dropped + 1))
        return None
    delivery_id, ts = new_id("msg"), now()
    connection.execute(
        insert(tables.webhook_delivery),
        {
            "id": delivery_id,
            "webhook_id": webhook_id,
            "event": event,
            "run_id": run_id,
            "body": body,
            "status": DeliveryStatus.PENDING.value,
            "attempts": 0,
            "tries": [],
            "next_at": ts,
            "give_up_at": ts + GIVE_UP_AFTER,
            "created_at": ts,
            "finished_at": None,
        },
    )
    connection.execute(hook.values(pending=_HOOK.pending + 1))
    return delivery_id


def create(connection: Connection, tenant: str, new: NewWebhook) -> Webhook:
    """Keep a webhook.

    Raises:
        Conflict: The tenant has as many as it may have (``too_many_webhooks``).
    """
    count = connection.scalar(select(func.count()).select_from(tables.webhook).where(_HOOK.tenant == tenant)) or 0
    if count >= MOST_WEBHOOKS:
        raise Conflict(f"There are {count} webhooks already; remove one first.", code="too_many_webhooks")
    webhook_id, ts = new_id("webhook"), now()
    connection.execute(
        insert(tables.webhook),
        {
            "id": webhook_id,
            "tenant": tenant,
            "url": new.url,
            "events": list(new.events),
            "graph": new.graph,
            "description": new.description,
            "secret": new.secret,
            "old_secret": None,
            "old_secret_until": None,
            "is_enabled": new.is_enabled,
            "disabled_reason": None,
            "version": 1,
            "failures": 0,
            "closed_until": None,
            "pending": 0,
            "dropped": 0,
            "created_at": ts,
            "updated_at": ts,
        },
    )
    return get(connection, tenant, webhook_id)


def get(connection: Connection, tenant: str, webhook_id: str) -> Webhook:
    """Return a webhook.

    Raises:
        NotFound: The tenant has none of that id.
    """
    row = connection.execute(select(tables.webhook).where(_HOOK.id == webhook_id, _HOOK.tenant == tenant)).first()
    if row is None:
        raise NotFound("webhook", webhook_id)
    return webhook_of(row)


def page(connection: Connection, tenant: str, cursor: str | None, limit: int) -> Page[Webhook]:
    """Return a tenant's webhooks, newest first."""
    before = cursors.decode(_LIST, cursor)
    query = select(tables.webhook).where(_HOOK.tenant == tenant).order_by(_HOOK.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(_HOOK.id < before)
    found = [webhook_of(row) for row in connection.execute(query)]
    return cursors.page(_LIST, found, limit, lambda each: each.webhook_id)


def change(connection: Connection, tenant: str, webhook_id: str, changes: Changes, version: int | None) -> Webhook:
    """Change a webhook; one that is changed begins anew, whatever failed before.

    Raises:
        NotFound: The tenant has none of that id.
        Conflict: It is not of that version any more (``webhook_changed``).
    """
    known = get(connection, tenant, webhook_id)
    if version not in {None, known.version}:
        message = f"The webhook {webhook_id} was changed meanwhile: it is version {known.version} now."
        raise Conflict(message, code="webhook_changed")
    if not changes:
        return known
    fresh = {"failures": 0, "closed_until": None, "disabled_reason": None, "updated_at": now()}
    connection.execute(
        update(tables.webhook).where(_HOOK.id == webhook_id).values(**fresh, **changes, version=_HOOK.version + 1)
    )
    return get(connection, tenant, webhook_id)


def rotate(connection: Connection, tenant: str, webhook_id: str, secret: str) -> Webhook:
    """Give a webhook another secret; the present one signs too for a day.

    Raises:
        NotFound: The tenant has none of that id.
    """
    get(connection, tenant, webhook_id)
    ts = now()
    connection.execute(
        update(tables.webhook)
        .where(_HOOK.id == webhook_id)
        .values(
            old_secret=_HOOK.secret,
            old_secret_until=ts + ROTATION,
            secret=secret,
            version=_HOOK.version + 1,
            updated_at=ts,
        )
    )
    return get(connection, tenant, webhook_id)


def remove(connection: Connection, tenant: str, webhook_id: str) -> Webhook:
    """Remove a webhook and all that it was told, and return it as it was.

    Raises:
        NotFound: The tenant has none of that id.
    """
    known = get(connection, tenant, webhook_id)
    connection.execute(delete(tables.webhook_delivery).where(tables.webhook_delivery.c.webhook_id == webhook_id))
    connection.execute(delete(tables.webhook).where(_HOOK.id == webhook_id))
    return known


def ping(connection: Connection, tenant: str, webhook_id: str) -> str:
    """Keep a delivery that says nothing, and return its id.

    Raises:
        NotFound: The tenant has none of that id.
        Conflict: It is disabled (``webhook_disabled``), or too much waits for it (``webhook_queue_full``).
    """
    known = get(connection, tenant, webhook_id)
    refuse_disabled(known)
    body = to_json({"type": TEST_EVENT, "timestamp": _text(now()), "data": {"webhook_id": webhook_id}})
    made = add(connection, webhook_id, known.pending, TEST_EVENT, None, body)
    if made is None:
        raise queue_full(known)
    return made


def refuse_disabled(known: Webhook) -> None:
    """Do nothing, unless nothing is sent to a webhook.

    Raises:
        Conflict: It is disabled (``webhook_disabled``).
    """
    if not known.is_enabled:
        message = f"The webhook {known.webhook_id} is disabled; enable it first."
        raise Conflict(message, code="webhook_disabled")


def queue_full(known: Webhook) -> Conflict:
    """Return the error that says that too many deliveries wait."""
    return Conflict(f"{known.pending} deliveries wait for the webhook {known.webhook_id}.", code="webhook_queue_full")


def webhook_of(row: Row[Any]) -> Webhook:
    """Return a row's webhook, without its secrets."""
    events: Sequence[str] = row.events
    return Webhook(
        webhook_id=row.id,
        tenant=row.tenant,
        url=row.url,
        events=tuple(events),
        graph=row.graph,
        description=row.description,
        is_enabled=row.is_enabled,
        disabled_reason=row.disabled_reason,
        version=row.version,
        failures=row.failures,
        closed_until=row.closed_until,
        pending=row.pending,
        dropped=row.dropped,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _run_data(connection: Connection, run: Row[Any]) -> dict[str, object]:
    """Return what is told of a run: never its state, nor a message, which may quote it."""
    failure = run.failure or {}
    noted = tables.run_annotation.c
    tags: Sequence[str] | None = connection.scalar(select(noted.tags).where(noted.run_id == run.id))
    return {
        "run_id": run.id,
        "graph_id": run.graph_id,
        "graph_name": run.graph_name,
        "status": run.status,
        "tags": list(tags or ()),
        "error": {"code": failure.get("code"), "node": failure.get("node")} if failure else None,
        "created_at": _text(run.created_at),
        "started_at": _text(run.started_at),
        "finished_at": _text(run.finished_at),
    }


def _text(time: datetime | None) -> str | None:
    return time.isoformat().replace("+00:00", "Z") if time else None
