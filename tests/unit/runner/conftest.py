"""Supervisors for tests, started ahead of time: they take a tenth of a second each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.unit.runner.driver import Ended, Supervisor, source

from sandgraph_runner.protocol import Job
from sandgraph_runner.tools import tools


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tools that other tests' modules define out of these."""
    monkeypatch.setattr(tools, "_own", {})


@pytest.fixture(scope="session")
def waiting() -> Iterator[deque[Supervisor]]:
    supervisors = deque([Supervisor(), Supervisor()])
    yield supervisors
    for supervisor in supervisors:
        supervisor.close()


@pytest.fixture
def supervisor(waiting: deque[Supervisor]) -> Iterator[Supervisor]:
    waiting.append(Supervisor())
    taken = waiting.popleft()
    yield taken
    taken.close()


@pytest.fixture
def run(supervisor: Supervisor) -> Callable[..., Ended]:
    """Run a function over a state, and return what the supervisor said."""

    def run_code(body: str, state: dict[str, Any] | None = None, **job: Any) -> Ended:  # noqa: ANN401 - Job's fields
        supervisor.hello()
        supervisor.send(Job(function=source(body), **job), state)
        return supervisor.ended()

    return run_code
