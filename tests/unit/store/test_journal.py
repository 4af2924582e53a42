from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from effort import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from places import Place

from sandgraph.errors import NotFound
from sandgraph.model.commands import Command, RecordCommit, RecordEdge, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, SetKey, StateDiff, View
from sandgraph.store.packs import MAX_DIFF_BYTES
from sandgraph.store.records import JournalRecord
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]
Succeed = Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]

WORK = NodeRunKey("work")


def lines(*texts: str) -> list[LogLine]:
    return [LogLine("stdout", 0.5, text) for text in texts]


async def read_all(store: Store, run_id: str, limit: int) -> list[JournalRecord]:
    found: list[JournalRecord] = []
    while page := await store.journal(run_id, after=found[-1].seq if found else 0, limit=limit):
        assert len(page) <= limit
        found += page
    return found


async def test_events_and_log_lines_share_one_sequence(
    store: Store, run_id: str, begin: Begin, succeed: Succeed
) -> None:
    key = await begin("work", 3)
    cut = LogLine("stderr", 1.25, "two", is_cut=True)
    assert await store.append_logs(run_id, key, 1, [*lines("one"), cut]) == 6
    await store.apply(run_id, [RecordEdge(0, "start", "work", taken=True)])
    assert await succeed(key, 1, {"n": 1}) == 10
    journal = await store.journal(run_id)
    assert [(record.seq, record.kind, record.type, record.status) for record in journal] == [
        (1, "event", "run", "pending"),
        (2, "event", "run", "running"),
        (3, "event", "node", "running"),
        (4, "event", "attempt", "running"),
        (5, "log", "stdout", "running"),
        (6, "log", "stderr", "running"),
        (7, "event", "edge", "taken"),
        (8, "event", "attempt", "succeeded"),
        (9, "event", "state", "committed"),
        (10, "event", "node", "succeeded"),
    ]
    log, edge, state = journal[5], journal[6], journal[8]
    assert (log.node, log.iteration, log.attempt, log.message) == ("work", 3, 1, "two")
    assert log.data == {"elapsed_s": 1.25, "cut": True}
    assert (edge.node, edge.data) == (None, {"source": "start", "target": "work"})
    assert (state.node, state.iteration, state.attempt) == ("work", 3, 1)
    assert state.data == {"commit": 1, "parents": [0], "diff": [{"op": "set", "key": "n", "value": 1}]}
    assert [record.ts for record in journal] == sorted(record.ts for record in journal)


@pytest.mark.parametrize("limit", [1, 2, 7, 500])
async def test_pages_miss_nothing_and_repeat_nothing(store: Store, run_id: str, begin: Begin, limit: int) -> None:
    key = await begin("work", 1)
    for i in range(5):
        await store.append_logs(run_id, key, 1, lines(*map(str, range(i))))
        await store.apply(run_id, [RecordEdge(0, "a", "b", taken=False)])
    found = await read_all(store, run_id, limit)
    assert [record.seq for record in found] == list(range(1, 20))


async def test_after_the_last_record_there_is_nothing(store: Store, run_id: str) -> None:
    for after in (2, 100, 2**63 - 1, 2**80):
        assert await store.journal(run_id, after=after) == []


async def test_no_lines_are_no_records(store: Store, run_id: str) -> None:
    assert await store.append_logs(run_id, WORK, 1, []) == 2
    with pytest.raises(NotFound):
        await store.append_logs("run_nothing", WORK, 1, [])
    with pytest.raises(NotFound):
        await store.append_logs("run_nothing", WORK, 1, lines("x"))


async def test_the_record_of_the_end_is_the_last(store: Store, run_id: str) -> None:
    assert await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})]) == 3
    assert await store.append_logs(run_id, WORK, 1, lines("too late")) == 3
    journal = await store.journal(run_id)
    assert (len(journal), journal[-1].status) == (3, "completed")


async def test_any_text_can_be_logged(store: Store, run_id: str) -> None:
    texts = ["nul \x00", "lone \udc80", "🐍 ☃", "\u2028\r\t\x1b[31m", "", "x" * 100_000]
    await store.append_logs(run_id, WORK, 1, lines(*texts))
    shown = [record.message for record in await store.journal(run_id, after=2)]
    assert shown == ["nul \\x00", "lone \\udc80", *texts[2:]]


async def test_a_diff_is_stored_once(place: Place, begin: Begin, succeed: Succeed) -> None:
    await succeed(await begin("work", 1), 1, {"mark": "only once"})
    for table, column, times in (("state_commit", "diff", 1), ("event", "entries", 0)):
        assert place.sql(f"SELECT count(*) FROM {table} WHERE {column} LIKE '%only once%'") == [(times,)]


async def test_a_long_diff_is_named_and_not_repeated(store: Store, run_id: str, begin: Begin, succeed: Succeed) -> None:
    value = "x" * MAX_DIFF_BYTES
    await succeed(await begin("work", 1), 1, {"long": value, "short": 1})
    [state] = [record for record in await store.journal(run_id) if record.type == "state"]
    assert state.data == {"commit": 1, "parents": [0], "keys": ["long", "short"], "truncated": True}
    [commit] = await store.commits(run_id)
    assert commit.diff.ops == (SetKey("long", value), SetKey("short", 1))


async def test_a_diff_at_the_bound_is_told(store: Store, run_id: str, begin: Begin, succeed: Succeed) -> None:
    around = len('[{"op":"set","key":"k","value":""}]')
    await succeed(await begin("work", 1), 1, {"k": "x" * (MAX_DIFF_BYTES - around)})
    await succeed(await begin("work", 2), 2, {"k": "x" * (MAX_DIFF_BYTES - around + 1)})
    told = ["diff" in record.data for record in await store.journal(run_id) if record.type == "state"]
    assert told == [True, False]


async def test_what_a_record_says_is_bounded_whatever_the_keys(
    store: Store, run_id: str, begin: Begin, succeed: Succeed
) -> None:
    await succeed(await begin("work", 1), 1, {"k" * 1_000_000: 1})
    await succeed(await begin("work", 2), 2, {f"key{i:06}": 1 for i in range(10_000)})
    states = [record for record in await store.journal(run_id) if record.type == "state"]
    assert all(len(record.message) < 5_000 for record in states)
    assert states[0].data["keys"] == []
    keys = states[1].data["keys"]
    assert isinstance(keys, list)
    assert keys[:2] == ["key000000", "key000001"]
    assert 100 < len(keys) < 2_000


async def test_a_reader_sees_nothing_before_the_commit(store: Store, run_id: str) -> None:
    loop = asyncio.get_running_loop()
    written, may_commit = asyncio.Event(), asyncio.Event()

    def write(connection: object) -> None:
        connection.exec_driver_sql("UPDATE run SET last_seq = 99")  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(written.set)
        asyncio.run_coroutine_threadsafe(may_commit.wait(), loop).result(10)

    writing = asyncio.create_task(store._database.write(write))
    await written.wait()
    assert (await store.run_summary(run_id)).last_seq == 2
    may_commit.set()
    await writing
    assert (await store.run_summary(run_id)).last_seq == 99


async def test_readers_follow_writers_without_a_gap(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    total = 4 + 5 * (4 + sum(i for i in range(10) if i % 3))

    async def write(task: int) -> None:
        for i in range(10):
            if i % 3:
                await store.append_logs(run_id, key, 1, lines(*[f"{task}.{i}"] * i))
            else:
                await store.apply(run_id, [RecordEdge(i, "a", "b", taken=True)])

    async def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < total:
            page = await store.journal(run_id, after=seen[-1] if seen else 0, limit=9)
            seen += [record.seq for record in page]
        return seen

    *_, one, two = await asyncio.gather(*(write(task) for task in range(5)), follow(), follow())
    assert one == two == list(range(1, total + 1))
    assert (await store.run_summary(run_id)).last_seq == one[-1]


def _nothing() -> Graph:
    return Graph("g", (Node("start", NodeType.START), Node("end", NodeType.END)), (Edge("start", "end"),))


async def _write_all(data_dir: Path, plans: list[list[int]]) -> list[list[int]]:
    """Run one task a plan, each with its own node; a number is so many log lines, or a commit where it is negative."""
    store = await Store.open(data_dir)
    try:
        version, _ = await store.save_graph(_nothing())
        run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
        numbers = iter(range(1, 1_000))

        async def write(plan: list[int], node: str) -> list[int]:
            told: list[int] = []
            for iteration, what in enumerate(plan, 1):
                key = NodeRunKey(node, iteration)
                view = View.initial({})
                started: list[Command] = [RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, view)]
                told.append(await store.apply(run.run_id, started))
                if what < 0:
                    diff = StateDiff((SetKey(node, "x" * -what),))
                    told.append(await store.apply(run.run_id, [RecordCommit(next(numbers), (0,), diff, key, 1)]))
                else:
                    told.append(await store.append_logs(run.run_id, key, 1, lines(*map(str, range(what)))))
            return told

        told = await asyncio.gather(*(write(plan, f"n{i}") for i, plan in enumerate(plans)))
        journal = await read_all(store, run.run_id, 17)
        assert [record.seq for record in journal] == list(range(1, len(journal) + 1))
        assert len(journal) == (await store.run(run.run_id)).last_seq
        for i, plan in enumerate(plans):
            said = [(r.iteration, r.message) for r in journal if r.kind == "log" and r.node == f"n{i}"]
            assert said == [(n, str(j)) for n, what in enumerate(plan, 1) for j in range(what)]
        return told
    finally:
        await store.close()


@settings(max_examples=part_of(10, 5), deadline=None)
@given(st.lists(st.lists(st.integers(-200_000, 12), max_size=4), min_size=1, max_size=4))
def test_whatever_is_written_at_once_the_sequence_has_no_gap(plans: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(_write_all(Path(folder), plans))
    for numbers in told:
        assert numbers == sorted(numbers)
