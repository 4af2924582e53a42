"""What is deprecated says so, in its answers and in the description."""

from __future__ import annotations

from datetime import date
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from sandgraph.api.deprecations import DEPRECATED, Deprecation, Deprecations

OLD = Deprecation(date(2026, 11, 23), date(2027, 11, 23), "https://sandgraph.invalid/docs#old")


def test_answers_of_what_is_deprecated_say_so_and_no_others() -> None:
    app = FastAPI()
    app.add_middleware(Deprecations, deprecated={"old": OLD})

    @app.get("/old/{key}", name="old", deprecated=True)
    async def old(key: str) -> JSONResponse:
        return JSONResponse({}, 200 if key == "there" else 404)

    @app.get("/new", name="new")
    async def new() -> JSONResponse:
        return JSONResponse({})

    client = TestClient(app)
    for path in ("/old/there", "/old/away"):
        headers = client.get(path).headers
        assert headers["deprecation"] == "@1795392000"
        assert headers["sunset"] == "Tue, 23 Nov 2027 00:00:00 GMT"
        assert headers["link"] == '<https://sandgraph.invalid/docs#old>; rel="deprecation"; type="text/html"'
    for path in ("/new", "/nowhere"):
        assert not {"deprecation", "sunset"} & {*client.get(path).headers}


def test_what_is_described_as_deprecated_is_what_says_so(openapi: dict[str, Any]) -> None:
    operations = [operation for methods in openapi["paths"].values() for operation in methods.values()]
    described = {operation["operationId"] for operation in operations if operation.get("deprecated")}
    assert described == set(DEPRECATED)


def test_nothing_goes_away_within_half_a_year_of_its_deprecation() -> None:
    assert all((each.sunset - each.since).days >= 183 for each in [*DEPRECATED.values(), OLD])
