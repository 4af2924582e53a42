"""Attempts of the past that are run again, over what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.execution.forking import IMAGE, World, changing, edit, world
from tests.unit.model.graphs import graph_of, mapped, subgraph, waiting
from tests.unit.model.playbook import key_of

from sandgraph.errors import Conflict, NotFound
from sandgraph.execution.replays import Replayed, Replays
from sandgraph.execution.transport import Assignment, OnLines, OnStopped
from sandgraph.model.graph import Condition, Node, NodeType
from sandgraph.model.limits import Isolation
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus, RunStatus
from sandgraph.model.state import ReduceKey, StateDiff
from sandgraph.sandbox.spec import Outcome
from sandgraph.store.records import CodeKind

pytestmark = pytest.mark.anyio

CHAIN = graph_of("start>a a>b b>end")


class Watched:
    """A transport that remembers what it is asked, and how much at the same time."""

    def __init__(self, at: World, delay_s: float = 0.0) -> None:
        self._worker = at.worker
        self._delay_s = delay_s
        self.asked: list[Assignment] = []
        self.ended: list[str] = []
        self.running = self.most = 0

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        self.asked.append(assignment)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._delay_s)
            return await self._worker.perform(assignment, on_lines, on_stopped)
        finally:
            self.running -= 1

    async def end_run(self, run_id: str) -> None:
        self.ended.append(run_id)


async def replayed(at: World, run_id: str, name: str, attempt: int | None = None) -> Replayed:
    return await at.runs.replay(run_id, key_of(name), attempt)


@asynccontextmanager
async def unchanged(at: World, run_id: str) -> AsyncIterator[None]:
    """Check that nothing of a run changes meanwhile."""

    async def known() -> tuple[object, ...]:
        events, records = await at.store.run_events(run_id, limit=100), await at.store.journal(run_id)
        return await at.store.run(run_id), await at.store.node_runs(run_id), events, records

    before = await known()
    yield
    assert await known() == before
    assert await at.store.count_runs() == 1


async def test_a_replay_without_drift(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="print('hello'); state['a'] = state['x'] + 1", b="state['b'] = state['a'] * 2; del state['x']")
        run = await at.ended(await at.begun(CHAIN, x=1))
        async with unchanged(at, run.run_id):
            found = await replayed(at, run.run_id, "b")
        assert (found.run_id, found.key, found.attempt, found.drift) == (run.run_id, key_of("b"), 1, ())
        assert found.recorded == found.replayed
        assert found.recorded.status is AttemptStatus.SUCCEEDED
        assert found.recorded.diff == changing("x", b=4)
        assert found.images == (IMAGE, IMAGE)
        assert (await replayed(at, run.run_id, "a", 1)).recorded.diff == changing(a=2)


async def test_a_function_that_reads_the_time_drifts(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['at'] = time.time_ns(); state['one'] = 1", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        found = await replayed(at, run.run_id, "a")
        assert found.drift == ("diff",)
        assert found.recorded.diff == (await at.store.commit(run.run_id, 1)).diff
        assert {op.key for op in found.replayed.diff.ops} == {"at", "one"}


@pytest.mark.parametrize(("before", "now"), [("1", "True"), ("1", "1.0"), ("0", "False"), ("[1]", "[1.0]")])
async def test_values_that_python_calls_equal_drift(tmp_path: Path, before: str, now: str) -> None:
    async with world(tmp_path) as at:
        first = "import itertools, sys\nnumbers = sys.modules.setdefault('numbers_of_a_test', itertools.count())\n"
        code = f"{first}\ndef a(state):\n    state['v'] = {now} if next(numbers) % 2 else {before}\n"
        await at.store.save_code(CodeKind.FUNCTION, "a", code)
        run = await at.ended(await at.begun(graph_of("start>a a>end")))
        assert (await replayed(at, run.run_id, "a")).drift == ("diff",)


async def test_conditions_that_are_answered_otherwise_drift(tmp_path: Path) -> None:
    graph = graph_of("start>a a>b? a>c! b>end c>end")
    edges = tuple(replace(edge, condition=edge.condition and Condition(function="asks")) for edge in graph.edges)
    async with world(tmp_path) as at:
        first = "import itertools, sys\nanswers = sys.modules.setdefault('answers_of_a_test', itertools.count())\n"
        await at.store.save_code(
            CodeKind.FUNCTION, "asks", f"{first}\ndef asks(state):\n    return next(answers) % 2 > 0\n"
        )
        await at.knows(a="state['a'] = 1", b="pass", c="pass")
        run = await at.ended(await at.begun(replace(graph, edges=edges)))
        found = await replayed(at, run.run_id, "a")
        assert (found.drift, len(found.recorded.after)) == (("conditions",), 1)
        assert found.recorded.after != found.replayed.after


async def test_a_failure_is_compared_by_its_type(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="raise ValueError(time.time_ns())", b="pass")
        run = await at.ended(await at.begun(CHAIN), RunStatus.FAILED)
        found = await replayed(at, run.run_id, "a")
        assert (found.drift, found.recorded.status) == ((), AttemptStatus.ERROR)
        assert found.recorded.failure is not None
        assert found.replayed.failure is not None
        assert found.recorded.failure.message != found.replayed.failure.message


async def test_an_attempt_that_ends_otherwise_drifts(tmp_path: Path) -> None:
    first = "import itertools, sys\ntries = sys.modules.setdefault('tries_of_a_test', itertools.count())\n"
    async with world(tmp_path) as at:
        code = f"{first}\ndef a(state):\n    state['a'] = 1\n    if next(tries) % 2:\n        raise ValueError\n"
        await at.store.save_code(CodeKind.FUNCTION, "a", code)
        run = await at.ended(await at.begun(graph_of("start>a a>end")))
        found = await replayed(at, run.run_id, "a")
        assert found.drift == ("status",)
        assert (found.recorded.status, found.replayed.status) == (AttemptStatus.SUCCEEDED, AttemptStatus.ERROR)
        assert found.recorded.failure is None
        assert found.replayed.failure is not None
        assert found.replayed.failure.type == "ValueError"


async def test_without_a_number_it_is_the_last_attempt_that_ended(tmp_path: Path) -> None:
    retried = Node("a", function="a", retry=Retry(max_attempts=3, initial_s=0.0, jitter=False))
    async with world(tmp_path) as at:
        await at.knows(a="assert state.attempt > 1; state['a'] = 1", b="pass")
        run = await at.ended(await at.begun(graph_of("start>a a>b b>end", retried)))
        last, first = await replayed(at, run.run_id, "a"), await replayed(at, run.run_id, "a", 1)
        assert (last.attempt, last.recorded.status, last.drift) == (2, AttemptStatus.SUCCEEDED, ())
        assert (first.attempt, first.recorded.status, first.drift) == (1, AttemptStatus.ERROR, ())


async def test_a_loops_iterations_are_replayed_one_by_one(tmp_path: Path) -> None:
    looping = Node("l", NodeType.LOOP, function="l", condition=Condition("state['n'] < 3"), max_iterations=9)
    async with world(tmp_path) as at:
        await at.knows(l="state['n'] += 1")
        run_id = await at.begun(graph_of("start>l l>end", looping), n=0)
        await at.ended(run_id)
        for number in range(1, 4):
            found = await replayed(at, run_id, f"l#{number}")
            assert (found.drift, found.recorded.diff, found.recorded.again) == ((), changing(n=number), number < 3)
        other = await at.begun(graph_of("start>l l>end", looping), n=5)
        await at.ended(other)
        assert not (await replayed(at, other, "l")).replayed.entered


async def test_a_maps_items_are_replayed_with_their_values(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        code = "import time\ndef m(item, state):\n    return time.time_ns() if item == 2 else {'twice': item * 2}\n"
        await at.store.save_code(CodeKind.FUNCTION, "m", code)
        run = await at.ended(await at.begun(graph_of("start>m m>end", mapped("m")), items=[1, 2]))
        first, second = await replayed(at, run.run_id, "m#1/m"), await replayed(at, run.run_id, "m#1/m#2")
        assert (first.drift, first.replayed.value, first.replayed.diff) == ((), {"twice": 2}, StateDiff())
        assert (second.drift, second.key) == (("value",), key_of("m#1/m#2"))


async def test_inside_a_subgraph(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['out'] = state['in'] + 1")
        inner = await at.saved(graph_of("start>a a>end"))
        outer = subgraph("s", inner, inputs={"in": "x"}, outputs={"y": "out"})
        run = await at.ended(await at.begun(graph_of("start>s s>end", outer), x=1))
        assert run.final_state == {"x": 1, "y": 2}
        found = await replayed(at, run.run_id, "s#1/a")
        assert (found.drift, found.replayed.diff) == ((), changing(out=2))


async def test_reductions_are_compared_as_they_were_committed(tmp_path: Path) -> None:
    graph = replace(graph_of("start>a start>b a>end b>end"), reducers=(("log", Reducer.EXTEND),))
    async with world(tmp_path) as at:
        await at.knows(
            a="state['log'] = [*state['log'], 'a']", b="state['log'] = [*state['log'], 'b']; del state['no']"
        )
        run = await at.ended(await at.begun(graph, log=["x"], no=1))
        for name in ("a", "b"):
            found = await replayed(at, run.run_id, name)
            assert (found.drift, found.replayed) == ((), found.recorded)
            assert ReduceKey("log", Reducer.EXTEND, [name]) in found.replayed.diff.ops


async def test_it_runs_the_code_of_then(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        await at.knows(a="state['a'] = 2")
        assert (await replayed(at, run.run_id, "a")).drift == ()


async def test_another_image_is_told_as_drift(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = time.time_ns()", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        replays = Replays(at.store, at.worker, at.settings, "sha256:other")
        found = await replays.replay(run.run_id, key_of("b"), None)
        assert (found.drift, found.images) == (("image",), (IMAGE, "sha256:other"))
        assert (await replays.replay(run.run_id, key_of("a"), None)).drift == ("diff", "image")


async def test_the_code_is_told_what_it_was_told_and_no_sandbox_of_the_run_is_used(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['who'] = [state.run_id, state.idempotency_key, state.attempt]", b="pass")
        run = await at.ended(await at.begun(replace(CHAIN, isolation=Isolation.RUN)))
        watched = Watched(at)
        replays = Replays(at.store, watched, at.settings, IMAGE)
        for _ in range(2):
            assert (await replays.replay(run.run_id, key_of("a"), 1)).drift == ()
        names = [each.run_id for each in watched.asked]
        assert watched.ended == names
        assert len({*names, run.run_id}) == 3
        assert {each.job.run_id for each in watched.asked} == {run.run_id}


async def test_what_it_prints_is_dropped(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="print('hello')", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        async with unchanged(at, run.run_id):
            await replayed(at, run.run_id, "a")
        assert [each.message for each in await at.store.journal(run.run_id) if each.kind == "log"] == ["hello"]


async def test_four_run_at_the_same_time(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        watched = Watched(at, delay_s=0.1)
        replays = Replays(at.store, watched, at.settings, IMAGE)
        await asyncio.gather(*(replays.replay(run.run_id, key_of("a"), None) for _ in range(9)))
        assert (watched.most, len(watched.ended)) == (4, 9)


async def test_a_replay_that_is_cancelled_lets_go_of_its_sandbox(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        watched = Watched(at, delay_s=60)
        replays = Replays(at.store, watched, at.settings, IMAGE)
        replay = asyncio.create_task(replays.replay(run.run_id, key_of("a"), None))
        while not watched.asked:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0)
        replay.cancel()
        await asyncio.wait([replay])
        assert (replay.cancelled(), watched.running, len(watched.ended)) == (True, 0, 1)


async def test_attempts_of_a_run_in_flight(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.5)")
        run_id = await at.begun(CHAIN)
        await at.committed(run_id)
        assert (await replayed(at, run_id, "a")).drift == ()
        for attempt in (None, 1):
            with pytest.raises(Conflict) as refused:
                await replayed(at, run_id, "b", attempt)
            assert refused.value.code == "attempt_not_finished"
        await at.ended(run_id)


async def test_an_attempt_that_was_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="time.sleep(0.3); state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await at.committed(run_id)
        await at.runs.cancel(run_id)
        found = await replayed(at, run_id, "b")
        assert (found.recorded.status, found.replayed.status) == (AttemptStatus.CANCELLED, AttemptStatus.SUCCEEDED)
        assert found.drift == ("status",)


async def test_an_attempt_that_was_lost_with_its_run(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="time.sleep(0.3); state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await at.committed(run_id)
    async with world(tmp_path, resume_runs=False) as at:
        assert (await at.store.run(run_id)).status is RunStatus.INTERRUPTED
        found = await replayed(at, run_id, "b")
        assert (found.recorded.status, found.drift) == (AttemptStatus.LOST, ("status",))


async def test_conditions_that_were_asked_alone(tmp_path: Path) -> None:
    graph = graph_of("start>w w>a? w>end! a>end", waiting("w"))
    edges = tuple(replace(edge, condition=edge.condition and Condition("state['go'] > 1")) for edge in graph.edges)
    async with world(tmp_path) as at:
        await at.knows(a="pass")
        run_id = await at.begun(replace(graph, edges=edges))
        await at.runs.send_event(run_id, "go", 2, None)
        await at.ended(run_id)
        found = await replayed(at, run_id, "w")
        assert (found.drift, found.replayed.after, found.replayed.diff) == ((), (True,), StateDiff())


async def test_what_a_fork_took_over_can_be_replayed(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="state['a'] = 1", b="state['b'] = state['a']")
        old = await at.begun(CHAIN)
        await at.ended(old)
        new = await at.forked(old, 1, changing(a=2))
        await at.ended(new)
        assert (await replayed(at, new, "b")).drift == ()
        # It was not the attempt that did this.
        assert (await replayed(at, new, "a")).drift == ("diff",)


@pytest.mark.parametrize(
    ("name", "attempt", "code"),
    [
        ("c", None, "node_run_not_found"),
        ("a#2", None, "node_run_not_found"),
        ("s#1/a", None, "node_run_not_found"),
        ("a", 2, "attempt_not_found"),
        ("a", 0, "attempt_not_found"),
        ("start", None, "attempt_not_found"),
    ],
)
async def test_what_there_never_was_cannot_be_replayed(
    tmp_path: Path, name: str, attempt: int | None, code: str
) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        with pytest.raises(NotFound) as missing:
            await replayed(at, run.run_id, name, attempt)
        assert missing.value.code == code
        with pytest.raises(NotFound):
            await replayed(at, "run_0", "a")


async def test_a_run_that_cannot_be_made_again(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="pass", b="pass")
        run = await at.ended(await at.begun(CHAIN))
        edit(tmp_path, "UPDATE run_event SET diff_of = 2 WHERE number = 2")
        with pytest.raises(Conflict) as refused:
            await replayed(at, run.run_id, "b")
        assert refused.value.code == "not_recoverable"
        edit(tmp_path, "DELETE FROM run_event")
        with pytest.raises(Conflict) as refused:
            await replayed(at, run.run_id, "b")
        assert refused.value.code == "not_recoverable"
