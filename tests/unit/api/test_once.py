"""A request with an Idempotency-Key is done once, whatever it asks for."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from api_world import World
from starlette.testclient import TestClient

from sandgraph.api.app import create_app
from sandgraph.errors import Unavailable
from sandgraph.model.access import ALL_SCOPES, Principal
from sandgraph.store.records import CodeVersion, KeptAnswer

KEY = {"Idempotency-Key": "once"}
DOUBLE = {"name": "double", "code": "def double(state):\n    return {}\n"}
OTHER = {"name": "other", "code": "def other(state):\n    return {}\n"}


def test_what_is_sent_again_is_answered_as_before(client: TestClient, world: World) -> None:
    first = client.post("/nodes/register", json=DOUBLE, headers=KEY)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
    world.catalog.code.clear()
    again = client.post("/nodes/register", json=DOUBLE, headers=KEY)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (201, first.content, "true")
    assert world.catalog.code == {}


def test_headers_that_belong_to_an_answer_come_again(client: TestClient) -> None:
    graph = {"name": "g", "nodes": [{"name": "s", "type": "start"}], "edges": []}
    first, again = (client.post("/graph/create", json=graph, headers=KEY) for _ in range(2))
    assert first.headers["location"] == again.headers["location"]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


def test_another_body_or_query_with_the_key_is_refused(client: TestClient) -> None:
    client.post("/nodes/register", json=DOUBLE, headers=KEY)
    answer = client.post("/nodes/register", json=OTHER, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert client.post("/nodes/register?x=1", json=DOUBLE, headers=KEY).status_code == 409


def test_the_key_is_of_one_path(client: TestClient, world: World) -> None:
    client.post("/nodes/register", json=DOUBLE, headers=KEY)
    assert client.post("/tools/register", json=DOUBLE, headers=KEY).status_code == 201
    assert len(world.catalog.code) == 2


def test_what_was_refused_is_not_kept(client: TestClient, world: World) -> None:
    wrong = client.post("/nodes/register", json={**DOUBLE, "code": "not python"}, headers=KEY)
    assert wrong.status_code == 422
    assert world.answers.kept == {}
    assert client.post("/nodes/register", json=DOUBLE, headers=KEY).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "tab\there"])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str) -> None:
    answer = client.post("/nodes/register", json=DOUBLE, headers=[(b"Idempotency-Key", key.encode("latin-1"))])
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "Idempotency-Key")


def test_two_keys_are_refused(client: TestClient) -> None:
    twice = httpx2.Headers([("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert client.post("/nodes/register", json=DOUBLE, headers=twice).status_code == 422


def test_a_body_that_is_too_large_is_refused_as_ever(client: TestClient) -> None:
    answer = client.post("/nodes/register", content=b"x" * 100_000, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_secret_is_shown_once_and_not_kept(client: TestClient, world: World) -> None:
    body = {"url": "https://hooks.example.invalid/sandgraph"}
    made = client.post("/webhooks", json=body, headers=KEY)
    assert made.status_code == 201
    secret = made.json()["secret"]
    [kept] = world.answers.kept.values()
    assert secret not in repr(kept)
    again = client.post("/webhooks", json=body, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_gone")
    assert len(client.get("/webhooks").json()["webhooks"]) == 1


def test_a_long_answer_is_not_kept_but_that_it_was_given(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandgraph.api.once._LONGEST", 10)
    assert client.post("/nodes/register", json=DOUBLE, headers=KEY).status_code == 201
    again = client.post("/nodes/register", json=DOUBLE, headers=KEY)
    assert again.json()["code"] == "idempotency_answer_gone"


def test_keys_of_others_are_others(world: World) -> None:
    asks = Principal("a", "one", ALL_SCOPES)

    async def call(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        scope.setdefault("state", {})["principal"] = asks
        await app(scope, receive, send)

    app = create_app(world.services)
    client = TestClient(call)
    for tenant, subject in (("a", "one"), ("a", "two"), ("b", "one")):
        asks = Principal(tenant, subject, ALL_SCOPES)
        assert "idempotent-replayed" not in client.post("/nodes/register", json=DOUBLE, headers=KEY).headers
        assert "idempotent-replayed" in client.post("/nodes/register", json=DOUBLE, headers=KEY).headers


@pytest.mark.anyio
async def test_while_one_is_being_answered_another_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    register = world.catalog.register_function

    async def slowly(name: str, code: str) -> tuple[CodeVersion, bool]:
        begun.set()
        await go_on.wait()
        return await register(name, code)

    monkeypatch.setattr(world.catalog, "register_function", slowly)
    transport = httpx2.ASGITransport(create_app(world.services))
    async with httpx2.AsyncClient(transport=transport, base_url="http://platform") as client:
        first = asyncio.create_task(client.post("/nodes/register", json=DOUBLE, headers=KEY))
        await begun.wait()
        second = await client.post("/nodes/register", json=DOUBLE, headers=KEY)
        assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
        go_on.set()
        assert (await first).status_code == 201
        third = await client.post("/nodes/register", json=DOUBLE, headers=KEY)
    assert third.headers["idempotent-replayed"] == "true"


def test_what_was_done_is_told_though_it_cannot_be_kept(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*_: object) -> None:
        raise Unavailable("The disk is full.", code="store_unavailable")

    monkeypatch.setattr(world.answers, "keep", keep)
    assert client.post("/nodes/register", json=DOUBLE, headers=KEY).status_code == 201


def test_every_post_says_that_it_takes_a_key(openapi: dict[str, Any]) -> None:
    posts = [methods["post"] for methods in openapi["paths"].values() if "post" in methods]
    assert len(posts) > 15
    for operation in posts:
        assert [each["in"] for each in operation["parameters"] if each["name"].lower() == "idempotency-key"] == [
            "header"
        ]
        assert "409" in operation["responses"]


def test_what_is_kept_has_a_fingerprint_and_no_request(client: TestClient, world: World) -> None:
    client.post("/nodes/register", json=DOUBLE, headers=KEY)
    [(place, kept)] = world.answers.kept.items()
    assert place[1] == "POST /nodes/register"
    assert isinstance(kept, KeptAnswer)
    assert len(kept.fingerprint) == 64
