from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordNodeRun,
    RecordPause,
    RecordRun,
    StartAttempt,
)
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import View
from sandgraph.store.columns import now
from sandgraph.store.records import RunEvent
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]

VIEW = View.initial({})
WAITS: list[Command] = [RecordRun(RunStatus.WAITING)]
TOLD = RunEvent(1, {"type": "started"})


async def code_of(asked: Awaitable[object]) -> str:
    with pytest.raises(Conflict) as refused:
        await asked
    return refused.value.code


async def accept(store: Store, graph: Graph) -> str:
    version, _ = await store.save_graph(graph)
    return (await store.create_run(version, {}, functions={}, tools={}, image="image"))[0].run_id


async def waiting(store: Store, graph: Graph) -> str:
    run_id = await accept(store, graph)
    await store.apply(run_id, [RecordRun(RunStatus.RUNNING), *WAITS], told=TOLD)
    return run_id


async def test_who_lost_the_lease_stores_nothing(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    line = [LogLine("stdout", 0.0, "line")]
    first = await store.claim_run(run_id, "one")
    step: list[Command] = [RecordRun(RunStatus.WAITING)]
    assert await store.apply(run_id, step, told=RunEvent(1, {"type": "a"}), lease=first) == 5
    assert await store.append_logs(run_id, key, 1, line, lease=first) == 6
    await store.record_usage(run_id, NodeRunKey("nothing"), 1, Usage(), lease=first)
    # Who did not hear that it was stored.
    assert await store.apply(run_id, step, told=RunEvent(1, {"type": "a"}), lease=first) == 6

    second = await store.claim_run(run_id, "two")
    assert second > first
    assert (await store.run_summary(run_id)).owner == "two"
    before = (await store.run(run_id), await store.run_events(run_id), await store.node_runs(run_id))
    failure = Failure("internal_error", "Lost.")
    refused: list[Awaitable[object]] = [
        store.apply(run_id, step, lease=first),
        store.apply(run_id, [], lease=first),
        store.apply(run_id, step, told=RunEvent(1, {"type": "a"}), lease=first),
        store.apply(run_id, step, told=RunEvent(1, {"type": "b"}), lease=first),
        store.apply(run_id, step, told=RunEvent(2, {"type": "b"}), lease=first),
        store.apply(run_id, [], told=RunEvent(2, {"type": "b"}), lease=first),
        store.append_logs(run_id, key, 1, line, lease=first),
        store.append_logs(run_id, key, 1, [], lease=first),
        store.record_usage(run_id, key, 1, Usage(), lease=first),
        store.give_up_run(run_id, failure, lease=first),
        store.park_run(run_id, first, None),
    ]
    assert [await code_of(each) for each in refused] == ["lease_lost"] * len(refused)
    assert (await store.run(run_id), await store.run_events(run_id), await store.node_runs(run_id)) == before
    assert await store.give_up_run(run_id, failure, lease=second)
    # Also when it has ended: what it was told is nobody's but the last one's.
    assert await code_of(store.apply(run_id, step, lease=first)) == "lease_lost"
    assert await code_of(store.apply(run_id, step, lease=second)) == "run_ended"
    assert (await store.run_summary(run_id)).owner is None


async def test_only_a_run_that_is_there_and_has_not_ended_can_be_claimed(store: Store, run_id: str) -> None:
    with pytest.raises(NotFound):
        await store.claim_run("run_nothing", "me")
    with pytest.raises(NotFound):
        await store.park_run("run_nothing", 1, None)
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})])
    assert await code_of(store.claim_run(run_id, "me")) == "run_ended"


async def test_a_parked_run_holds_nothing_and_is_due_at_its_time(store: Store, graph: Graph) -> None:
    ts = now()
    ids = [await waiting(store, graph) for _ in range(4)]
    leases = [await store.claim_run(run_id, "me") for run_id in ids]
    times = [ts + timedelta(seconds=5), ts + timedelta(seconds=1), None, ts + timedelta(hours=1)]
    assert [await store.park_run(*each) for each in zip(ids, leases, times, strict=True)] == [True] * 4
    summary = await store.run_summary(ids[0])
    assert (summary.owner, summary.wake_at, summary.status) == (None, times[0], RunStatus.WAITING)
    assert await store.due_runs(ts) == []
    assert await store.due_runs(ts + timedelta(seconds=5)) == [ids[1], ids[0]]
    assert await store.next_wake() == times[1]

    lease = await store.claim_run(ids[1], "me")
    assert (await store.run_summary(ids[1])).wake_at is None
    assert await store.next_wake() == times[0]
    running: list[Command] = [RecordRun(RunStatus.RUNNING)]
    await store.apply(ids[1], running, lease=lease)
    assert (await store.run_summary(ids[1])).recoveries == 0
    assert await code_of(store.park_run(ids[1], lease, None)) == "run_not_waiting"
    # One that is ended while it is parked is due no more.
    await store.apply(ids[0], [RecordRun(RunStatus.CANCELLED, state={})])
    assert await store.next_wake() == times[3]


async def test_a_run_that_runs_again_began_when_it_began(store: Store, graph: Graph) -> None:
    run_id = await waiting(store, graph)
    began = (await store.run(run_id)).started_at
    await store.apply(run_id, [RecordRun(RunStatus.RUNNING)])
    assert (await store.run(run_id)).started_at == began is not None


async def test_a_run_is_paused_and_unpaused(store: Store, run_id: str) -> None:
    for is_paused in (True, False):
        await store.apply(run_id, [RecordPause(is_paused, RunStatus.RUNNING)])
        run = await store.run_summary(run_id)
        assert (run.paused, run.status) == (is_paused, RunStatus.RUNNING)


async def test_runs_that_wait_are_left_waiting_and_those_that_nobody_parked_are_due(store: Store, graph: Graph) -> None:
    begun = await accept(store, graph)
    await store.apply(begun, [RecordRun(RunStatus.RUNNING)], told=TOLD)
    pending = await accept(store, graph)
    parked, unparked = await waiting(store, graph), await waiting(store, graph)
    leases = {run_id: await store.claim_run(run_id, "me") for run_id in (begun, parked, unparked)}
    assert await store.park_run(parked, leases[parked], None)
    before = {run_id: await store.run(run_id) for run_id in (pending, parked)}

    for _ in range(2):
        back = await store.hand_back_runs()
        assert (back.queue, back.waiting) == ((begun, pending), (parked, unparked))
        assert list(back) == [begun, pending]
    assert {run_id: await store.run(run_id) for run_id in (pending, parked)} == before
    assert (await store.run(unparked)).status is RunStatus.WAITING
    assert await store.due_runs(now()) == [unparked]
    for run_id in (begun, unparked):
        assert (await store.run(run_id)).owner is None
        assert await code_of(store.apply(run_id, WAITS, lease=leases[run_id])) == "lease_lost"

    assert await store.interrupt_runs() == sorted([begun, pending, parked, unparked])
    assert await store.next_wake() is None


async def test_what_has_no_attempt_in_progress_stays_as_it_is(store: Store, graph: Graph) -> None:
    run_id = await accept(store, graph)
    outer, wait, tried = NodeRunKey("review"), NodeRunKey("approval"), NodeRunKey("retried")
    inner = NodeRunKey("check", 1, outer.path)
    failure = Failure("error", "No.")
    await store.apply(
        run_id,
        [
            RecordRun(RunStatus.RUNNING),
            RecordNodeRun(outer, NodeRunStatus.RUNNING),
            RecordNodeRun(wait, NodeRunStatus.WAITING),
            RecordNodeRun(inner, NodeRunStatus.RUNNING),
            StartAttempt(inner, 1, VIEW),
            RecordNodeRun(tried, NodeRunStatus.RUNNING),
            StartAttempt(tried, 1, VIEW),
            RecordAttempt(tried, 1, AttemptStatus.ERROR, failure),
            RecordNodeRun(tried, NodeRunStatus.RETRYING, failure),
        ],
        told=TOLD,
    )

    async def statuses() -> dict[tuple[str, str], NodeRunStatus]:
        return {(each.scope, each.node): each.status for each in await store.node_runs(run_id)}

    assert list(await store.hand_back_runs()) == [run_id]
    assert await statuses() == {
        ("", "review"): NodeRunStatus.RUNNING,
        ("", "approval"): NodeRunStatus.WAITING,
        (outer.path, "check"): NodeRunStatus.INTERRUPTED,
        ("", "retried"): NodeRunStatus.RETRYING,
    }
    assert (await store.node_runs(run_id))[1].finished_at is None
    # It goes on with its next attempt, or, made again, with the wait.
    await store.apply(run_id, [StartAttempt(inner, 2, VIEW)])
    await store.interrupt_runs()
    assert set((await statuses()).values()) == {NodeRunStatus.INTERRUPTED}
    assert all(each.finished_at for each in await store.node_runs(run_id))
