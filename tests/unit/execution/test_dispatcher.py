"""The dispatcher over a real store, with a worker that says what the test tells it to."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from sandgraph.errors import Conflict, EngineUnavailable, InvalidInput, NotFound, QueueFull, Unavailable
from sandgraph.execution import actor, floor
from sandgraph.execution.actor import RunActor
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.transport import Assignment, OnLines, OnStopped
from sandgraph.execution.worker import Worker
from sandgraph.model.graph import Condition, Edge, Graph, Node, NodeType
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.retry import MAX_LOST, Retry
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import Json, SetKey, StateDiff
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Sandbox, Succeeded
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, JournalRecord
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

#: What attempts used that were stopped.
STOPPED = Usage(wall_s=0.25, pids_peak=3, queue_s=0.5)

Perform = Callable[[Assignment, OnLines], Awaitable[Outcome]]


class Scripted:
    """A transport that answers as told, and remembers what it was asked, what it was stopped at, and what ended."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self.asked: list[str] = []
        self.stopped: list[str] = []
        self.ended: list[str] = []

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        self.asked.append(f"{assignment.key}/{assignment.attempt}")
        try:
            return await self._perform(assignment, on_lines)
        except asyncio.CancelledError:
            self.stopped.append(str(assignment.key))
            await on_stopped(assignment, STOPPED)
            raise

    async def end_run(self, run_id: str) -> None:
        self.ended.append(run_id)


def wrote(**values: int | str) -> Succeeded:
    diff = StateDiff(tuple(SetKey(key, value) for key, value in sorted(values.items())))
    return Succeeded(diff, entered=True, again=None, after=(), usage=Usage(wall_s=0.01))


async def writes_its_name(assignment: Assignment, _: OnLines) -> Outcome:
    return wrote(**{assignment.key.node: assignment.attempt})


async def sleeps(_: Assignment, __: OnLines) -> Outcome:
    await asyncio.sleep(60)
    return wrote()


def chain(*names: str, **node: object) -> Graph:
    nodes = [Node("start", NodeType.START), *(Node(name, function="f", **node) for name in names)]  # type: ignore[arg-type]
    every = [*nodes, Node("end", NodeType.END)]
    edges = tuple(Edge(one.name, two.name) for one, two in pairwise(every))
    return Graph("chain", tuple(every), edges)


@asynccontextmanager
async def dispatching(
    folder: Path, perform: Perform = writes_its_name, allowed: Sequence[str] = (), **options: object
) -> AsyncIterator[tuple[Dispatcher, Store, Scripted]]:
    settings = Settings(data_dir=folder, **options)  # type: ignore[arg-type]
    store = await Store.open(folder)
    transport = Scripted(perform)
    dispatcher = Dispatcher(store, transport, settings, "sha256:image", allowed)
    await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
    await dispatcher.start()
    try:
        yield dispatcher, store, transport
    finally:
        await dispatcher.close()
        await store.close()


async def begin(dispatcher: Dispatcher, store: Store, graph: Graph, state: Mapping[str, int] | None = None) -> str:
    version, _ = await store.save_graph(graph)
    record, created = await dispatcher.submit(version.graph_id, dict(state or {}))
    assert created
    return record.run_id


async def followed(dispatcher: Dispatcher, run_id: str, after: int = 0) -> list[JournalRecord]:
    return [record async for page in dispatcher.follow(run_id, after) for record in page]


async def asked(transport: Scripted) -> None:
    """Wait for the first attempt."""
    while not transport.asked:  # noqa: ASYNC110 - the script has no event to wait for
        await asyncio.sleep(0)


async def last_attempt(store: Store, run_id: str) -> tuple[AttemptStatus, Usage | None]:
    attempt = (await store.node_runs(run_id))[-1].attempts[-1]
    return attempt.status, attempt.usage


async def test_a_chain_completes_and_every_step_is_kept(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as (dispatcher, store, transport):
        run_id = await begin(dispatcher, store, chain("a", "b"), {"x": 0})
        record = await dispatcher.wait(run_id, 10)
        assert record.status is RunStatus.COMPLETED
        assert record.final_state == {"x": 0, "a": 1, "b": 1}
        assert transport.asked == ["a/1", "b/1"]
        assert [(n.node, n.status) for n in await store.node_runs(run_id)] == [
            (name, NodeRunStatus.SUCCEEDED) for name in ("start", "a", "b", "end")
        ]
        assert [(c.number, c.parents) for c in await store.commits(run_id)] == [(1, (0,)), (2, (1,))]
        assert (await store.state(run_id, 1))[1].data == {"x": 0, "a": 1}


async def test_followers_see_every_record_once_wherever_they_begin(tmp_path: Path) -> None:
    async def talks(assignment: Assignment, on_lines: OnLines) -> Outcome:
        for number in range(20):
            await on_lines(assignment, [LogLine("stdout", 0.0, f"line {number}")])
            await asyncio.sleep(0)
        return wrote()

    async with dispatching(tmp_path, talks) as (dispatcher, store, _):
        run_id = await begin(dispatcher, store, chain("a"))
        early = asyncio.create_task(followed(dispatcher, run_id))
        all_records = await followed(dispatcher, run_id)
        assert [record.seq for record in all_records] == list(range(1, len(all_records) + 1))
        assert all_records[-1].type == "run"
        assert all_records[-1].status == "completed"
        assert await early == all_records
        assert await followed(dispatcher, run_id, 10) == all_records[10:]
        assert await followed(dispatcher, run_id, 10_000) == []


async def test_parallel_branches_are_dispatched_together(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def meets(assignment: Assignment, _: OnLines) -> Outcome:
        async with asyncio.timeout(5):
            await both.wait()
        return wrote(**{assignment.key.node: 1})

    nodes = (Node("start", NodeType.START), Node("a", function="f"), Node("b", function="f"), Node("end", NodeType.END))
    edges = (Edge("start", "a"), Edge("start", "b"), Edge("a", "end"), Edge("b", "end"))
    async with dispatching(tmp_path, meets) as (dispatcher, store, _):
        run_id = await begin(dispatcher, store, Graph("diamond", nodes, edges))
        record = await dispatcher.wait(run_id, 10)
        assert record.final_state == {"a": 1, "b": 1}


async def test_a_failed_attempt_is_retried_and_then_fails_the_run(tmp_path: Path) -> None:
    async def fails(_: Assignment, __: OnLines) -> Outcome:
        return Broken(AttemptStatus.ERROR, Failure("error", "ValueError: no"), Usage(wall_s=0.5))

    graph = chain("a", retry=Retry(max_attempts=3, initial_s=0.01))
    async with dispatching(tmp_path, fails) as (dispatcher, store, transport):
        record = await dispatcher.wait(await begin(dispatcher, store, graph), 10)
        assert transport.asked == ["a/1", "a/2", "a/3"]
        assert record.status is RunStatus.FAILED
        assert record.failure is not None
        assert (record.failure.code, record.failure.node) == ("error", "a")
        (node_run,) = [n for n in await store.node_runs(record.run_id) if n.node == "a"]
        assert [attempt.status for attempt in node_run.attempts] == [AttemptStatus.ERROR] * 3
        assert node_run.attempts[0].usage == Usage(wall_s=0.5)


async def test_a_node_run_is_running_again_in_its_next_attempt(tmp_path: Path) -> None:
    seen: list[NodeRunStatus] = []

    async def fails_once(assignment: Assignment, _: OnLines) -> Outcome:
        seen.append(next(n.status for n in await store.node_runs(assignment.run_id) if n.node == "a"))
        if assignment.attempt == 1:
            return Broken(AttemptStatus.ERROR, Failure("error", "ValueError: no"), Usage())
        return wrote()

    graph = chain("a", retry=Retry(max_attempts=2, initial_s=0.01))
    async with dispatching(tmp_path, fails_once) as (dispatcher, store, _):
        await dispatcher.wait(await begin(dispatcher, store, graph), 10)
    assert seen == [NodeRunStatus.RUNNING, NodeRunStatus.RUNNING]


async def test_a_crash_in_the_worker_costs_the_attempt_not_the_run(tmp_path: Path) -> None:
    async def crashes(assignment: Assignment, _: OnLines) -> Outcome:
        if assignment.attempt == 1:
            raise RuntimeError("a defect")
        return wrote(x=1)

    async with dispatching(tmp_path, crashes) as (dispatcher, store, _):
        record = await dispatcher.wait(await begin(dispatcher, store, chain("a")), 10)
        assert record.status is RunStatus.COMPLETED


class Away(InProcessSandboxes):
    """An engine that is away for the first leases."""

    away = 3

    @asynccontextmanager
    async def lease(
        self, limits: Limits, owner: Owner, *, runtime: str | None = None, isolation: Isolation = Isolation.NODE
    ) -> AsyncIterator[Sandbox]:
        self.away -= 1
        if self.away >= 0:
            raise EngineUnavailable("The Docker engine does not answer.")
        async with super().lease(limits, owner, runtime=runtime, isolation=isolation) as sandbox:
            yield sandbox


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits with jitter be over at once."""
    monkeypatch.setattr(random, "uniform", lambda _, __: 0.0)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("away", [3, MAX_LOST])
async def test_an_engine_that_comes_back_in_time_costs_attempts_not_the_run(tmp_path: Path, away: int) -> None:
    sandboxes = Away()
    sandboxes.away = away
    await sandboxes.start()
    worker = Worker(sandboxes, 1)

    async def works(assignment: Assignment, on_lines: OnLines) -> Outcome:
        return await worker.perform(assignment, on_lines, lambda *_: asyncio.sleep(0))

    async with dispatching(tmp_path, works) as (dispatcher, store, _):
        record = await dispatcher.wait(await begin(dispatcher, store, chain("a")), 20)
        (attempts,) = [n.attempts for n in await store.node_runs(record.run_id) if n.node == "a"]
        found = [attempt.status for attempt in attempts]
        if away < MAX_LOST:
            assert record.status is RunStatus.COMPLETED
            assert found == [*[AttemptStatus.LOST] * away, AttemptStatus.SUCCEEDED]
        else:
            assert record.status is RunStatus.FAILED
            assert record.failure is not None
            assert record.failure.code == "lost"
            assert "lost 5 times; of the last one: The Docker engine does not answer." in record.failure.message
            assert found == [AttemptStatus.LOST] * away


async def test_an_attempt_gets_the_runtime_and_the_isolation_of_its_graph(tmp_path: Path) -> None:
    seen: list[Assignment] = []

    async def looks(assignment: Assignment, _: OnLines) -> Outcome:
        seen.append(assignment)
        return wrote()

    graph = replace(chain("a"), runtime="runsc", isolation=Isolation.RUN)
    async with dispatching(tmp_path, looks, ("runc", "runsc"), max_state_values=7) as (dispatcher, store, _):
        await dispatcher.wait(await begin(dispatcher, store, graph), 10)
    (assignment,) = seen
    assert (assignment.runtime, assignment.isolation, assignment.max_state_values) == ("runsc", Isolation.RUN, 7)


async def test_a_run_whose_runtime_is_gone_fails_and_says_so(tmp_path: Path) -> None:
    async with dispatching(tmp_path, allowed=("runc",)) as (dispatcher, store, transport):
        run_id = await begin(dispatcher, store, replace(chain("a"), runtime="runsc"), {"x": 1})
        record = await dispatcher.wait(run_id, 10)
        assert (record.status, record.final_state) == (RunStatus.FAILED, {"x": 1})
        message = "This deployment does not run 'runsc': a graph may name 'runc'."
        assert record.failure == Failure("runtime_not_allowed", message)
        assert (await followed(dispatcher, run_id))[-1].status == "failed"
        assert transport.asked == []


async def test_whatever_ends_a_run_its_sandboxes_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def does_as_told(assignment: Assignment, _: OnLines) -> Outcome:
        if assignment.key.node == "sleeps":
            await asyncio.sleep(60)
        status = AttemptStatus.ERROR
        return wrote() if assignment.key.node == "works" else Broken(status, Failure("error", "No."), Usage())

    async with dispatching(tmp_path, does_as_told) as (dispatcher, store, transport):
        for name, status in (("works", RunStatus.COMPLETED), ("fails", RunStatus.FAILED)):
            run_id = await begin(dispatcher, store, chain(name))
            assert (await dispatcher.wait(run_id, 10)).status is status
            assert transport.ended.pop() == run_id

        run_id = await begin(dispatcher, store, chain("sleeps"))
        await asyncio.sleep(0.05)
        await dispatcher.cancel(run_id)
        assert transport.ended.pop() == run_id

        run_id = await begin(dispatcher, store, replace(chain("sleeps"), timeout_s=0.05))
        assert (await dispatcher.wait(run_id, 10)).status is RunStatus.FAILED
        assert transport.ended.pop() == run_id

        with monkeypatch.context() as broken:
            broken.setattr(RunActor, "_take", None)
            run_id = await begin(dispatcher, store, chain("works"))
            assert (await dispatcher.wait(run_id, 10)).status is RunStatus.FAILED
            assert transport.ended.pop() == run_id

        run_id = await begin(dispatcher, store, chain("sleeps"))
        await asyncio.sleep(0.05)
        await dispatcher.close()
        assert transport.ended == [run_id]


async def test_a_run_that_cannot_be_let_go_is_what_it_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(_: str) -> None:
        raise RuntimeError("a defect")

    async with dispatching(tmp_path) as (dispatcher, store, transport):
        monkeypatch.setattr(transport, "end_run", breaks)
        record = await dispatcher.wait(await begin(dispatcher, store, chain("a")), 10)
        assert record.status is RunStatus.COMPLETED


async def test_cancel_stops_the_attempt_and_wins(tmp_path: Path) -> None:
    async with dispatching(tmp_path, sleeps) as (dispatcher, store, transport):
        run_id = await begin(dispatcher, store, chain("a"))
        while not transport.asked:  # noqa: ASYNC110 - the script has no event to wait for
            await asyncio.sleep(0)
        assert (await dispatcher.cancel(run_id)).status is RunStatus.CANCELLED
        assert transport.stopped == ["a"]
        assert (await dispatcher.cancel(run_id)).status is RunStatus.CANCELLED
        (attempt,) = next(n for n in await store.node_runs(run_id) if n.node == "a").attempts
        assert (attempt.status, attempt.usage) == (AttemptStatus.CANCELLED, STOPPED)


async def test_what_comes_too_late_to_count_was_used_all_the_same(tmp_path: Path) -> None:
    async def cannot_be_stopped(_: Assignment, __: OnLines) -> Outcome:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return wrote(late=1)
        raise AssertionError

    async with dispatching(tmp_path, cannot_be_stopped) as (dispatcher, store, transport):
        run_id = await begin(dispatcher, store, chain("a"))
        await asked(transport)
        assert (await dispatcher.cancel(run_id)).final_state == {}
        assert await last_attempt(store, run_id) == (AttemptStatus.CANCELLED, Usage(wall_s=0.01))


async def test_who_loses_a_race_and_cannot_be_stopped_used_something_all_the_same(tmp_path: Path) -> None:
    async def stubborn(assignment: Assignment, _: OnLines) -> Outcome:
        if assignment.key.node == "b":
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        elif assignment.key.node == "j":
            await asyncio.sleep(0.1)
        return wrote(**{assignment.key.node: 1})

    middle = (Node("a", function="f"), Node("b", function="f"), Node("j", function="f", join=1))
    nodes = (Node("start", NodeType.START), *middle, Node("end", NodeType.END))
    edges = (*(Edge("start", name) for name in "ab"), *(Edge(name, "j") for name in "ab"), Edge("j", "end"))
    async with dispatching(tmp_path, stubborn) as (dispatcher, store, _):
        record = await dispatcher.wait(await begin(dispatcher, store, Graph("race", nodes, edges)), 10)
        assert (record.status, record.final_state) == (RunStatus.COMPLETED, {"a": 1, "j": 1})
        (loser,) = next(n for n in await store.node_runs(record.run_id) if n.node == "b").attempts
        assert (loser.status, loser.usage) == (AttemptStatus.CANCELLED, Usage(wall_s=0.01))


async def test_a_store_that_keeps_no_usage_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object, **__: object) -> None:
        raise Unavailable("database is locked", code="store_unavailable")

    async with dispatching(tmp_path, sleeps) as (dispatcher, store, transport):
        monkeypatch.setattr(store, "record_usage", unavailable)
        run_id = await begin(dispatcher, store, chain("a"))
        await asked(transport)
        assert (await dispatcher.cancel(run_id)).status is RunStatus.CANCELLED
        assert await last_attempt(store, run_id) == (AttemptStatus.CANCELLED, None)
        assert transport.ended == [run_id]


async def test_a_run_can_be_cancelled_at_any_moment_from_its_first(tmp_path: Path) -> None:
    async with dispatching(tmp_path, sleeps) as (dispatcher, store, _):
        for pauses in range(12):
            run_id = await begin(dispatcher, store, chain("a"), {"x": pauses})
            for _ in range(pauses):
                await asyncio.sleep(0)
            record = await dispatcher.cancel(run_id)
            assert record.status is RunStatus.CANCELLED
            assert record.final_state == {"x": pauses}
            assert (await followed(dispatcher, run_id))[-1].status == "cancelled"


async def test_a_finished_run_cannot_be_cancelled(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as (dispatcher, store, _):
        run_id = await begin(dispatcher, store, chain("a"))
        await dispatcher.wait(run_id, 10)
        with pytest.raises(Conflict, match="completed already"):
            await dispatcher.cancel(run_id)
        with pytest.raises(NotFound):
            await dispatcher.cancel("run_nowhere")


async def test_a_run_that_takes_too_long_fails(tmp_path: Path) -> None:
    graph = Graph("chain", chain("a").nodes, chain("a").edges, timeout_s=0.05)
    async with dispatching(tmp_path, sleeps) as (dispatcher, store, transport):
        record = await dispatcher.wait(await begin(dispatcher, store, graph), 10)
        assert record.status is RunStatus.FAILED
        assert record.failure is not None
        assert record.failure.code == "run_timeout"
        assert transport.stopped == ["a"]


async def test_runs_wait_their_turn_and_the_queue_is_bounded(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def waits(_: Assignment, __: OnLines) -> Outcome:
        await go.wait()
        return wrote()

    async with dispatching(tmp_path, waits, max_active_runs=1, max_queued_runs=2) as (dispatcher, store, transport):
        run_ids = [await begin(dispatcher, store, chain("a")) for _ in range(3)]
        with pytest.raises(QueueFull):
            await begin(dispatcher, store, chain("a"))
        assert dispatcher.facts() == {"active_runs": 1, "queued_runs": 2}
        assert (await dispatcher.cancel(run_ids[1])).status is RunStatus.CANCELLED
        assert [r.status for r in await followed(dispatcher, run_ids[1])][-1] == "cancelled"
        go.set()
        for run_id in (run_ids[0], run_ids[2]):
            assert (await dispatcher.wait(run_id, 10)).status is RunStatus.COMPLETED
        assert len(transport.asked) == 2


async def test_the_same_idempotency_key_gives_the_same_run(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as (dispatcher, store, transport):
        version, _ = await store.save_graph(chain("a"))
        first, created = await dispatcher.submit(version.graph_id, {"x": 1}, idempotency_key="once")
        assert created
        await dispatcher.wait(first.run_id, 10)
        again, created = await dispatcher.submit(version.graph_id, {"x": 1}, idempotency_key="once")
        assert (again.run_id, created) == (first.run_id, False)
        assert transport.asked == ["a/1"]
        with pytest.raises(Conflict):
            await dispatcher.submit(version.graph_id, {"x": 2}, idempotency_key="once")


async def test_a_state_over_its_limits_is_refused(tmp_path: Path) -> None:
    async with dispatching(tmp_path, max_state_kb=1, max_state_keys=10, max_state_values=20) as (dispatcher, store, _):
        version, _ = await store.save_graph(chain("a"))
        states: dict[str, dict[str, Json]] = {
            "state_too_large": {"x": "y" * 2000},
            "too_many_keys": {str(n): n for n in range(11)},
            "too_many_values": {"x": [[1]] * 10},
        }
        for code, state in states.items():
            with pytest.raises(InvalidInput) as refused:
                await dispatcher.submit(version.graph_id, state)
            assert [(each.path, each.code) for each in refused.value.problems] == [("initial_state", code)]
        with pytest.raises(NotFound):
            await dispatcher.submit("graph_nowhere", {})
        assert (await store.list_runs()).items == ()


async def test_without_resuming_closing_interrupts_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    off = {"resume_runs": False}
    async with dispatching(tmp_path, sleeps, (), max_active_runs=1, **off) as (dispatcher, store, transport):
        running, waiting = [await begin(dispatcher, store, chain("a")) for _ in range(2)]
        while not transport.asked:  # noqa: ASYNC110 - the script has no event to wait for
            await asyncio.sleep(0)
        await dispatcher.close()
        assert transport.stopped == ["a"]
        assert await last_attempt(store, running) == (AttemptStatus.LOST, STOPPED)
        for run_id in (running, waiting):
            assert (await store.run(run_id)).status is RunStatus.INTERRUPTED
        with pytest.raises(Unavailable):
            await begin(dispatcher, store, chain("a"))


async def test_without_resuming_a_start_marks_what_an_earlier_process_left(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as (_, store, __):
        version, _ = await store.save_graph(chain("a"))
        left, _ = await store.create_run(version, {}, functions={}, tools={}, image="")
    async with dispatching(tmp_path, resume_runs=False) as (dispatcher, store, _):
        assert (await store.run(left.run_id)).status is RunStatus.INTERRUPTED
        assert (await followed(dispatcher, left.run_id))[-1].status == "interrupted"


async def test_a_database_that_is_away_for_a_moment_holds_the_run_up_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dispatching(tmp_path) as (dispatcher, store, _):
        apply, failures = store.apply_all, iter([True, False, True, True])

        async def unreliable(*args: object, **kwargs: object) -> int:
            if next(failures, False):
                raise Unavailable("database is locked", code="store_unavailable")
            return await apply(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "apply_all", unreliable)
        record = await dispatcher.wait(await begin(dispatcher, store, chain("a")), 20)
        assert record.status is RunStatus.COMPLETED


async def test_a_database_that_is_away_for_longer_than_a_step_waits_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "_COMMIT_PATIENCE_S", 0.1)
    monkeypatch.setattr(floor, "_PUT_OFF_S", 0.05)
    async with dispatching(tmp_path) as (dispatcher, store, transport):
        write, since = store._database.write, time.monotonic()

        async def away(*args: object, **kwargs: object) -> object:
            if transport.asked and time.monotonic() - since < 1.5:
                raise Unavailable("database is locked", code="store_unavailable")
            return await write(*args, **kwargs)  # type: ignore[arg-type]

        run_id = await begin(dispatcher, store, chain("a", "b"))
        monkeypatch.setattr(store._database, "write", away)
        record = await dispatcher.wait(run_id, 20)
        assert record.status is RunStatus.COMPLETED
        assert record.recoveries >= 1


async def test_the_job_says_what_a_loop_and_its_edges_ask(tmp_path: Path) -> None:
    seen: list[Assignment] = []

    async def loops(assignment: Assignment, _: OnLines) -> Outcome:
        seen.append(assignment)
        again = len(seen) < 2
        after = () if again else (True,)
        return Succeeded(StateDiff(), entered=True, again=again, after=after, usage=Usage())

    loop = Node("a", NodeType.LOOP, "f", Condition("state.n < 2"), max_iterations=5)
    edge = Edge("a", "end", Condition("state.n > 1"))
    graph = Graph("loop", (Node("s", NodeType.START), loop, Node("end", NodeType.END)), (Edge("s", "a"), edge))
    async with dispatching(tmp_path, loops) as (dispatcher, store, _):
        run_id = await begin(dispatcher, store, graph)
        assert (await dispatcher.wait(run_id, 10)).status is RunStatus.COMPLETED
    first, second = (assignment.job for assignment in seen)
    assert first.before is not None
    assert first.before.expression == "state.n < 2"
    assert second.before is None
    assert first.again == second.again == first.before
    assert [condition.expression for condition in second.after] == ["state.n > 1"]
    assert first.idempotency_key != second.idempotency_key
    assert first.function is not None
    assert first.function.code == "def f(state): pass"
