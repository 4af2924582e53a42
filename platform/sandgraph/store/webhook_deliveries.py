"""What webhooks are told: an outbox, from which each delivery is taken until it was made or is given up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, or_, select, true, update

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.webhooks import GIVE_UP_AFTER, DeliveryStatus, closed_until
from sandgraph.store import cursors, tables, webhooks
from sandgraph.store.columns import now
from sandgraph.store.records import Page
from sandgraph.store.traces import span_of
from sandgraph.store.webhook_records import Delivery, Parcel, Try

#: Deliveries at the same time to one endpoint, to one that failed, and to those of one tenant.
_AT_ONCE, _AT_ONCE_FAILING, _AT_ONCE_TENANT = 2, 1, 4

#: Tries that are kept of each delivery.
_MOST_TRIES = 20

#: Deliveries that are kept of each webhook.
_MOST_KEPT = 20_000

#: Rows that are removed in one transaction.
_REMOVED_AT_ONCE = 500

_HOOK = tables.webhook.c
_ROW = tables.webhook_delivery.c

_PENDING, _FAILED = DeliveryStatus.PENDING.value, DeliveryStatus.FAILED.value


def claim(
    connection: Connection, at: datetime, slots: int, under_way: Sequence[tuple[str, str]], hidden_s: float
) -> list[tuple[str, Parcel]]:
    """Take deliveries that are due, and return each with its tenant; nobody else takes them for a time.

    Args:
        connection: To the database.
        at: The present time.
        slots: Most of them.
        under_way: Those that are made already: webhook and tenant of each.
        hidden_s: That time: whoever took one and says nothing has died.
    """
    busy, tenants = Counter(hook for hook, _ in under_way), Counter(tenant for _, tenant in under_way)
    is_due = exists().where(_ROW.webhook_id == _HOOK.id, _ROW.next_at <= at)
    oldest = select(func.min(_ROW.next_at)).where(_ROW.webhook_id == _HOOK.id, _ROW.next_at.is_not(None))
    open_ = or_(_HOOK.closed_until.is_(None), _HOOK.closed_until <= at)
    ready = select(tables.webhook).where(_HOOK.is_enabled == true(), open_, is_due).order_by(oldest.scalar_subquery())
    hooks = connection.execute(ready).all()
    taken: list[tuple[str, Parcel]] = []
    progress = True
    while progress and len(taken) < slots:
        progress = False
        # One for each in turn, those of tenants first that have the fewest.
        for hook in sorted(hooks, key=lambda each: tenants[each.tenant]):
            most = _AT_ONCE_FAILING if hook.failures else _AT_ONCE
            if len(taken) >= slots or busy[hook.id] >= most or tenants[hook.tenant] >= _AT_ONCE_TENANT:
                continue
            parcel = _take(connection, hook, at, hidden_s)
            if parcel is None:
                continue
            taken.append((hook.tenant, parcel))
            busy[hook.id] += 1
            tenants[hook.tenant] += 1
            progress = True
    return taken


def release(connection: Connection, delivery_id: str, at: datetime) -> None:
    """Give back a delivery that was taken and not tried."""
    connection.execute(
        update(tables.webhook_delivery).where(_ROW.id == delivery_id, _ROW.status == _PENDING).values(next_at=at)
    )


def settle(
    connection: Connection,
    delivery_id: str,
    made: Try,
    *,
    is_delivered: bool,
    is_gone: bool = False,
    next_at: Callable[[int], datetime | None] = lambda _: None,
) -> None:
    """Store what a try came to.

    Args:
        connection: To the database.
        delivery_id: What was tried.
        made: The try.
        is_delivered: Whether it was taken.
        is_gone: Whether the endpoint said that it is gone for good.
        next_at: When the next try is, after so many; None where there is none.
    """
    row = connection.execute(select(tables.webhook_delivery).where(_ROW.id == delivery_id)).first()
    if row is None or row.status != _PENDING:
        # It was removed meanwhile, or somebody else made it.
        return
    attempts = row.attempts + 1
    then = None if is_delivered else next_at(attempts)
    if then is not None and then > row.give_up_at:
        then = None
    is_over = is_delivered or then is None
    status = DeliveryStatus.DELIVERED if is_delivered else DeliveryStatus.FAILED if is_over else DeliveryStatus.PENDING
    tries = [*row.tries, _try_document(made)][-_MOST_TRIES:]
    connection.execute(
        update(tables.webhook_delivery)
        .where(_ROW.id == delivery_id)
        .values(
            attempts=attempts,
            tries=tries,
            status=status.value,
            next_at=then,
            finished_at=made.at if is_over else None,
        )
    )
    _judge(connection, row.webhook_id, made.at, is_delivered=is_delivered, is_gone=is_gone, is_over=is_over)


def next_due(connection: Connection, at: datetime) -> datetime | None:
    """Return when the next delivery to an endpoint that is not left alone is due; None where there is none."""
    # Those that were left alone until lately are due when that ends.
    open_ = or_(_HOOK.closed_until.is_(None), _HOOK.closed_until <= at)
    first: datetime | None = connection.scalar(
        select(func.min(_ROW.next_at))
        .join_from(tables.webhook_delivery, tables.webhook, _ROW.webhook_id == _HOOK.id)
        .where(_ROW.next_at.is_not(None), _HOOK.is_enabled == true(), open_)
    )
    closed: datetime | None = connection.scalar(
        select(func.min(_HOOK.closed_until)).where(_HOOK.closed_until > at, _HOOK.pending > 0)
    )
    return min((each for each in (first, closed) if each is not None), default=None)


def page(
    connection: Connection, tenant: str, webhook_id: str, status: DeliveryStatus | None, cursor: str | None, limit: int
) -> Page[Delivery]:
    """Return deliveries to a webhook, newest first.

    Raises:
        NotFound: The tenant has no such webhook.
    """
    webhooks.get(connection, tenant, webhook_id)
    kind = f"deliveries-{webhook_id}"
    before = cursors.decode(kind, cursor)
    query = (
        select(tables.webhook_delivery).where(_ROW.webhook_id == webhook_id).order_by(_ROW.id.desc()).limit(limit + 1)
    )
    if status is not None:
        query = query.where(_ROW.status == status.value)
    if before is not None:
        query = query.where(_ROW.id < before)
    found = [_delivery_of(row) for row in connection.execute(query)]
    return cursors.page(kind, found, limit, lambda each: each.delivery_id)


def get(connection: Connection, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
    """Return a delivery.

    Raises:
        NotFound: The tenant has no such webhook, or that no such delivery.
    """
    webhooks.get(connection, tenant, webhook_id)
    query = select(tables.webhook_delivery).where(_ROW.id == delivery_id, _ROW.webhook_id == webhook_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound("delivery", delivery_id)
    return _delivery_of(row)


def again(connection: Connection, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
    """Have a delivery made once more that was made or given up, under its own id.

    Raises:
        NotFound: The tenant has no such webhook, or that no such delivery.
        Conflict: It is still to be made (``delivery_pending``), the webhook is disabled (``webhook_disabled``), or too
            much waits for it (``webhook_queue_full``).
    """
    known, hook = get(connection, tenant, webhook_id, delivery_id), webhooks.get(connection, tenant, webhook_id)
    webhooks.refuse_disabled(hook)
    if known.status is DeliveryStatus.PENDING:
        raise Conflict(f"The delivery {delivery_id} is still to be made.", code="delivery_pending")
    if hook.pending >= webhooks.MOST_PENDING:
        raise webhooks.queue_full(hook)
    ts = now()
    fresh = {"status": _PENDING, "attempts": 0, "next_at": ts, "give_up_at": ts + GIVE_UP_AFTER, "finished_at": None}
    connection.execute(update(tables.webhook_delivery).where(_ROW.id == delivery_id).values(**fresh))
    connection.execute(update(tables.webhook).where(_HOOK.id == webhook_id).values(pending=_HOOK.pending + 1))
    return get(connection, tenant, webhook_id, delivery_id)


def give_up(connection: Connection, at: datetime) -> int:
    """Give up what was to be made for too long, and return how many those were."""
    query = select(_ROW.id, _ROW.webhook_id).where(_ROW.next_at.is_not(None), _ROW.give_up_at <= at)
    rows = connection.execute(query.limit(_REMOVED_AT_ONCE)).all()
    for row in rows:
        over = {"status": _FAILED, "next_at": None, "finished_at": at}
        connection.execute(update(tables.webhook_delivery).where(_ROW.id == row.id).values(**over))
        connection.execute(update(tables.webhook).where(_HOOK.id == row.webhook_id).values(pending=_HOOK.pending - 1))
    return len(rows)


def prune(connection: Connection, before: datetime) -> int:
    """Remove some of what ended before then, and return how many those were."""
    ended = select(_ROW.id).where(_ROW.finished_at < before).limit(_REMOVED_AT_ONCE)
    return connection.execute(delete(tables.webhook_delivery).where(_ROW.id.in_(ended))).rowcount


def prune_many(connection: Connection) -> int:
    """Remove some of what is more than is kept of a webhook, and return how many those were."""
    removed = 0
    for webhook_id in connection.scalars(select(_HOOK.id)).all():
        nth = select(_ROW.id).where(_ROW.webhook_id == webhook_id).order_by(_ROW.id.desc()).offset(_MOST_KEPT).limit(1)
        last = connection.scalar(nth)
        if last is not None:
            older = (
                select(_ROW.id)
                .where(_ROW.webhook_id == webhook_id, _ROW.id <= last, _ROW.finished_at.is_not(None))
                .limit(_REMOVED_AT_ONCE)
            )
            removed += connection.execute(delete(tables.webhook_delivery).where(_ROW.id.in_(older))).rowcount
    return removed


def _take(connection: Connection, hook: Row[Any], at: datetime, hidden_s: float) -> Parcel | None:
    query = select(tables.webhook_delivery).where(_ROW.webhook_id == hook.id, _ROW.next_at <= at)
    row = connection.execute(query.order_by(_ROW.next_at).limit(1)).first()
    if row is None:
        return None
    hide = update(tables.webhook_delivery).where(_ROW.id == row.id, _ROW.next_at == row.next_at)
    if connection.execute(hide.values(next_at=at + timedelta(seconds=hidden_s))).rowcount == 0:
        return None
    old = [hook.old_secret] if hook.old_secret and hook.old_secret_until and hook.old_secret_until > at else []
    return Parcel(
        delivery_id=row.id,
        webhook_id=hook.id,
        url=hook.url,
        secrets=(hook.secret, *old),
        body=row.body,
        attempts=row.attempts,
        give_up_at=row.give_up_at,
        failures=hook.failures,
        trace=span_of(connection, row.run_id) if row.run_id is not None else None,
    )


def _judge(
    connection: Connection, webhook_id: str, at: datetime, *, is_delivered: bool, is_gone: bool, is_over: bool
) -> None:
    """Note of an endpoint how its last delivery went."""
    failures = connection.scalar(select(_HOOK.failures).where(_HOOK.id == webhook_id)) or 0
    failures = 0 if is_delivered else failures + 1
    values: dict[str, object] = {"failures": failures, "closed_until": closed_until(failures, at)}
    if is_over:
        values["pending"] = _HOOK.pending - 1
    if is_gone:
        values |= {"is_enabled": False, "disabled_reason": "gone"}
    connection.execute(update(tables.webhook).where(_HOOK.id == webhook_id).values(**values))


def _try_document(made: Try) -> dict[str, object]:
    return {"at": made.at.isoformat(), "status": made.status, "latency_ms": made.latency_ms, "error": made.error}


def _delivery_of(row: Row[Any]) -> Delivery:
    tries = (
        Try(datetime.fromisoformat(each["at"]), each["status"], each["latency_ms"], each["error"]) for each in row.tries
    )
    return Delivery(
        delivery_id=row.id,
        webhook_id=row.webhook_id,
        event=row.event,
        run_id=row.run_id,
        status=DeliveryStatus(row.status),
        attempts=row.attempts,
        tries=tuple(tries),
        next_at=row.next_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
