"""What a tenant may use: counted, held to, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandgraph.errors import QuotaExceeded
from sandgraph.execution import quotas as quotas_module
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.metering import MeteredTransport
from sandgraph.execution.quotas import TenantQuotas
from sandgraph.execution.transport import Assignment, OnLines, OnStopped
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, RunStatus, Usage
from sandgraph.model.state import StateDiff
from sandgraph.sandbox.spec import Outcome, Succeeded
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

GRAPH = Graph(
    "g",
    (Node("start", NodeType.START), Node("one", function="f"), Node("two", function="f"), Node("end", NodeType.END)),
    (Edge("start", "one"), Edge("one", "two"), Edge("two", "end")),
)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Worker:
    """Uses a second for each attempt, once it may, and prints what it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.lines: Sequence[LogLine] = ()
        self.attempts = 0

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        self.attempts += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await on_stopped(assignment, Usage(cpu_s=0.5))
            raise
        if self.lines:
            await on_lines(assignment, self.lines)
        return Succeeded(StateDiff(), entered=True, again=None, after=(), usage=Usage(cpu_s=1.0))

    async def end_run(self, run_id: str) -> None:
        pass


class House:
    def __init__(self, runs: Dispatcher, store: Store, quotas: TenantQuotas, worker: Worker, clock: Clock) -> None:
        self.runs, self.store, self.quotas, self.worker, self.clock = runs, store, quotas, worker, clock

    async def begin(self, tenant: str = "acme") -> str:
        await self.store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass", tenant=tenant)
        version, _ = await self.store.save_graph(GRAPH, tenant=tenant)
        return (await self.runs.submit(version.graph_id, {}, tenant=tenant))[0].run_id

    async def ends(self, run_id: str) -> RunStatus:
        return (await self.runs.wait(run_id, 10)).status

    async def refusal(self) -> QuotaExceeded:
        with pytest.raises(QuotaExceeded) as refused:
            await self.begin()
        return refused.value


@asynccontextmanager
async def house(folder: Path, clock: Clock | None = None, **options: object) -> AsyncIterator[House]:
    settings, clock = Settings(data_dir=folder, **options), clock or Clock()  # type: ignore[arg-type]
    store, worker = await Store.open(folder), Worker()
    quotas = TenantQuotas(store.tenants, settings, clock)
    metered = MeteredTransport(worker, quotas, settings.max_run_output_mb, store.tenants.output_of)
    runs = Dispatcher(store, metered, settings, "sha256:image", quotas=quotas)
    await quotas.start(runs.go_on, runs.load_of)
    await runs.start()
    try:
        yield House(runs, store, quotas, worker, clock)
    finally:
        await runs.close()
        await quotas.close()
        await store.close()


async def test_runs_over_the_active_ones_wait_and_those_over_the_queued_ones_are_refused(tmp_path: Path) -> None:
    async with house(tmp_path, tenant_max_active_runs=1, tenant_max_queued_runs=2) as platform:
        platform.worker.gate.clear()
        mine = [await platform.begin() for _ in range(3)]
        place = await platform.runs.place(mine[1])
        assert place is not None
        assert (place.position, place.waits_for) == (1, "tenant_max_active_runs")
        refused = await platform.refusal()
        assert (refused.code, refused.retry_after_s) == ("tenant_queue_full", 5)
        other = [await platform.begin("other") for _ in range(3)]
        assert platform.worker.attempts == 2
        assert platform.quotas.use("acme").active_runs == 1
        assert platform.quotas.use("acme").queued_runs == 2
        platform.worker.gate.set()
        assert {await platform.ends(each) for each in [*mine, *other]} == {RunStatus.COMPLETED}


async def test_quotas_of_its_own_hold_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, tenant_max_active_runs=1) as platform:
        platform.worker.gate.clear()
        for _ in range(3):
            await platform.begin()
        await platform.quotas.set("acme", {"max_active_runs": 0}, {0})
        assert platform.quotas.use("acme").active_runs == 3
        assert platform.quotas.of("acme").max_active_runs == 0
        assert platform.quotas.of("other").max_active_runs == 1


async def test_who_has_used_its_cpu_time_waits_for_the_next_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas_module, "_EVERY_S", 0.01)
    async with house(tmp_path, tenant_cpu_s_per_day=2, max_active_runs=1) as platform:
        platform.worker.gate.clear()
        first, waits = await platform.begin(), await platform.begin()
        platform.worker.gate.set()
        assert await platform.ends(first) is RunStatus.COMPLETED
        refused = await platform.refusal()
        assert refused.code == "cpu_quota_exceeded"
        assert 7_190 <= refused.retry_after_s <= 7_201, "midnight is in two hours"
        place = await platform.runs.place(waits)
        assert place is not None
        assert place.waits_for == "tenant_cpu_s_per_day"
        assert await platform.ends(await platform.begin("other")) is RunStatus.COMPLETED
        platform.clock.now += timedelta(hours=2, seconds=1)
        assert await platform.ends(waits) is RunStatus.COMPLETED
        assert platform.quotas.use("acme").cpu_s_today == 2.0


async def test_an_attempt_without_cpu_time_left_fails_and_its_run_is_resumed_later(tmp_path: Path) -> None:
    async with house(tmp_path, tenant_cpu_s_per_day=1) as platform:
        run_id = await platform.begin()
        assert await platform.ends(run_id) is RunStatus.FAILED
        run = await platform.store.run(run_id)
        assert run.failure is not None
        assert "CPU time" in run.failure.message
        assert platform.worker.attempts == 1, "the second was not even tried"
        platform.clock.now += timedelta(days=1)
        resumed, _ = await platform.runs.resume(run_id, latest=False, idempotency_key=None, tenant="acme")
        assert await platform.ends(resumed.run_id) is RunStatus.COMPLETED
        assert platform.worker.attempts == 2


async def test_what_was_used_is_known_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, clock) as platform:
        await platform.ends(await platform.begin())
        platform.worker.gate.clear()
        stopped = await platform.begin()
        while platform.worker.attempts < 3:  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0)
        await platform.runs.cancel(stopped)
        assert platform.quotas.use("acme").cpu_s_today == 2.5
    async with house(tmp_path, clock) as platform:
        assert platform.quotas.use("acme").cpu_s_today == 2.5
        assert platform.quotas.use("acme").stored_bytes > 0


async def test_a_tenant_that_stores_too_much_starts_nothing_and_prints_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, tenant_stored_mb=1) as platform:
        platform.worker.lines = [LogLine("stdout", 0.0, "x" * 400_000)] * 2
        run_id = await platform.begin()
        assert await platform.ends(run_id) is RunStatus.COMPLETED
        printed = [each for each in await platform.store.journal(run_id) if each.kind == "log"]
        assert [len(each.message) for each in printed[:3]] == [400_000] * 3
        assert [each.message for each in printed[3:]] == ["truncated: its tenant may store no more"]
        assert (await platform.refusal()).code == "storage_quota_exceeded"


async def test_a_run_prints_no_more_than_one_may_over_all_its_attempts(tmp_path: Path) -> None:
    async with house(tmp_path, max_run_output_mb=1) as platform:
        platform.worker.lines = [LogLine("stdout", 0.0, "x" * 300_000)] * 3
        for run_id in [await platform.begin(), await platform.begin()]:
            assert await platform.ends(run_id) is RunStatus.COMPLETED
            printed = [each for each in await platform.store.journal(run_id) if each.kind == "log"]
            assert [len(each.message) for each in printed[:3]] == [300_000] * 3
            assert [each.message for each in printed[3:]] == ["truncated: the run has printed as much as one may"]
            assert printed[-1].data["cut"] is True


async def test_nothing_is_bounded_unless_somebody_says_so(tmp_path: Path) -> None:
    async with house(tmp_path) as platform:
        platform.quotas.used("acme", Usage(cpu_s=1e9))
        platform.quotas.stored("acme", 10**15)
        assert await platform.ends(await platform.begin()) is RunStatus.COMPLETED
