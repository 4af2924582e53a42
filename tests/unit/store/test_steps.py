from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from sandgraph.errors import NotFound
from sandgraph.model import events, topology
from sandgraph.model.commands import (
    Command,
    RecordAttempt,
    RecordCommit,
    RecordNodeRun,
    RecordRun,
    ScheduleRetry,
    StartAttempt,
    StopAttempt,
)
from sandgraph.model.event_document import to_document
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.scheduler import Run, step
from sandgraph.model.state import DeleteKey, Json, SetKey, StateDiff, View
from sandgraph.store import tables
from sandgraph.store.records import NodeRunRecord, Reads, RunEvent
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]
Succeed = Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]

VIEW = View.initial({})
WORK = NodeRunKey("work")
FAILURE = Failure("error", "It broke.", type="ValueError", traceback="…")


async def test_a_node_run_and_its_attempt_are_seen_from_begin_to_end(
    store: Store, run_id: str, begin: Begin, succeed: Succeed
) -> None:
    key = await begin("work", 1)
    [node_run] = await store.node_runs(run_id)
    assert (node_run.node, node_run.iteration, node_run.status) == ("work", 1, NodeRunStatus.RUNNING)
    assert node_run.finished_at is None
    [attempt] = node_run.attempts
    assert (attempt.attempt, attempt.status, attempt.usage) == (1, AttemptStatus.RUNNING, None)
    assert attempt.finished_at is None

    await succeed(key, 1, {"n": 1})
    [ended] = await store.node_runs(run_id)
    assert (ended.status, ended.started_at) == (NodeRunStatus.SUCCEEDED, node_run.started_at)
    assert ended.finished_at is not None
    assert ended.attempts[0].status is AttemptStatus.SUCCEEDED
    assert ended.attempts[0].finished_at == ended.finished_at
    assert (await store.run_summary(run_id)).last_commit == 1


async def test_a_failed_attempt_is_retried(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    await store.apply(
        run_id,
        [
            RecordAttempt(key, 1, AttemptStatus.ERROR, FAILURE),
            RecordNodeRun(key, NodeRunStatus.RETRYING, FAILURE),
            ScheduleRetry(key, 2, 0.5, jitter=True),
        ],
    )
    [waiting] = await store.node_runs(run_id)
    assert (waiting.status, waiting.failure, waiting.finished_at) == (NodeRunStatus.RETRYING, FAILURE, None)
    await store.apply(run_id, [StartAttempt(key, 2, VIEW)])
    await store.apply(
        run_id,
        [RecordAttempt(key, 2, AttemptStatus.SUCCEEDED), RecordNodeRun(key, NodeRunStatus.SUCCEEDED, message="Well.")],
    )
    [done] = await store.node_runs(run_id)
    assert (done.status, done.failure, done.message) == (NodeRunStatus.SUCCEEDED, None, "Well.")
    assert [(each.attempt, each.status, each.failure) for each in done.attempts] == [
        (1, AttemptStatus.ERROR, FAILURE),
        (2, AttemptStatus.SUCCEEDED, None),
    ]


async def test_usage_goes_to_the_first_attempt_that_ends(store: Store, run_id: str, begin: Begin) -> None:
    first, second = await begin("first", 1), await begin("second", 1)
    usage = Usage(wall_s=1.5, cpu_s=0.25, peak_memory_bytes=2**33, output_bytes=7, oom_kills=1, signal=9, start_s=0.1)
    await store.apply(
        run_id,
        [
            RecordAttempt(second, 1, AttemptStatus.OOM, FAILURE),
            RecordNodeRun(second, NodeRunStatus.FAILED, FAILURE),
            RecordAttempt(first, 1, AttemptStatus.CANCELLED),
            StopAttempt(first, 1),
            RecordNodeRun(first, NodeRunStatus.CANCELLED),
            RecordRun(RunStatus.FAILED, FAILURE, {}),
        ],
        usage=usage,
    )
    cancelled, failed = await store.node_runs(run_id)
    assert (cancelled.node, cancelled.attempts[0].usage) == ("first", None)
    assert (failed.node, failed.attempts[0].usage) == ("second", usage)


async def test_the_usage_of_a_stopped_attempt_follows_and_is_kept(store: Store, run_id: str, begin: Begin) -> None:
    stopped, _ = await begin("stopped", 1), await begin("other", 1)
    usage = Usage(wall_s=1.5, pids_peak=3, queue_s=0.5)
    await store.apply(
        run_id,
        [
            RecordAttempt(stopped, 1, AttemptStatus.CANCELLED),
            RecordNodeRun(stopped, NodeRunStatus.CANCELLED),
            RecordRun(RunStatus.CANCELLED, FAILURE, {}),
        ],
    )
    before = await store.run(run_id)
    for found in (usage, Usage(wall_s=9)):
        await store.record_usage(run_id, stopped, 1, found)
    await store.record_usage(run_id, NodeRunKey("never begun"), 1, usage)
    await store.record_usage("run_nothing", stopped, 1, usage)
    assert [each.attempts[0].usage for each in await store.node_runs(run_id)] == [usage, None]
    assert await store.run(run_id) == before


async def test_usage_that_came_before_the_attempts_end_is_kept(store: Store, run_id: str, begin: Begin) -> None:
    key, usage = await begin("work", 1), Usage(wall_s=1.5)
    await store.record_usage(run_id, key, 1, usage)
    await store.apply(run_id, [RecordAttempt(key, 1, AttemptStatus.LOST, FAILURE)])
    (attempt,) = (await store.node_runs(run_id))[0].attempts
    assert (attempt.status, attempt.failure, attempt.usage) == (AttemptStatus.LOST, FAILURE, usage)


async def test_usage_that_an_earlier_release_stored_is_read(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    await store.apply(run_id, [RecordAttempt(key, 1, AttemptStatus.SUCCEEDED)], usage=Usage(wall_s=1.5))
    old = {"wall_s": 2.5, "cpu_s": None, "peak_memory_bytes": 7, "output_bytes": 1, "oom_kills": 0, "start_s": 0.5}
    await store._database.write(lambda connection: connection.execute(update(tables.attempt).values(usage=old)))
    (attempt,) = (await store.node_runs(run_id))[0].attempts
    assert attempt.usage == Usage(wall_s=2.5, peak_memory_bytes=7, output_bytes=1, start_s=0.5)


async def test_a_node_run_that_begins_and_ends_in_one_step(store: Store, run_id: str) -> None:
    start, skipped = NodeRunKey("start"), NodeRunKey("skipped")
    await store.apply(
        run_id,
        [
            RecordNodeRun(start, NodeRunStatus.RUNNING),
            RecordNodeRun(start, NodeRunStatus.SUCCEEDED),
            RecordNodeRun(skipped, NodeRunStatus.SKIPPED),
            RecordNodeRun(WORK, NodeRunStatus.RUNNING),
            StartAttempt(WORK, 1, VIEW),
            RecordAttempt(WORK, 1, AttemptStatus.CANCELLED),
            RecordNodeRun(WORK, NodeRunStatus.CANCELLED),
        ],
    )
    found = await store.node_runs(run_id)
    assert [(each.node, each.status, each.finished_at is None) for each in found] == [
        ("start", NodeRunStatus.SUCCEEDED, False),
        ("skipped", NodeRunStatus.SKIPPED, False),
        ("work", NodeRunStatus.CANCELLED, False),
    ]
    assert found[2].attempts[0].status is AttemptStatus.CANCELLED


async def test_node_runs_come_in_order_of_start(store: Store, run_id: str, begin: Begin) -> None:
    for node, iteration in (("z", 1), ("a", 1), ("z", 2), ("m", 1), ("a", 10), ("a", 2)):
        await begin(node, iteration)
    found = [(each.node, each.iteration) for each in await store.node_runs(run_id)]
    assert found == [("z", 1), ("a", 1), ("z", 2), ("m", 1), ("a", 10), ("a", 2)]


async def test_commits_come_back_as_they_were(store: Store, run_id: str, begin: Begin) -> None:
    diff = StateDiff((DeleteKey("a"), SetKey("b", [1, {"c": None}]), SetKey("☃ \x00 \ud800", 1.0)))
    for number, parents in ((1, (0,)), (2, (0,)), (3, (1, 2))):
        key = await begin("work", number)
        await store.apply(run_id, [RecordCommit(number, parents, diff, key, 1)])
    found = await store.commits(run_id)
    assert [(each.number, each.parents, each.iteration, each.attempt) for each in found] == [
        (1, (0,), 1, 1),
        (2, (0,), 2, 1),
        (3, (1, 2), 3, 1),
    ]
    assert all(each.diff == diff and each.node == "work" for each in found)
    assert await store.commits(run_id, upto=2) == found[:2]
    assert await store.commits(run_id, upto=2**70) == found
    assert await store.commits(run_id, upto=0) == []


async def test_a_step_is_all_or_nothing(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    before = (await store.run(run_id), await store.journal(run_id), await store.node_runs(run_id))
    with pytest.raises(LookupError):
        await store.apply(
            run_id,
            [
                RecordRun(RunStatus.WAITING),
                RecordNodeRun(key, NodeRunStatus.SUCCEEDED),
                RecordNodeRun(NodeRunKey("never begun"), NodeRunStatus.SUCCEEDED),
            ],
        )
    assert (await store.run(run_id), await store.journal(run_id), await store.node_runs(run_id)) == before


async def test_work_that_records_nothing_changes_nothing(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    before = await store.run(run_id)
    assert await store.apply(run_id, [StopAttempt(key, 1)]) == before.last_seq
    assert await store.apply(run_id, []) == before.last_seq
    assert await store.run(run_id) == before


async def test_what_the_scheduler_says_can_be_stored(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)
    accepted, _ = await store.create_run(version, {"n": 0}, functions={}, tools={}, image="image")
    shape = topology.analyse(graph)
    assert isinstance(shape, topology.Topology)
    run, commands = step(Run(graph, shape), events.RunStarted({"n": 0}))
    await store.apply(accepted.run_id, commands)
    run, commands = step(run, events.AttemptSucceeded(WORK, 1, StateDiff((SetKey("n", 1),))))
    last = await store.apply(accepted.run_id, commands, usage=Usage(wall_s=1))
    stored = await store.run(accepted.run_id)
    assert (stored.status, stored.final_state, stored.last_seq) == (RunStatus.COMPLETED, {"n": 1}, last)
    journal = await store.journal(accepted.run_id)
    assert [record.seq for record in journal] == list(range(1, last + 1))
    assert (journal[-1].type, journal[-1].status) == ("run", "completed")
    assert {each.status for each in await store.node_runs(accepted.run_id)} == {NodeRunStatus.SUCCEEDED}


async def test_node_runs_of_one_name_are_told_apart_by_their_scopes(store: Store, run_id: str) -> None:
    outer = NodeRunKey("sub")
    keys = [NodeRunKey("work"), NodeRunKey("work", 1, outer.path), NodeRunKey("work", 1, NodeRunKey("sub", 2).path)]
    for number, key in enumerate(keys, 1):
        diff = StateDiff((SetKey("n", number),))
        await store.apply(run_id, [RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, VIEW)])
        await store.append_logs(run_id, key, 1, [LogLine("stdout", 0.0, str(key))])
        reads = Reads(("a", "n"), cut=number == 2)
        commit = RecordCommit(number, (number - 1,), diff, key, 1)
        succeeded = RecordAttempt(key, 1, AttemptStatus.SUCCEEDED)
        ends: list[Command] = [succeeded, commit, RecordNodeRun(key, NodeRunStatus.SUCCEEDED)]
        await store.apply(run_id, ends, reads=reads)
        await store.record_usage(run_id, key, 1, Usage(wall_s=number))
    found = await store.node_runs(run_id)
    assert [NodeRunKey(each.node, each.iteration, each.scope) for each in found] == keys
    assert {each.status for each in found} == {NodeRunStatus.SUCCEEDED}
    assert [[(each.usage, each.reads) for each in node_run.attempts] for node_run in found] == [
        [(Usage(wall_s=number), Reads(("a", "n"), cut=number == 2))] for number in (1, 2, 3)
    ]
    assert [each.scope for each in await store.commits(run_id)] == [key.scope for key in keys]
    told = [(record.node, record.scope) for record in await store.journal(run_id, after=2)]
    assert told == [("work", key.scope) for key in keys for _ in range(6)]
    # Of one node run there is one commit, in its scope too.
    with pytest.raises(IntegrityError):
        await store.apply(run_id, [RecordCommit(4, (3,), StateDiff(), keys[1], None)])


async def test_an_event_may_make_several_commits_and_one_of_them_is_its_own(store: Store, run_id: str) -> None:
    outer = NodeRunKey("sub")
    inner, item = NodeRunKey("work", 1, outer.path), NodeRunKey("map", 1, "map#1")
    begins: list[Command] = [RecordNodeRun(key, NodeRunStatus.RUNNING) for key in (outer, inner, item)]
    await store.apply(run_id, [*begins, StartAttempt(inner, 1, VIEW), StartAttempt(item, 1, VIEW)])
    diff = StateDiff((SetKey("n", 1),))
    done = events.AttemptSucceeded(inner, 1, diff)
    both = [RecordCommit(1, (0,), diff, inner, 1), RecordCommit(2, (1,), StateDiff(), outer, None)]
    await store.apply(run_id, both, told=RunEvent(1, to_document(done)))
    # An item's success makes none, but may end the map, which does.
    mapped = NodeRunKey("map")
    of_item = events.AttemptSucceeded(item, 1, value=7)
    ends: list[Command] = [RecordNodeRun(mapped, NodeRunStatus.RUNNING), RecordCommit(3, (2,), diff, mapped, None)]
    await store.apply(run_id, ends, told=RunEvent(2, to_document(of_item)))
    assert [(each.commit, each.diff) for each in await store.run_events(run_id)] == [(1, diff), (None, StateDiff())]
    assert [(each.node, each.scope, each.attempt) for each in await store.commits(run_id)] == [
        ("work", outer.path, 1),
        ("sub", "", None),
        ("map", "", None),
    ]
    with pytest.raises(IntegrityError):
        await store.apply(run_id, [RecordCommit(4, (3,), StateDiff(), NodeRunKey("never begun"), None)])


async def test_node_runs_come_in_pages(store: Store, run_id: str, begin: Begin) -> None:
    for iteration in range(1, 8):
        key = await begin("work", iteration)
        await store.apply(run_id, [RecordAttempt(key, 1, AttemptStatus.ERROR, FAILURE), StartAttempt(key, 2, VIEW)])
    every = await store.node_runs(run_id)
    assert len(every) == 7
    assert {len(each.attempts) for each in every} == {2}
    found: list[NodeRunRecord] = []
    sizes = []
    while True:
        standing = await store.standing(run_id, after=found[-1].first_seq if found else 0, limit=3)
        found += standing.node_runs
        sizes.append(len(standing.node_runs))
        assert standing.in_progress == every
        if not standing.has_more:
            break
    assert (found, sizes) == (every, [3, 3, 1])
    assert (await store.standing(run_id, after=2**70, limit=3)).node_runs == []


async def test_a_node_run_that_waits_is_in_flight(store: Store, run_id: str) -> None:
    key = NodeRunKey("approval")
    await store.apply(run_id, [RecordNodeRun(key, NodeRunStatus.WAITING)])
    [node_run] = await store.node_runs(run_id)
    assert (node_run.status, node_run.finished_at, node_run.attempts) == (NodeRunStatus.WAITING, None, ())
    diff = StateDiff((SetKey("by", "her"),))
    await store.apply(run_id, [RecordCommit(1, (0,), diff, key, None), RecordNodeRun(key, NodeRunStatus.SUCCEEDED)])
    [node_run] = await store.node_runs(run_id)
    assert node_run.status is NodeRunStatus.SUCCEEDED
    assert node_run.finished_at is not None


async def test_what_waited_runs_once_its_attempt_starts(store: Store, run_id: str) -> None:
    await store.apply(run_id, [RecordNodeRun(WORK, NodeRunStatus.WAITING, message="The run is paused.")])
    await store.apply(run_id, [StartAttempt(WORK, 1, VIEW)])
    [node_run] = await store.node_runs(run_id)
    assert (node_run.status, node_run.message, len(node_run.attempts)) == (NodeRunStatus.RUNNING, "", 1)


async def test_those_in_progress_are_read_alone(store: Store, run_id: str, begin: Begin, succeed: Succeed) -> None:
    assert (await store.standing(run_id, limit=500)).in_progress == []
    for number in range(1, 8):
        key = await begin("work", number)
        if number in {1, 2, 5}:
            await succeed(key, number, {"n": number})
    await store.apply(run_id, [RecordNodeRun(NodeRunKey("wait"), NodeRunStatus.WAITING)])
    await store.apply(run_id, [RecordNodeRun(NodeRunKey("no"), NodeRunStatus.SKIPPED)])
    failed = NodeRunKey("work", 3)
    again: list[Command] = [
        RecordAttempt(failed, 1, AttemptStatus.ERROR),
        RecordNodeRun(failed, NodeRunStatus.RETRYING, FAILURE),
    ]
    await store.apply(run_id, again)
    unended = {NodeRunStatus.RUNNING, NodeRunStatus.WAITING, NodeRunStatus.RETRYING}
    expected = [each for each in await store.node_runs(run_id) if each.status in unended]
    # Of all that there are, and not of those that are shown.
    for limit in (2, 500):
        found = (await store.standing(run_id, limit=limit)).in_progress
        assert {each.status for each in found} == unended
        assert found == expected


async def test_a_run_that_ended_has_nothing_in_progress(store: Store, run_id: str, begin: Begin) -> None:
    await begin("work", 1)
    assert len((await store.standing(run_id, limit=500)).in_progress) == 1
    await store.apply(run_id, [RecordRun(RunStatus.FAILED, FAILURE)])
    standing = await store.standing(run_id, limit=500)
    assert (standing.run.status, len(standing.node_runs), standing.in_progress) == (RunStatus.FAILED, 1, ())


@pytest.mark.parametrize("tenant", ["default", None])
async def test_where_a_run_stands_is_told_its_tenant_alone(store: Store, run_id: str, tenant: str | None) -> None:
    assert (await store.standing(run_id, limit=1, tenant=tenant)).run.run_id == run_id
    assert (await store.state(run_id, None, tenant=tenant))[0].run_id == run_id
    for asked in (
        store.standing(run_id, limit=1, tenant="other"),
        store.state(run_id, None, tenant="other"),
        store.state(run_id, 0, tenant="other"),
        store.standing("run_0", limit=1, tenant=tenant),
        store.state("run_0", None, tenant=tenant),
    ):
        with pytest.raises(NotFound) as missing:
            await asked
        assert missing.value.code == "run_not_found"
