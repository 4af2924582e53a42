"""How often somebody may ask, how many streams they may have, and what they are told of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from api_world import World
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from sandgraph.api.app import create_app
from sandgraph.api.limits.identities import network_of
from sandgraph.api.limits.middleware import FairUse, Limits
from sandgraph.api.limits.rates import Rate, Rates
from sandgraph.api.limits.storage import BoundedStorage
from sandgraph.api.limits.streams import Streams
from sandgraph.api.problem import HttpError, respond
from sandgraph.errors import Problem
from sandgraph.model.access import ALL_SCOPES, ANYBODY, Principal
from sandgraph.settings import Settings, load_settings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Names:
    """Believes whom a request says it is: stands in for the authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope.get("headers", ()))
        if sent.get(b"authorization") == b"wrong":
            await respond(HttpError(401, Problem("", "x", "No.")))(scope, receive, send)
            return
        if said := sent.get(b"x-user"):
            tenant, _, user = said.decode().partition("/")
            scope.setdefault("state", {})["principal"] = Principal(tenant, user, ALL_SCOPES)
        elif b"x-anybody" in sent:
            scope.setdefault("state", {})["principal"] = ANYBODY
        await self._app(scope, receive, send)


def served(world: World, **bounds: int) -> TestClient:
    app = create_app(world.services, limits=Limits(load_settings(**bounds)))
    # Where the authentication is: before the counting.
    place = next(index for index, each in enumerate(app.user_middleware) if each.cls is cast("Any", FairUse))
    app.user_middleware.insert(place, Middleware(cast("Any", Names)))
    return TestClient(app, raise_server_exceptions=False)


def by(user: str) -> Mapping[str, str]:
    return {"x-user": user}


def test_a_key_that_asks_too_often_is_told_when_to_come_back(world: World) -> None:
    client = served(world, key_reads_per_minute=3, key_writes_per_minute=2)
    left = []
    for _ in range(3):
        answer = client.get("/graph/list", headers=by("acme/one"))
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"] == '"reads";q=3;w=60'
        found = re.fullmatch(r'"reads";r=([0-9]+);t=([0-9]+)', answer.headers["RateLimit"])
        assert found is not None
        left.append(int(found[1]))
    assert left == [2, 1, 0]
    refused = client.get("/graph/list", headers=by("acme/one"))
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert refused.headers["RateLimit"].startswith('"reads";r=0;t=')
    # What it changes is counted by itself, and so is another key.
    assert client.post("/graph/cancel/none", headers=by("acme/one")).status_code == 404
    assert client.get("/graph/list", headers=by("acme/two")).status_code == 200


def test_the_keys_of_a_tenant_share_its_limit_and_no_other_tenant_does(world: World) -> None:
    client = served(world, tenant_requests_per_minute=4)
    for number in range(4):
        assert client.get("/graph/list", headers=by(f"acme/{number}")).status_code == 200
    refused = client.get("/graph/list", headers=by("acme/5"))
    assert (refused.status_code, refused.headers["RateLimit-Policy"]) == (429, '"tenant";q=4;w=60')
    assert client.get("/graph/list", headers=by("other/5")).status_code == 200


def test_who_has_no_name_is_counted_by_address_and_who_may_do_everything_is_not(world: World) -> None:
    client = served(world, address_requests_per_minute=2, key_reads_per_minute=1, tenant_requests_per_minute=1)
    assert [client.get("/errors").status_code for _ in range(3)] == [200, 200, 429]
    # A deployment that runs open serves its own machine.
    anybody = {"x-anybody": "1"}
    assert [client.get("/graph/list", headers=anybody).status_code for _ in range(3)] == [200, 200, 200]


def test_an_address_that_guesses_is_turned_away_and_who_was_good_before_is_not(world: World) -> None:
    client = served(world, address_failures_per_minute=3)
    good = {**by("acme/one"), "authorization": "good"}
    assert client.get("/graph/list", headers=good).status_code == 200
    wrong = [client.get("/graph/list", headers={"authorization": "wrong"}) for _ in range(5)]
    assert [answer.status_code for answer in wrong] == [401, 401, 401, 429, 429]
    assert int(wrong[-1].headers["Retry-After"]) >= 1
    assert client.get("/graph/list", headers=good).status_code == 200
    another = {**by("acme/one"), "authorization": "another"}
    assert client.get("/graph/list", headers=another).status_code == 429, "it may be a guess"
    assert client.get("/graph/list", headers=by("acme/one")).status_code == 200, "it came with nothing to guess"


def test_a_key_opens_so_many_streams_a_minute(world: World) -> None:
    client = served(world, key_streams_per_minute=2)
    for _ in range(2):
        with client.websocket_connect("/graph/ws/none", headers=by("acme/one")) as stream:
            assert stream.receive_json()["error"]["code"] == "run_not_found"
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/graph/ws/none", headers=by("acme/one")),
    ):
        pass
    assert "429" in repr(refused.value) or refused.value.code


def test_streams_are_bounded_in_all_by_tenant_and_by_key() -> None:
    streams = Streams(most=4, most_each=3)
    one, two, other = (Principal(*each, ALL_SCOPES) for each in (("acme", "one"), ("acme", "two"), ("other", "one")))
    for _ in range(3):
        streams.enter(one)
    with pytest.raises(HttpError, match="As many streams"):
        streams.enter(one)
    streams.enter(two)
    with pytest.raises(HttpError):
        streams.enter(two)
    for _ in range(2):
        streams.enter(other)
    with pytest.raises(HttpError):
        streams.enter(other)
    for _ in range(3):
        streams.leave(one)
    streams.enter(two)
    assert len(streams) == 4


def test_a_stream_of_events_counts_as_long_as_it_is_sent(world: World) -> None:
    app = create_app(world.services, limits=Limits(load_settings(max_streams=1)))
    limits: Limits = app.state.limits

    async def one(_: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            seen.append(len(limits.streams))
            yield "data: 1\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    seen: list[int] = []
    app.add_route("/events", one)
    client = TestClient(app)
    assert client.get("/events").text == "data: 1\n\n"
    assert seen == [1]
    assert len(limits.streams) == 0
    limits.streams.enter(ANYBODY)
    refused = client.get("/events")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
    limits.streams.leave(ANYBODY)
    assert client.get("/events").status_code == 200


def test_the_window_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    clock.now = 60.0 * 20_000
    rates, rate = Rates(BoundedStorage(clock=clock), clock), Rate("reads", "me", 60)
    for _ in range(60):
        rates.take([rate])
    with pytest.raises(HttpError) as refused:
        rates.take([rate])
    # Nothing comes back before the next window, of which then half counts.
    assert refused.value.headers is not None
    clock.now += 90
    for _ in range(30):
        rates.take([rate])
    with pytest.raises(HttpError) as refused:
        rates.take([rate])
    assert (refused.value.headers or {})["Retry-After"] == "1"
    clock.now += 120
    rates.take([rate])


def test_it_counts_as_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    item = RateLimitItemPerMinute(7)
    ours, theirs = (SlidingWindowCounterRateLimiter(each) for each in (BoundedStorage(clock=clock), MemoryStorage()))
    for step in range(400):
        # Never at the very end of a window, where rounding decides.
        clock.now += (step * 7) % 23 + 0.0371
        assert ours.hit(item, "me") is theirs.hit(item, "me"), step
        assert tuple(ours.get_window_stats(item, "me")) == pytest.approx(tuple(theirs.get_window_stats(item, "me")))


def test_the_memory_of_who_asked_is_bounded() -> None:
    storage = BoundedStorage(most=100)
    rates = Rates(storage)
    for number in range(10_000):
        rates.take([Rate("address", str(number), 5)])
    assert len(storage) == 100


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("testclient", "testclient"),
        (None, ""),
    ],
)
def test_a_subscriber_is_one_address(host: str | None, network: str) -> None:
    assert network_of(None if host is None else (host, 1)) == network


def test_the_defaults_bound_everybody_who_has_a_name() -> None:
    settings = load_settings()
    assert all(
        getattr(settings, name)
        for name in Settings.model_fields
        if name.endswith("_per_minute") or name in {"max_streams", "key_max_streams", "max_connections"}
    )
