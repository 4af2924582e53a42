"""The worker: what it refuses before it leases a sandbox, what it asks for, and what it says an attempt used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sandgraph.errors import EngineUnavailable
from sandgraph.execution.transport import Assignment
from sandgraph.execution.worker import Worker, _encoded_size, encode_state
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, LogLine, NodeRunKey, Usage
from sandgraph.model.state import Json
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.sandbox.spec import Broken, Owner, Sandbox, Succeeded
from sandgraph_runner.protocol import Condition, Job, Source

pytestmark = pytest.mark.anyio

#: Longer than the clock's resolution, and than what else happens in a test.
MOMENT_S = 0.05

SETS = Job(function=Source("f", "def f(state): state.set('x', 1)"))
SLEEPS = Job(function=Source("f", "import time\ndef f(state):\n    print('here')\n    time.sleep(0.5)"))


class Watched(InProcessSandboxes):
    """Remembers what it was asked for; can be slow, or broken."""

    def __init__(self, *, delay_s: float = 0.0, trouble: Exception | None = None) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.trouble = trouble
        self.leases: list[tuple[str | None, Isolation]] = []
        self.ended: list[str] = []

    @asynccontextmanager
    async def lease(
        self, limits: Limits, owner: Owner, *, runtime: str | None = None, isolation: Isolation = Isolation.NODE
    ) -> AsyncIterator[Sandbox]:
        self.leases.append((runtime, isolation))
        await asyncio.sleep(self.delay_s)
        if self.trouble:
            raise self.trouble
        async with super().lease(limits, owner, runtime=runtime, isolation=isolation) as sandbox:
            yield sandbox

    async def end_run(self, run_id: str) -> None:
        self.ended.append(run_id)


async def worker_over(sandboxes: InProcessSandboxes, slots: int = 1) -> Worker:
    await sandboxes.start()
    return Worker(sandboxes, slots)


async def ignore(_: Assignment, __: Sequence[LogLine]) -> None:
    pass


async def unexpected(_: Assignment, __: Usage) -> None:
    pytest.fail("nobody stopped this attempt")


def assignment(
    job: Job,
    state: dict[str, Json] | None = None,
    *,
    isolation: Isolation = Isolation.NODE,
    runtime: str | None = None,
) -> Assignment:
    return Assignment("run", NodeRunKey("n"), 1, job, state or {}, Limits(), 1000, 50, isolation, runtime)


@pytest.mark.parametrize(
    ("job", "state", "status", "code", "words", "leases"),
    [
        (SETS, {"x": "y" * 1000}, "result_invalid", "result_invalid", "to start with has 1008 bytes", 0),
        (SETS, {"x": [1] * 50}, "result_invalid", "result_invalid", "to start with has more than the 50 values", 0),
        (Job(after=(Condition(function=Source("f", "#" * 100_000)),) * 100), {}, "error", "job_too_large", "takes", 0),
        (
            Job(function=Source("f", "def f(state): state.set('x', 'y' * 600)")),
            {"z": "y" * 600},
            "result_invalid",
            "result_invalid",
            "would leave has 1215 bytes",
            1,
        ),
        (
            Job(function=Source("f", "def f(state): state.set('x', [[1]] * 20)")),
            {"z": [1] * 10},
            "result_invalid",
            "result_invalid",
            "would leave has more than the 50 values",
            1,
        ),
        (
            Job(function=Source("f", "def f(item): return 'y' * item"), item_key="items"),
            {"items": [1000]},
            "result_invalid",
            "result_invalid",
            "The item's result has 1007 bytes",
            1,
        ),
        (
            Job(function=Source("f", "def f(item): return [[0]] * item"), item_key="items"),
            {"items": [30]},
            "result_invalid",
            "result_invalid",
            "The item's result has more than the 50 values",
            1,
        ),
    ],
)
async def test_bounds(job: Job, state: dict[str, Json], status: str, code: str, words: str, leases: int) -> None:
    sandboxes = Watched(delay_s=MOMENT_S)
    outcome = await (await worker_over(sandboxes)).perform(assignment(job, state), ignore, unexpected)
    assert isinstance(outcome, Broken)
    assert (outcome.status, outcome.failure.code) == (status, code)
    assert words in outcome.failure.message
    assert len(sandboxes.leases) == leases
    assert (outcome.usage.start_s >= MOMENT_S) is bool(leases)


async def test_an_attempt_within_its_bounds_succeeds() -> None:
    outcome = await (await worker_over(Watched())).perform(assignment(SETS, {"z": [1] * 48}), ignore, unexpected)
    assert isinstance(outcome, Succeeded)
    assert outcome.diff.apply({}) == {"x": 1}


@pytest.mark.parametrize("code", ["'y' * 990", "[[0]] * 20", "None"])
async def test_an_items_result_within_its_bounds_comes_back(code: str) -> None:
    job = Job(function=Source("f", f"def f(item): return {code}"), item_key="items")
    outcome = await (await worker_over(Watched())).perform(assignment(job, {"items": [1]}), ignore, unexpected)
    assert isinstance(outcome, Succeeded)
    assert outcome.value == eval(code)


async def test_the_lease_is_what_the_graph_asks_for_and_ends_with_its_run() -> None:
    sandboxes = Watched()
    worker = await worker_over(sandboxes)
    await worker.perform(assignment(SETS), ignore, unexpected)
    await worker.perform(assignment(SETS, isolation=Isolation.RUN, runtime="runsc"), ignore, unexpected)
    assert sandboxes.leases == [(None, Isolation.NODE), ("runsc", Isolation.RUN)]
    await worker.end_run("run")
    assert sandboxes.ended == ["run"]


async def test_the_wait_for_a_slot_and_the_wait_for_a_sandbox_are_told_apart() -> None:
    worker = await worker_over(Watched(delay_s=MOMENT_S))
    one, other = await asyncio.gather(*(worker.perform(assignment(SETS), ignore, unexpected) for _ in range(2)))
    assert one.usage.queue_s < MOMENT_S <= other.usage.queue_s
    for usage in (one.usage, other.usage):
        assert usage.start_s >= MOMENT_S
        assert usage.wall_s > 0


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (EngineUnavailable("The engine is away."), "The engine is away."),
        (ZeroDivisionError(), "The platform failed to run this attempt; its log has the details."),
    ],
)
async def test_without_a_sandbox_an_attempt_is_lost(trouble: Exception, message: str) -> None:
    worker = await worker_over(Watched(delay_s=MOMENT_S, trouble=trouble))
    outcome = await worker.perform(assignment(SETS), ignore, unexpected)
    assert isinstance(outcome, Broken)
    assert (outcome.status, outcome.failure.message) == (AttemptStatus.LOST, message)
    assert outcome.usage.start_s >= MOMENT_S
    assert outcome.usage == Usage(queue_s=outcome.usage.queue_s, start_s=outcome.usage.start_s)


async def test_what_was_used_before_a_log_line_could_not_be_kept_is_known() -> None:
    async def refuses(_: Assignment, __: Sequence[LogLine]) -> None:
        raise RuntimeError("a defect")

    outcome = await (await worker_over(Watched())).perform(assignment(SLEEPS), refuses, unexpected)
    assert isinstance(outcome, Broken)
    assert outcome.status is AttemptStatus.LOST
    assert outcome.usage.output_bytes == len("here\n")


async def stopped(worker: Worker, *, printed: bool = False) -> Usage:
    """Perform an attempt, cancel it after a moment or once it printed, and return what it used."""
    used: list[Usage] = []
    said = asyncio.Event()

    async def on_lines(_: Assignment, __: Sequence[LogLine]) -> None:
        said.set()

    async def on_stopped(_: Assignment, usage: Usage) -> None:
        used.append(usage)

    task = asyncio.create_task(worker.perform(assignment(SLEEPS), on_lines, on_stopped))
    await (said.wait() if printed else asyncio.sleep(MOMENT_S))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (usage,) = used
    return usage


async def test_an_attempt_that_is_stopped_says_what_it_used_wherever_it_was() -> None:
    worker = await worker_over(Watched())
    usage = await stopped(worker, printed=True)
    assert usage.wall_s > 0
    assert usage.output_bytes == len("here\n")

    usage = await stopped(await worker_over(Watched(delay_s=60)))
    assert usage.start_s >= MOMENT_S / 2 > usage.queue_s

    worker = await worker_over(Watched(delay_s=60))
    before = asyncio.create_task(worker.perform(assignment(SETS), ignore, lambda *_: asyncio.sleep(0)))
    await asyncio.sleep(0)
    usage = await stopped(worker)
    assert usage.queue_s >= MOMENT_S / 2
    assert usage == Usage(queue_s=usage.queue_s)
    before.cancel()
    await asyncio.gather(before, return_exceptions=True)


@pytest.mark.parametrize("state", [{}, {"a": 1}, {"ä": "ö\n", "b": [1, {"c": None}], "": {}}])
def test_a_size_is_that_of_the_text(state: dict[str, Json]) -> None:
    assert _encoded_size(state) == len(encode_state(state))
