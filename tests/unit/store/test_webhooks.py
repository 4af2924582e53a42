"""Webhooks and what they are owed, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, RunStatus
from sandgraph.model.webhooks import GIVE_UP_AFTER, DeliveryStatus, WebhookEvent, new_secret
from sandgraph.store.store import Store
from sandgraph.store.webhook_records import Delivery, NewWebhook, Try, Webhook

pytestmark = pytest.mark.anyio

ALL = tuple(event.value for event in WebhookEvent)


async def hook_of(store: Store, tenant: str = "a", **more: object) -> Webhook:
    values = {"events": ALL, "graph": None, "description": "", "secret": new_secret(), **more}
    return await store.webhooks.create(tenant, NewWebhook("https://a.example/", **values))  # type: ignore[arg-type]


async def ended(store: Store, tenant: str = "a") -> str:
    graph, _ = await store.save_graph(Graph("g", (), ()), tenant=tenant)
    run, _ = await store.create_run(graph, {}, functions={}, tools={}, image="i")
    failed = RecordRun(RunStatus.FAILED, Failure("error", "It broke.", node="n"), {})
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING), failed])
    return run.run_id


async def told(store: Store, hook: Webhook, status: DeliveryStatus | None = None) -> list[Delivery]:
    page = await store.webhooks.deliveries(hook.tenant, hook.webhook_id, status=status, cursor=None, limit=100)
    return list(page.items)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


async def test_the_end_of_a_run_is_owed_to_its_tenants_webhooks_and_taken_once(store: Store) -> None:
    hook, _ = await hook_of(store, graph="g"), await hook_of(store, tenant="b")
    await hook_of(store, graph="other")
    run_id = await ended(store)
    (delivery,) = await told(store, hook)
    assert (delivery.run_id, delivery.event, delivery.status) == (run_id, "run.failed", DeliveryStatus.PENDING)
    due = await store.webhooks.next_due(soon())
    assert due is not None
    ((tenant, parcel),) = await store.webhooks.claim(soon(), 9, [], 30)
    assert (tenant, parcel.delivery_id, parcel.attempts) == ("a", delivery.delivery_id, 0)
    assert await store.webhooks.claim(soon(), 9, [], 30) == []


async def test_tries_and_their_outcome_are_kept(store: Store) -> None:
    hook = await hook_of(store)
    await ended(store)
    (delivery,) = await told(store, hook)
    at = soon()
    for is_delivered in (False, True):
        made = Try(at, 200 if is_delivered else 500, 12.5, None if is_delivered else "refused")
        await store.webhooks.settle(
            delivery.delivery_id,
            made,
            is_delivered=is_delivered,
            is_gone=False,
            next_at=lambda _: at + timedelta(seconds=5),
        )
        (delivery,) = await told(store, hook)
        assert delivery.tries[-1] == made
    assert (delivery.status, delivery.attempts, delivery.next_at) == (DeliveryStatus.DELIVERED, 2, None)
    now = await store.webhooks.get("a", hook.webhook_id)
    assert (now.pending, now.failures) == (0, 0)
    # Somebody else made it meanwhile.
    await store.webhooks.settle(
        delivery.delivery_id, delivery.tries[0], is_delivered=False, is_gone=True, next_at=lambda _: None
    )
    assert await told(store, hook) == [delivery]
    assert (await store.webhooks.get("a", hook.webhook_id)).is_enabled


async def test_lists_go_on_where_a_page_ended(store: Store) -> None:
    hooks = [await hook_of(store) for _ in range(3)]
    for _ in range(3):
        await ended(store)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.webhooks.page("a", cursor=cursor, limit=2)
        seen += [each.webhook_id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [each.webhook_id for each in reversed(hooks)]
    first = await store.webhooks.deliveries("a", hooks[0].webhook_id, status=None, cursor=None, limit=2)
    rest = await store.webhooks.deliveries(
        "a", hooks[0].webhook_id, status=DeliveryStatus.PENDING, cursor=first.next_cursor, limit=2
    )
    assert (len(first.items), len(rest.items), rest.next_cursor) == (2, 1, None)


async def test_a_change_raises_the_version_and_a_stale_one_is_refused(store: Store) -> None:
    hook = await hook_of(store)
    changed = await store.webhooks.change("a", hook.webhook_id, {"events": ["run.failed"], "graph": "g"}, 1)
    assert (changed.version, changed.events, changed.graph) == (2, ("run.failed",), "g")
    with pytest.raises(Conflict) as refused:
        await store.webhooks.change("a", hook.webhook_id, {"description": "late"}, 1)
    assert refused.value.code == "webhook_changed"
    rotated = await store.webhooks.rotate("a", hook.webhook_id, new_secret())
    assert rotated.version == 3
    await ended(store)
    ((_, parcel),) = await store.webhooks.claim(soon(), 9, [], 30)
    assert len(parcel.secrets) == 2
    assert await store.webhooks.remove("a", hook.webhook_id) == rotated.__class__(
        **{**{name: getattr(rotated, name) for name in rotated.__slots__}, "pending": 1}
    )
    with pytest.raises(NotFound):
        await store.webhooks.get("a", hook.webhook_id)


async def test_what_is_over_is_removed_in_time(store: Store) -> None:
    hook = await hook_of(store)
    await ended(store)
    late = datetime.now(UTC) + GIVE_UP_AFTER + timedelta(minutes=1)
    assert await store.webhooks.tidy(late, late - timedelta(days=7)) == 1
    assert [each.status for each in await told(store, hook)] == [DeliveryStatus.FAILED]
    assert await store.webhooks.tidy(late, late + timedelta(days=1)) == 1
    assert await told(store, hook) == []
    assert await store.webhooks.tidy(late, late) == 0
    assert await store.webhooks.next_due(late) is None


async def test_a_delivery_is_made_once_more(store: Store) -> None:
    hook = await hook_of(store)
    made = await store.webhooks.ping("a", hook.webhook_id)
    await store.webhooks.settle(
        made.delivery_id, Try(soon(), 200, 1.0, None), is_delivered=True, is_gone=False, next_at=lambda _: None
    )
    again = await store.webhooks.again("a", hook.webhook_id, made.delivery_id)
    assert (again.delivery_id, again.status, again.attempts) == (made.delivery_id, DeliveryStatus.PENDING, 0)
    await store.webhooks.release(made.delivery_id, soon())
    assert len(await store.webhooks.claim(soon() + timedelta(seconds=2), 9, [], 30)) == 1
