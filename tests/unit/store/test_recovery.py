from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from places import Place

from sandgraph.errors import ConfigurationError
from sandgraph.model.commands import Command, RecordAttempt, RecordNodeRun, RecordRun, ScheduleRetry, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, View
from sandgraph.store import recovery
from sandgraph.store.records import RunEvent
from sandgraph.store.store import Store

Begin = Callable[[str, int], Awaitable[NodeRunKey]]
Succeed = Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]


@pytest.mark.anyio
async def test_what_was_in_flight_is_interrupted(
    store: Store, run_id: str, graph: Graph, begin: Begin, succeed: Succeed
) -> None:
    await succeed(await begin("done", 1), 1, {"n": 1})
    retrying, running = await begin("retrying", 1), await begin("running", 1)
    failure = Failure("error", "It broke.")
    await store.apply(
        run_id,
        [
            RecordAttempt(retrying, 1, AttemptStatus.ERROR, failure),
            RecordNodeRun(retrying, NodeRunStatus.RETRYING, failure),
            ScheduleRetry(retrying, 2, 1.0, jitter=False),
        ],
    )
    version, _ = await store.save_graph(graph)
    runs = [await store.create_run(version, {}, functions={}, tools={}, image="image") for _ in range(3)]
    pending, waiting, ended = (run.run_id for run, _ in runs)
    await store.apply(waiting, [RecordRun(RunStatus.WAITING)])
    await store.apply(ended, [RecordRun(RunStatus.COMPLETED, state={})])
    before = await store.run(ended)

    assert await store.interrupt_runs() == [run_id, pending, waiting]

    for each in (run_id, pending, waiting):
        run = await store.run(each)
        assert run.status is RunStatus.INTERRUPTED
        assert run.failure is not None
        assert run.failure.code == "interrupted"
        assert run.finished_at is not None
        journal = await store.journal(each)
        assert [record.seq for record in journal] == list(range(1, run.last_seq + 1))
        assert (journal[-1].type, journal[-1].status) == ("run", "interrupted")
    assert await store.run(ended) == before

    done, was_retrying, was_running = await store.node_runs(run_id)
    assert (done.status, done.attempts[0].status) == (NodeRunStatus.SUCCEEDED, AttemptStatus.SUCCEEDED)
    assert (was_retrying.status, was_retrying.attempts[0].status) == (NodeRunStatus.INTERRUPTED, AttemptStatus.ERROR)
    assert (was_running.status, was_running.attempts[0].status) == (NodeRunStatus.INTERRUPTED, AttemptStatus.LOST)
    assert was_running.finished_at == was_running.attempts[0].finished_at is not None
    told = [(record.type, record.node, record.status) for record in (await store.journal(run_id))[-4:]]
    assert told == [
        ("attempt", running.node, "lost"),
        ("node", retrying.node, "interrupted"),
        ("node", running.node, "interrupted"),
        ("run", None, "interrupted"),
    ]
    assert len(await store.commits(run_id)) == 1
    assert await store.interrupt_runs() == []


@pytest.mark.anyio
async def test_a_run_that_ends_meanwhile_is_left_as_it_is(store: Store, run_id: str) -> None:
    ending = asyncio.create_task(store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})]))
    interrupting = asyncio.create_task(store.interrupt_runs())
    assert await ending == 3
    assert await interrupting == []
    assert not await store._database.write(recovery.interrupt, run_id)
    assert (await store.run(run_id)).status is RunStatus.COMPLETED


TOLD = RunEvent(1, {"type": "started"})


async def begun(store: Store, graph: Graph) -> str:
    """Make a run of one node whose first attempt runs, told as this release does."""
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    key = NodeRunKey("work")
    begins: list[Command] = [RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, View.initial({}))]
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING), *begins], told=TOLD)
    return run.run_id


@pytest.mark.anyio
async def test_what_was_in_flight_is_handed_back_and_resumed(store: Store, graph: Graph) -> None:
    run_id = await begun(store, graph)
    started_at = (await store.run(run_id)).started_at
    for recovery_number in (1, 2):
        for _ in range(2):
            assert list(await store.hand_back_runs()) == [run_id]
            run = await store.run(run_id)
            assert (run.status, run.is_final, run.failure, run.finished_at) == (
                RunStatus.INTERRUPTED,
                False,
                None,
                None,
            )
        [node_run] = await store.node_runs(run_id)
        assert (node_run.status, node_run.attempts[0].status) == (NodeRunStatus.INTERRUPTED, AttemptStatus.LOST)
        interrupted = (await store.journal(run_id))[-1]
        assert (interrupted.status, interrupted.data, interrupted.is_end) == ("interrupted", {"resumes": True}, False)

        assert await store.resume_run(run_id, 2, "image" if recovery_number == 1 else "another")
        run = await store.run(run_id)
        assert (run.status, run.image, run.started_at) == (RunStatus.RUNNING, "image", started_at)
        resumed = (await store.journal(run_id))[-1]
        image = {} if recovery_number == 1 else {"image": "another"}
        assert (resumed.status, resumed.data) == ("running", {"recovery": recovery_number, **image})

    assert list(await store.hand_back_runs()) == [run_id]
    assert not await store.resume_run(run_id, 2, "image")
    run = await store.run(run_id)
    assert run.failure is not None
    assert (run.status, run.failure.code, run.is_final) == (RunStatus.FAILED, "too_many_recoveries", True)
    assert list(await store.hand_back_runs()) == []
    journal = await store.journal(run_id)
    assert [record.seq for record in journal] == list(range(1, run.last_seq + 1))
    assert [record.is_end for record in journal] == [*[False] * (len(journal) - 1), True]


@pytest.mark.anyio
async def test_what_waits_for_its_turn_or_its_next_attempt_goes_on_waiting(store: Store, graph: Graph) -> None:
    run_id = await begun(store, graph)
    key, failure = NodeRunKey("work"), Failure("error", "No.")
    failed: list[Command] = [
        RecordAttempt(key, 1, AttemptStatus.ERROR, failure),
        RecordNodeRun(key, NodeRunStatus.RETRYING, failure),
    ]
    await store.apply(run_id, [*failed, ScheduleRetry(key, 2, 1.0, jitter=False)])
    version, _ = await store.save_graph(graph)
    pending, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    assert list(await store.hand_back_runs()) == [run_id, pending.run_id]
    [node_run] = await store.node_runs(run_id)
    assert (node_run.status, node_run.failure) == (NodeRunStatus.RETRYING, failure)
    assert (await store.run(pending.run_id)) == pending


@pytest.mark.anyio
async def test_a_run_that_was_handed_back_can_be_ended_for_good(store: Store, graph: Graph) -> None:
    run_id = await begun(store, graph)
    await store.hand_back_runs()
    assert await store.interrupt_runs() == [run_id]
    run = await store.run(run_id)
    assert (run.status, run.is_final) == (RunStatus.INTERRUPTED, True)
    assert (await store.journal(run_id))[-1].is_end

    run_id = await begun(store, graph)
    failure = Failure("internal_error", "A defect.")
    assert await store.give_up_run(run_id, failure)
    assert not await store.give_up_run(run_id, failure)
    run = await store.run(run_id)
    assert (run.status, run.failure) == (RunStatus.FAILED, failure)
    assert (await store.node_runs(run_id))[0].attempts[0].status is AttemptStatus.LOST


WRITER = """\
import asyncio, sys
from pathlib import Path
from sandgraph.model.commands import RecordCommit, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import SetKey, StateDiff, View
from sandgraph.store.store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]), database_url=sys.argv[2] or None)
    graph = Graph("g", (Node("start", NodeType.START), Node("end", NodeType.END)), (Edge("start", "end"),))
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
    print(run.run_id, flush=True)

    async def log(name):
        while True:
            lines = [LogLine("stdout", 0.0, "x" * 1_000)] * 20
            print(await store.append_logs(run.run_id, NodeRunKey(name), 1, lines), flush=True)

    async def commit():
        number = 0
        while True:
            number += 1
            key = NodeRunKey("work", number)
            diff = StateDiff((SetKey("n", "x" * 50_000),))
            began = RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, View.initial({}))
            done = RecordCommit(number, (number - 1,), diff, key, 1), RecordNodeRun(key, NodeRunStatus.SUCCEEDED)
            print(await store.apply(run.run_id, [*began, *done]), flush=True)

    await asyncio.gather(log("a"), log("b"), commit())

asyncio.run(main())
"""


@pytest.mark.parametrize("records", [1, 60])
def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_told(place: Place, records: int) -> None:
    command = [sys.executable, "-c", WRITER, *place.arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        run_id = writer.stdout.readline().strip()
        told = [int(writer.stdout.readline()) for _ in range(records)]
        with pytest.raises(ConfigurationError, match="in use by another Sandgraph process"):
            asyncio.run(place.open())
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    # Its lock went with it.
    asyncio.run(_check(place, run_id, max(told)))
    if place.url is None:
        assert place.sql("PRAGMA integrity_check") == [("ok",)]
        assert place.sql("PRAGMA foreign_key_check") == []


async def _check(place: Place, run_id: str, told: int) -> None:
    store = await place.open()
    try:
        run = await store.run(run_id)
        assert run.last_seq >= told
        journal = await store.journal(run_id, limit=run.last_seq + 10)
        assert [record.seq for record in journal] == list(range(1, run.last_seq + 1))
        commits = await store.commits(run_id)
        assert [commit.number for commit in commits] == list(range(1, run.last_commit + 1))
        # Each step is there as a whole: its node run, its commit and its four records.
        assert len(await store.node_runs(run_id)) == run.last_commit
        assert sum(record.type in {"node", "attempt", "state"} for record in journal) == 4 * run.last_commit
        assert await store.interrupt_runs() == [run_id]
    finally:
        await store.close()
