"""The worker refuses what no sandbox should be sent, before it leases one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sandgraph.execution.transport import Assignment
from sandgraph.execution.worker import Worker
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine, NodeRunKey
from sandgraph.model.state import Json
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.sandbox.spec import Broken, Owner, Sandbox, Succeeded
from sandgraph_runner.protocol import Condition, Job, Source

pytestmark = pytest.mark.anyio


class Counting(InProcessSandboxes):
    leases = 0

    @asynccontextmanager
    async def lease(self, limits: Limits, owner: Owner) -> AsyncIterator[Sandbox]:
        self.leases += 1
        async with super().lease(limits, owner) as sandbox:
            yield sandbox


async def ignore(_: Assignment, __: Sequence[LogLine]) -> None:
    pass


def assignment(job: Job, state: dict[str, Json]) -> Assignment:
    return Assignment("run", NodeRunKey("n"), 1, job, state, Limits(), max_state_bytes=1000)


@pytest.mark.parametrize(
    ("job", "state", "status", "code", "leases"),
    [
        (Job(function=Source("f", "def f(state): pass")), {"x": "y" * 1000}, "result_invalid", "result_invalid", 0),
        (
            Job(after=(Condition(function=Source("f", "#" * 100_000)),) * 100),
            {},
            AttemptStatus.ERROR,
            "job_too_large",
            0,
        ),
        (
            Job(function=Source("f", "def f(state): state.set('x', 'y' * 600)")),
            {"z": "y" * 600},
            "result_invalid",
            "result_invalid",
            1,
        ),
    ],
)
async def test_bounds(job: Job, state: dict[str, Json], status: str, code: str, leases: int) -> None:
    sandboxes = Counting()
    await sandboxes.start()
    outcome = await Worker(sandboxes, 1).perform(assignment(job, state), ignore)
    assert isinstance(outcome, Broken)
    assert (outcome.status, outcome.failure.code) == (status, code)
    assert sandboxes.leases == leases


async def test_an_attempt_within_its_bounds_succeeds() -> None:
    job = Job(function=Source("f", "def f(state): state.set('x', 1)"))
    sandboxes = InProcessSandboxes()
    await sandboxes.start()
    outcome = await Worker(sandboxes, 1).perform(assignment(job, {}), ignore)
    assert isinstance(outcome, Succeeded)
    assert outcome.diff.apply({}) == {"x": 1}
