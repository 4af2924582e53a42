"""A client that believes no answer: each is held against its own description."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from api_world import World
from pydantic import BaseModel
from starlette.testclient import TestClient

from sandgraph.api.app import create_app
from sandgraph.api.schemas import access_answers, answers, code_answers, error_answers, tenant, webhook
from sandgraph.settings import Settings, load_settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def bounds() -> Settings:
    return load_settings(
        max_body_kb=64,
        max_nodes=5,
        max_edges=6,
        max_steps=5_000,
        max_state_depth=8,
        max_state_keys=50,
        max_state_values=1_000,
    )


@pytest.fixture
def settings(bounds: Settings, tmp_path: Path) -> Settings:
    return bounds.model_copy(update={"data_dir": tmp_path})


@pytest.fixture
def world(settings: Settings) -> World:
    return World.make(settings)


@pytest.fixture(scope="session")
def openapi() -> dict[str, Any]:
    return create_app(World.make(load_settings()).services).openapi()


@pytest.fixture
def client(world: World, app_client: TestClient) -> TestClient:
    app_client.app.state.services = world.services  # type: ignore[attr-defined]
    return app_client


@pytest.fixture(scope="session")
def app_client(openapi: dict[str, Any]) -> Iterator[TestClient]:
    """One application and its loop for all tests: each brings services of its own."""
    app = create_app(World.make(load_settings()).services)
    app.openapi_schema = openapi
    described = openapi["paths"]

    def check(response: httpx2.Response) -> None:
        response.read()
        if response.status_code == 304:
            return
        if response.status_code == 204:
            assert response.content == b""
            return
        kind = response.headers["content-type"]
        if response.status_code >= 400:
            assert kind == "application/problem+json"
            problem = answers.ProblemAnswer.model_validate_json(response.content)
            assert problem.status == response.status_code
            assert problem.type == f"/errors/{problem.code}"
        path = next((path for path in described if _fits(path, response.request.url.path)), None)
        operation = described.get(path, {}).get(response.request.method.lower())
        if operation is None:
            return
        content = operation["responses"][str(response.status_code)]["content"]
        if not kind.endswith("json"):
            assert kind.partition(";")[0] in content
            return
        schema = content[kind]["schema"]
        name = schema["$ref"].rpartition("/")[2]
        modules = (answers, access_answers, code_answers, error_answers, tenant, webhook)
        models = (getattr(module, name, None) for module in modules)
        model = next(found for found in models if found is not None)
        assert issubclass(model, BaseModel)
        # The stored document of a graph is read by the rules for submitted ones, which know no text for an enumeration.
        model.model_validate_json(json.dumps(response.json()))

    with TestClient(app) as made:
        made.event_hooks = {"response": [check]}
        yield made


class Quiet(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def port(world: World) -> AsyncIterator[int]:
    # A small send buffer, so that a client that takes nothing is felt soon.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(world.services), log_config=None, lifespan="off")
    server = Quiet(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    server.force_exit = True
    await serving
    listener.close()


def _fits(template: str, path: str) -> bool:
    # Fixed parts win over parameters, as in the routes' order: no id has the name of a route.
    pattern = re.sub(r"\{\w+\}", r"(?!(?:list|runs|run|run_async|create)$)[^/]+", template)
    return re.fullmatch(pattern, path) is not None
