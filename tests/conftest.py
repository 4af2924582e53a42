"""What all tests share: async tests run on asyncio, and tests that need the Docker engine say so in one way."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import postgres_server as servers
import pytest
from compiled import share_compiled_statements
from missing import missing
from served import Served, serve

from sandgraph.errors import SandgraphError
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.observed import Labelled
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL
from sandgraph.settings import Settings, load_settings

T = TypeVar("T")

#: The fixtures that need the engine; a test that uses one of them gets the marker `docker`.
_OF_ENGINE = frozenset({"engine_required", "engine_settings", "containers_of", "deployment", "served"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _OF_ENGINE.intersection(item.fixturenames):
            item.add_marker(pytest.mark.docker)
        if isinstance(item, pytest.Function) and "postgres_server" in item.fixturenames:
            item.add_marker(pytest.mark.postgres)


def pytest_collection_finish() -> None:
    # Thousands of tests and all that they import stay for good: whoever collects garbage need not look at them again.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Statements are compiled once in a session: a fifth of what tests with a store take is theirs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        share_compiled_statements(monkeypatch)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Server]:
    """A PostgreSQL server for the whole session. Without its programs the test is skipped, but in CI it fails."""
    programs = servers.programs()
    if programs is None:
        missing("no PostgreSQL 15 or later is installed; on Debian: apt-get install postgresql")
    with servers.running(programs) as server:
        yield server


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop implementation; as wide as the widest async fixture."""
    return "asyncio"


@pytest.fixture(scope="session")
def engine_trouble() -> str | None:
    """Why tests cannot use the engine; None if they can."""

    async def connect() -> str | None:
        engine = Engine(load_settings())
        try:
            await engine.connect()
        except SandgraphError as trouble:
            return trouble.message
        finally:
            await engine.close()
        return None

    return _run(connect)


@pytest.fixture(scope="session")
def engine_required(engine_trouble: str | None) -> None:
    """A Docker engine with the runner image. Without one the test is skipped, but in CI it fails."""
    if engine_trouble is not None:
        missing(engine_trouble)


@pytest.fixture(scope="module")
def engine_settings(engine_required: None) -> Settings:  # noqa: ARG001 - needed, not used
    """Settings for a pool that meets no other test's, and nobody's platform, on the same engine."""
    return load_settings(deployment=f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def containers_of(engine_required: None) -> Callable[[str], list[Labelled]]:  # noqa: ARG001 - needed, not used
    """Returns the containers, running or not, that the engine has of a deployment."""

    def containers(deployment: str) -> list[Labelled]:
        return _run(lambda: _containers(deployment))

    return containers


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine from fixtures that async ones may ask for: the event loop of this thread is theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


async def _containers(deployment: str) -> list[Labelled]:
    engine = Engine(load_settings())
    await engine.connect()
    try:
        return await engine.labelled(DEPLOYMENT_LABEL, deployment)
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def nothing_left(engine_settings: Settings) -> Iterator[None]:
    """Fails the module's last test if a container of `engine_settings` is left after every other fixture's end."""
    yield
    left = _run(lambda: _containers(engine_settings.deployment))
    assert not left, f"containers are left: {left}"


@pytest.fixture(scope="session")
def served(engine_required: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # noqa: ARG001
    """A platform in a process of its own, shared by the tests that only use it."""
    with serve(tmp_path_factory.mktemp("served"), f"test-{uuid.uuid4().hex[:12]}") as platform:
        yield platform
    assert platform.process.returncode == 0
    assert platform.containers() == []


@pytest.fixture
def deployment(engine_required: None) -> Callable[[], str]:  # noqa: ARG001 - needed, not used
    """Makes names for deployments that meet no other's containers."""
    return lambda: f"test-{uuid.uuid4().hex[:12]}"
