"""Each end of a run is told to those who asked for it: at least once, whatever stops, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandgraph.errors import Conflict, NotFound
from sandgraph.execution.deliveries import Deliverer
from sandgraph.execution.posting import Answer, Poster
from sandgraph.model import webhooks
from sandgraph.model.commands import RecordRun
from sandgraph.model.destinations import Rules
from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, RunStatus
from sandgraph.model.webhooks import DeliveryStatus, WebhookEvent
from sandgraph.store import webhook_deliveries
from sandgraph.store import webhooks as stored
from sandgraph.store.store import Store
from sandgraph.store.webhook_records import Delivery, NewWebhook, Webhook
from sandgraph.telemetry import trace

pytestmark = pytest.mark.anyio

ALL = tuple(event.value for event in WebhookEvent)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = Answer(200, None, 1.0)
NO = Answer(500, "refused", 1.0)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass(frozen=True)
class Post:
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, object]:
        return dict(json.loads(self.body))


@dataclass
class Endpoint(Poster):
    """What stands for the network: answers by URL, and a gate that posts wait at."""

    answers: dict[str, Answer] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(Rules())

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.posts.append(Post(url, headers, body))
        if url in self.gates:
            await self.gates[url].wait()
        return self.answers.get(url, OK)


@dataclass
class World:
    store: Store
    clock: Clock
    endpoint: Endpoint
    deliverer: Deliverer

    async def hook(self, tenant: str = "a", url: str = "https://a.example/", **more: object) -> Webhook:
        values = {"events": ALL, "graph": None, "description": "", "secret": SECRET, **more}
        return await self.store.webhooks.create(tenant, NewWebhook(url, **values))  # type: ignore[arg-type]

    async def run(self, tenant: str = "a", name: str = "g") -> str:
        graph, _ = await self.store.save_graph(Graph(name, (), ()), tenant=tenant)
        run, _ = await self.store.create_run(graph, {"secret": "hush"}, functions={}, tools={}, image="i")
        return run.run_id

    async def end(self, run_id: str, status: RunStatus = RunStatus.COMPLETED) -> None:
        failure = None if status is RunStatus.COMPLETED else Failure("error", "It says hush.", node="n")
        await self.store.apply(run_id, [RecordRun(RunStatus.RUNNING), RecordRun(status, failure, {"secret": "hush"})])

    async def ended(self, tenant: str = "a", status: RunStatus = RunStatus.COMPLETED) -> str:
        run_id = await self.run(tenant)
        await self.end(run_id, status)
        return run_id

    async def round(self) -> None:
        """Make what is due, to the end."""
        # Rows are made by the real clock.
        self.clock.at = max(self.clock.at, datetime.now(UTC))
        await self.deliverer.once()
        await self.deliverer.settled()

    async def deliveries(self, hook: Webhook) -> list[Delivery]:
        page = await self.store.webhooks.deliveries(hook.tenant, hook.webhook_id, status=None, cursor=None, limit=500)
        return list(page.items)

    async def again(self, hook: Webhook) -> Webhook:
        return await self.store.webhooks.get(hook.tenant, hook.webhook_id)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store, clock, endpoint = await Store.open(tmp_path), Clock(), Endpoint()
    deliverer = Deliverer(store.webhooks, endpoint, clock)
    yield World(store, clock, endpoint, deliverer)
    await deliverer.close()
    await store.close()


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_final])
async def test_the_end_of_a_run_is_told_signed_and_without_its_state(world: World, status: RunStatus) -> None:
    await world.hook()
    run_id = await world.ended(status=status)
    await world.round()
    (post,) = world.endpoint.posts
    data = post.said["data"]
    assert isinstance(data, dict)
    assert (post.said["type"], data["run_id"], data["status"]) == (f"run.{status}", run_id, status.value)
    assert data["error"] == (None if status is RunStatus.COMPLETED else {"code": "error", "node": "n"})
    assert b"hush" not in post.body
    stamp = int(post.headers["webhook-timestamp"])
    assert stamp == int(world.clock.at.timestamp())
    signed = webhooks.signature([SECRET], post.headers["webhook-id"], stamp, post.body)
    assert post.headers["webhook-signature"] == signed


async def test_only_whats_asked_for_is_told(world: World) -> None:
    await world.hook(events=("run.failed",), url="https://failed.example/")
    await world.hook(graph="other", url="https://other.example/")
    await world.hook(is_enabled=False, url="https://off.example/")
    await world.hook(tenant="b", url="https://theirs.example/")
    await world.ended(status=RunStatus.COMPLETED)
    await world.ended(status=RunStatus.FAILED)
    await world.round()
    assert [(post.url, post.said["type"]) for post in world.endpoint.posts] == [
        ("https://failed.example/", "run.failed")
    ]


async def test_a_run_that_is_interrupted_for_good_or_given_up_is_told_too(world: World) -> None:
    await world.hook()
    given_up = await world.run()
    await world.store.apply(given_up, [RecordRun(RunStatus.RUNNING)])
    await world.store.give_up_run(given_up, Failure("not_recoverable", "It cannot go on."))
    await world.run()
    await world.store.interrupt_runs()
    await world.round()
    assert sorted(str(post.said["type"]) for post in world.endpoint.posts) == ["run.failed", "run.interrupted"]


async def test_what_was_not_delivered_when_the_platform_died_is_delivered_after_its_start(
    world: World, tmp_path: Path
) -> None:
    hook = await world.hook()
    run_id = await world.ended()
    await world.store.close()
    again = await Store.open(tmp_path)
    deliverer = Deliverer(again.webhooks, world.endpoint)
    try:
        await deliverer.once()
        await deliverer.settled()
        page = await again.webhooks.deliveries("a", hook.webhook_id, status=None, cursor=None, limit=9)
        assert [(each.run_id, each.status) for each in page.items] == [(run_id, DeliveryStatus.DELIVERED)]
    finally:
        await deliverer.close()
        await again.close()


async def test_one_who_dies_while_it_delivers_is_followed_by_another_with_the_same_id(world: World) -> None:
    await world.hook()
    await world.ended()
    await world.store.webhooks.claim(world.clock.at + timedelta(seconds=1), 9, [], 30)
    await world.round()
    assert world.endpoint.posts == []
    world.clock.move(seconds=40)
    await world.round()
    assert len(world.endpoint.posts) == 1


async def test_a_delivery_under_way_when_the_platform_stops_is_given_back(world: World) -> None:
    hook = await world.hook()
    await world.ended()
    world.endpoint.gates[hook.url] = asyncio.Event()
    world.clock.at = datetime.now(UTC)
    await world.deliverer.once()
    while not world.endpoint.posts:  # noqa: ASYNC110 - the endpoint tells nobody
        await asyncio.sleep(0)
    await world.deliverer.close()
    (delivery,) = await world.deliveries(hook)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
    assert delivery.next_at is not None
    assert delivery.next_at <= world.clock.at


async def test_it_is_tried_for_a_day_under_one_id_and_then_given_up(world: World) -> None:
    hook = await world.hook()
    world.endpoint.answers[hook.url] = NO
    began = world.clock.at
    await world.ended()
    for _ in range(200):
        await world.round()
        (delivery,) = await world.deliveries(hook)
        if delivery.status is DeliveryStatus.FAILED:
            break
        assert delivery.next_at is not None
        now = await world.again(hook)
        world.clock.at = max(delivery.next_at, now.closed_until or delivery.next_at)
    else:
        pytest.fail("it is tried without end")
    assert delivery.attempts == len(world.endpoint.posts) == len(webhooks.DELAYS_S) + 1
    assert len({post.headers["webhook-id"] for post in world.endpoint.posts}) == 1
    assert len({post.body for post in world.endpoint.posts}) == 1
    assert [each.error for each in delivery.tries] == ["refused"] * delivery.attempts
    assert timedelta(hours=17) < world.clock.at - began < webhooks.GIVE_UP_AFTER
    assert (await world.again(hook)).pending == 0


async def test_an_endpoint_that_fails_is_left_alone_and_one_delivery_finds_out_when_it_is_back(world: World) -> None:
    hook = await world.hook()
    world.endpoint.answers[hook.url] = NO
    for _ in range(6):
        await world.ended()
    while (await world.again(hook)).failures < webhooks.CIRCUIT_FAILURES:
        await world.round()
    count = len(world.endpoint.posts)
    await world.round()
    assert len(world.endpoint.posts) == count
    world.endpoint.answers[hook.url] = OK
    closed = (await world.again(hook)).closed_until
    assert closed is not None
    world.clock.at = closed
    await world.round()
    assert len(world.endpoint.posts) == count + 1
    now = await world.again(hook)
    assert (now.failures, now.closed_until) == (0, None)


async def test_410_disables_the_webhook_until_somebody_enables_it(world: World) -> None:
    hook = await world.hook()
    world.endpoint.answers[hook.url] = Answer(410, "refused", 1.0)
    await world.ended()
    await world.round()
    now = await world.again(hook)
    assert (now.is_enabled, now.disabled_reason) == (False, "gone")
    with pytest.raises(Conflict) as refused:
        await world.store.webhooks.ping("a", hook.webhook_id)
    assert refused.value.code == "webhook_disabled"
    await world.store.webhooks.change("a", hook.webhook_id, {"is_enabled": True}, None)
    world.endpoint.answers.clear()
    world.clock.move(seconds=10)
    await world.round()
    assert [each.status for each in await world.deliveries(hook)] == [DeliveryStatus.DELIVERED]


async def test_a_server_that_asks_for_time_gets_it(world: World) -> None:
    hook = await world.hook()
    world.endpoint.answers[hook.url] = Answer(429, "refused", 1.0, 600.0)
    await world.ended()
    await world.round()
    (delivery,) = await world.deliveries(hook)
    assert delivery.next_at == world.clock.at + timedelta(seconds=600)


async def test_a_dead_endpoint_of_one_tenant_delays_nobody(world: World) -> None:
    dead = [await world.hook("dead", f"https://dead-{number}.example/") for number in range(20)]
    alive = await world.hook("alive", "https://alive.example/")
    for hook in dead:
        world.endpoint.gates[hook.url] = asyncio.Event()
    for _ in range(10):
        await world.ended("dead")
    await world.ended("alive")
    world.clock.at = datetime.now(UTC)
    await world.deliverer.once()
    while (await world.again(alive)).pending:  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.01)
    # All that the other tenant has under way at one time.
    assert len(world.endpoint.posts) == 4 + 1


async def test_deliveries_to_one_endpoint_go_two_at_a_time(world: World) -> None:
    hook = await world.hook()
    world.endpoint.gates[hook.url] = asyncio.Event()
    for _ in range(5):
        await world.ended()
    world.clock.at = datetime.now(UTC)
    for _ in range(3):
        await world.deliverer.once()
    await asyncio.sleep(0)
    assert len(world.endpoint.posts) == 2
    world.endpoint.gates[hook.url].set()
    while (await world.again(hook)).pending:
        await world.round()
    assert len(world.endpoint.posts) == 5


async def test_both_secrets_sign_for_a_day_after_a_change(world: World) -> None:
    hook = await world.hook()
    new = webhooks.new_secret()
    await world.store.webhooks.rotate("a", hook.webhook_id, new)
    for _ in range(2):
        await world.ended()
        await world.round()
        world.clock.move(hours=25)
    first, second = (post.headers["webhook-signature"].split() for post in world.endpoint.posts)
    assert (len(first), len(second)) == (2, 1)
    post = world.endpoint.posts[1]
    stamp = int(post.headers["webhook-timestamp"])
    assert second == [webhooks.signature([new], post.headers["webhook-id"], stamp, post.body)]


async def test_a_delivery_is_made_once_more_under_its_own_id(world: World) -> None:
    hook = await world.hook()
    await world.ended()
    await world.round()
    (delivery,) = await world.deliveries(hook)
    await world.store.webhooks.again("a", hook.webhook_id, delivery.delivery_id)
    with pytest.raises(Conflict) as refused:
        await world.store.webhooks.again("a", hook.webhook_id, delivery.delivery_id)
    assert refused.value.code == "delivery_pending"
    await world.round()
    assert [post.headers["webhook-id"] for post in world.endpoint.posts] == [delivery.delivery_id] * 2
    assert len((await world.deliveries(hook))[0].tries) == 2


async def test_a_tenants_webhooks_are_nobody_elses(world: World) -> None:
    hook = await world.hook("a")
    await world.ended("a")
    await world.ended("b")
    (delivery,) = await world.deliveries(hook)
    hooks = world.store.webhooks
    tries = [
        hooks.get("b", hook.webhook_id),
        hooks.change("b", hook.webhook_id, {"description": "theirs"}, None),
        hooks.rotate("b", hook.webhook_id, webhooks.new_secret()),
        hooks.remove("b", hook.webhook_id),
        hooks.ping("b", hook.webhook_id),
        hooks.deliveries("b", hook.webhook_id, status=None, cursor=None, limit=9),
        hooks.delivery("b", hook.webhook_id, delivery.delivery_id),
        hooks.again("b", hook.webhook_id, delivery.delivery_id),
    ]
    for each in tries:
        with pytest.raises(NotFound):
            await each
    assert (await hooks.page("b", cursor=None, limit=9)).items == ()
    assert (await world.again(hook)).version == hook.version


async def test_no_more_waits_for_a_webhook_than_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_PENDING", 2)
    hook = await world.hook()
    for _ in range(4):
        await world.ended()
    now = await world.again(hook)
    assert (now.pending, now.dropped, len(await world.deliveries(hook))) == (2, 2, 2)
    with pytest.raises(Conflict) as refused:
        await world.store.webhooks.ping("a", hook.webhook_id)
    assert refused.value.code == "webhook_queue_full"


async def test_what_is_over_is_kept_for_a_week_and_no_more_than_a_bound_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = await world.hook()
    for _ in range(4):
        await world.ended()
    while (await world.again(hook)).pending:
        await world.round()
    world.clock.move(days=6)
    await world.round()
    assert len(await world.deliveries(hook)) == 4
    monkeypatch.setattr(webhook_deliveries, "_MOST_KEPT", 3)
    world.clock.move(minutes=2)
    await world.round()
    assert len(await world.deliveries(hook)) == 3
    world.clock.move(days=1)
    await world.round()
    assert await world.deliveries(hook) == []


async def test_what_waits_for_too_long_is_given_up(world: World) -> None:
    hook = await world.hook()
    await world.ended()
    await world.store.webhooks.change("a", hook.webhook_id, {"is_enabled": False}, None)
    world.clock.move(hours=31)
    await world.round()
    assert [each.status for each in await world.deliveries(hook)] == [DeliveryStatus.FAILED]
    assert ((await world.again(hook)).pending, world.endpoint.posts) == (0, [])


async def test_a_webhook_that_is_removed_takes_what_it_was_told_with_it(world: World) -> None:
    hook = await world.hook()
    await world.ended()
    await world.store.webhooks.remove("a", hook.webhook_id)
    await world.ended()
    await world.round()
    assert world.endpoint.posts == []


async def test_it_wakes_by_itself_and_when_it_is_rung(world: World) -> None:
    hook = await world.hook()
    world.deliverer.start()
    await world.store.webhooks.ping("a", hook.webhook_id)
    world.clock.move(seconds=5)
    world.deliverer.ring()
    async with asyncio.timeout(5):
        while not world.endpoint.posts:  # noqa: ASYNC110 - the endpoint tells nobody
            await asyncio.sleep(0.01)
    assert world.endpoint.posts[0].said["type"] == "webhook.test"


async def test_a_delivery_goes_on_with_the_trace_of_its_run_and_is_counted(world: World) -> None:
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await world.hook()
    with trace.within(trace.parse(caller)):
        run_id = await world.run()
    await world.end(run_id)
    await world.ended()
    world.endpoint.answers["https://a.example/"] = Answer(500, "refused", 1.0, None)
    await world.round()
    await world.round()
    traced, untraced = world.endpoint.posts
    assert traced.headers["traceparent"] == str(trace.run_span(caller, run_id))
    assert "traceparent" not in untraced.headers
    counted = world.deliverer._metrics.exposition("")[0]
    assert b'sandgraph_webhook_deliveries_total{outcome="refused"} 2.0' in counted
