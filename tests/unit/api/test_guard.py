"""What stands before every route."""

from __future__ import annotations

import logging

import pytest
from api_world import World
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sandgraph.api.guard import Guard
from sandgraph.telemetry.logs import fields_of

DOUBLE = {"name": "double", "code": "def double(state): return 2"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
    ],
)
def test_another_sites_page_changes_nothing(client: TestClient, world: World, headers: dict[str, str]) -> None:
    answer = client.post("/nodes/register", json=DOUBLE, headers={**headers, "Content-Type": "text/plain"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "cross_origin"
    assert world.stored()[0] == {}
    assert client.get("/nodes/list", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://testserver"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_own_pages_and_programs_may_change_things(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/nodes/register", json=DOUBLE, headers=headers).status_code == 201


def test_every_answer_has_an_id_that_the_log_has_too(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sandgraph.access")
    answer = client.get("/graph/a%0Ab?x=secret")
    (line,) = [fields_of(each) for each in caplog.records if each.name == "sandgraph.access"]
    assert line["message"] == "GET /graph/a%0Ab 422"
    assert line["request_id"] == answer.headers["x-request-id"]
    told = ("action", "method", "route", "status", "bytes")
    assert [line[name] for name in told] == ["request", "GET", "/graph/{graph_id}", 422, len(answer.content)]
    assert "secret" not in str(line)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_exception_that_no_handler_knows_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_request: Request) -> Response:
        raise ExceptionGroup("several", [RuntimeError("secret")])

    def stops() -> object:
        yield b"begun"
        raise RuntimeError("secret")

    async def half(_request: Request) -> Response:
        return StreamingResponse(stops())  # type: ignore[arg-type]

    app = Starlette(routes=[Route("/broken", broken), Route("/half", half)])
    app.add_middleware(Guard)
    client = TestClient(app)
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    # An answer that has begun cannot become another: the connection breaks instead.
    with pytest.raises(RuntimeError):
        client.get("/half")
