"""Who may read the metrics, and what the API counts of itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest
from api_world import World
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Mount
from starlette.testclient import TestClient

from sandgraph.api.app import create_app
from sandgraph.api.exchange import Exchange
from sandgraph.model.access import DEFAULT_TENANT, Principal, Scope
from sandgraph.settings import Settings, load_settings
from sandgraph.telemetry.logs import fields_of
from sandgraph.telemetry.metrics import Metrics

LOCAL = ("127.0.0.1", 5000)
ELSEWHERE = ("192.0.2.7", 5000)


def client_of(world: World, peer: tuple[str, int]) -> TestClient:
    return TestClient(create_app(world.services), client=peer)


def samples(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    text = client.get("/metrics").text
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("peer", [LOCAL, ("::1", 5000)])
def test_a_program_on_the_machine_reads_them(world: World, peer: tuple[str, int]) -> None:
    answer = client_of(world, peer).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "sandgraph_build_info{" in answer.text


@pytest.mark.parametrize(
    ("peer", "headers"), [(ELSEWHERE, {}), (LOCAL, {"X-Forwarded-For": "192.0.2.7"}), (LOCAL, {"Forwarded": "for=x"})]
)
def test_others_do_not(world: World, peer: tuple[str, int], headers: Mapping[str, str]) -> None:
    answer = client_of(world, peer).get("/metrics", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "metrics_private"


def test_unless_the_deployment_lets_them(settings: Settings) -> None:
    world = World.make(load_settings(data_dir=settings.data_dir, metrics_public=True))
    assert client_of(world, ELSEWHERE).get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("tenant", "scope", "status"),
    [
        (DEFAULT_TENANT, Scope.READ, 200),
        (DEFAULT_TENANT, Scope.ADMIN, 200),
        (DEFAULT_TENANT, Scope.SUBMIT, 403),
        # They count what all tenants do.
        ("lab", Scope.READ, 403),
        ("lab", Scope.ADMIN, 403),
    ],
)
def test_a_key_of_operators_reads_them_with_the_right_scope(
    world: World, tenant: str, scope: Scope, status: int
) -> None:
    app = create_app(world.services)

    async def known(scope_: dict[str, object], receive: object, send: object) -> None:
        scope_["state"] = {"principal": Principal(tenant, "somebody", frozenset({scope}))}
        await app(scope_, receive, send)  # type: ignore[arg-type]

    assert TestClient(known, client=ELSEWHERE).get("/metrics").status_code == status  # type: ignore[arg-type]


def test_openmetrics_is_given_to_who_asks(world: World) -> None:
    answer = client_of(world, LOCAL).get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_requests_are_counted_by_route_and_never_by_what_was_asked_for(world: World) -> None:
    client = client_of(world, LOCAL)
    for name in ("a", "b", "c"):
        client.get(f"/graph/status/{name}")
        client.get(f"/no/such/{name}")
        client.request(f"ODD{name}", "/graph/list")
    counted = samples(client, "sandgraph_http_requests_total")
    assert counted["GET", "/graph/status/{run_id}", "404"] == 3
    assert counted["GET", "unmatched", "404"] == 3
    assert {method for method, _, _ in counted} == {"GET", "OTHER"}
    assert samples(client, "sandgraph_http_request_seconds_count")["GET", "/graph/status/{run_id}"] == 3


def test_an_app_without_a_platform_has_metrics_of_its_own(world: World) -> None:
    one, other = create_app(world.services), create_app(world.services)
    assert isinstance(one, FastAPI)
    assert one.state.metrics is not other.state.metrics


def sent(exchange: Exchange, *messages: dict[str, object]) -> None:
    for message in messages:
        exchange.note(message)


def followers(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.exposition("")[0].decode())
    found = [sample for family in families for sample in family.samples if sample.name == "sandgraph_followers"]
    return {sample.labels["transport"]: sample.value for sample in found}


def test_clients_that_follow_are_counted_until_they_are_gone() -> None:
    metrics = Metrics()
    socket = Exchange({"type": "websocket", "headers": [], "raw_path": b"/graph/ws/r"}, metrics)
    sent(socket, {"type": "websocket.accept"}, {"type": "websocket.send", "text": "{}"})
    events = Exchange({"type": "http", "method": "GET", "headers": [], "raw_path": b"/graph/logs/r"}, metrics)
    headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
    sent(events, {"type": "http.response.start", "status": 200, "headers": headers})
    assert followers(metrics) == {"websocket": 1, "sse": 1}
    sent(socket, {"type": "websocket.close", "code": 1000})
    socket.end()
    events.end()
    assert followers(metrics) == {"websocket": 0, "sse": 0}
    assert socket.status == 1000


def test_the_access_log_says_who_asked_and_nothing_of_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sandgraph.access")
    scope = {"type": "http", "method": "GET", "headers": [], "raw_path": b"/graph/list"}
    for principal in (Principal("acme", "key_1", frozenset(Scope), "key_1"), Principal("", "nobody", frozenset())):
        exchange = Exchange({**scope, "state": {"principal": principal}})
        exchange.note({"type": "http.response.start", "status": 200, "headers": []})
        exchange.end()
    known, nobody = map(fields_of, caplog.records)
    assert (known["tenant"], known["subject"]) == ("acme", "key_1")
    assert not {"tenant", "subject"} & set(nobody)


@pytest.mark.parametrize(("route", "status", "level"), [("/livez", 200, "debug"), ("/readyz", 503, "info")])
def test_what_machines_ask_all_day_is_logged_where_it_goes_wrong(
    caplog: pytest.LogCaptureFixture, route: str, status: int, level: str
) -> None:
    caplog.set_level(logging.DEBUG, "sandgraph.access")
    about = {"raw_path": route.encode(), "route": Mount(route, routes=[])}
    scope = {"type": "http", "method": "GET", "headers": [], **about}
    exchange = Exchange(scope)
    exchange.note({"type": "http.response.start", "status": status, "headers": []})
    exchange.end()
    assert [fields_of(record)["level"] for record in caplog.records] == [level]
