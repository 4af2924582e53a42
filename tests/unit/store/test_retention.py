"""What is kept no more: the numbers of what is left stay, and readers are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Table, func, select

from sandgraph.errors import Conflict, NotFound
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.log_filter import LogFilter
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.model.state import Json
from sandgraph.store import tables
from sandgraph.store.ids import first_id, new_id
from sandgraph.store.journal import RECORD_BYTES
from sandgraph.store.records import LogQuery
from sandgraph.store.retention import _OF_RUNS
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]
Succeed = Callable[[NodeRunKey, int, dict[str, Json]], Awaitable[int]]


@pytest.fixture
async def key(store: Store, run_id: str, begin: Begin) -> NodeRunKey:
    """Give a node run that printed lines 0 to 9, numbers 5 to 14."""
    key = await begin("work", 1)
    await store.append_logs(run_id, key, 1, [LogLine("stdout", i / 10, f"line {i}") for i in range(10)])
    return key


def count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


async def rows(store: Store) -> dict[str, int]:
    """Return how many rows each table has that has any of runs."""
    counts = {}
    for table in (*_OF_RUNS, tables.run):
        counts[table.name] = await store._database.read(count, table)
    return {name: count for name, count in counts.items() if count}


@pytest.mark.usefixtures("key")
async def test_the_first_lines_go_and_a_gap_stands_for_them(store: Store, run_id: str) -> None:
    stored = (await store.tenants.stored_bytes())["default"]
    assert await store.remove_lines(run_id, before=None, limit=4) == (4, 4 * (RECORD_BYTES + 6))
    # A tenant has its room back.
    assert (await store.tenants.stored_bytes())["default"] == stored - 4 * (RECORD_BYTES + 6)
    page = await store.log(run_id, LogQuery())
    gap, *lines = page.records
    assert (gap.kind, gap.seq, gap.data["from"], gap.data["to"], gap.data["lines"]) == ("gap", 0, 1, 8, 4)
    assert [record.seq for record in lines] == [9, 10, 11, 12, 13, 14]
    # The events are there still, under their numbers.
    events = (await store.log(run_id, LogQuery(LogFilter(events=True)))).records
    assert [record.seq for record in events] == [0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14]


@pytest.mark.usefixtures("key")
async def test_whoever_comes_back_to_the_middle_is_told_of_what_it_missed_alone(store: Store, run_id: str) -> None:
    await store.remove_lines(run_id, before=None, limit=4)
    gap, first, *_ = (await store.log(run_id, LogQuery(after=6))).records
    assert (gap.seq, gap.data["from"], gap.data["to"], gap.data["lines"]) == (6, 7, 8, None)
    assert first.seq == 9
    assert (await store.log(run_id, LogQuery(after=8))).records[0].seq == 9
    back = await store.log(run_id, LogQuery(limit=3, newest=True))
    assert [record.kind for record in back.records] == ["log"] * 3
    back = await store.log(run_id, LogQuery(limit=30, newest=True))
    assert [record.kind for record in back.records] == ["gap"] + ["log"] * 6
    assert len({record.seq for record in back.records}) == 7


@pytest.mark.usefixtures("key")
async def test_lines_go_by_their_age(store: Store, run_id: str, key: NodeRunKey) -> None:
    await store.append_logs(run_id, key, 1, [LogLine("stdout", 2, "later")])
    last = (await store.log(run_id, LogQuery())).records[-1]
    assert (await store.remove_lines(run_id, before=last.ts, limit=100))[0] == 10
    assert (await store.remove_lines(run_id, before=last.ts, limit=100))[0] == 0
    assert [record.message for record in (await store.log(run_id, LogQuery())).records[1:]] == ["later"]


@pytest.mark.usefixtures("key")
async def test_a_run_without_lines_is_looked_at_no_more(store: Store, run_id: str) -> None:
    (lines,) = await store.runs_with_lines()
    assert (lines.run_id, lines.is_final, lines.oldest is not None) == (run_id, False, True)
    await store.remove_lines(run_id, before=None, limit=100)
    await store.mark_without_lines([run_id])
    # It may print more.
    assert [each.oldest for each in await store.runs_with_lines()] == [None]
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
    await store.mark_without_lines([run_id])
    assert await store.runs_with_lines() == []
    gap, *rest = (await store.log(run_id, LogQuery())).records
    assert (gap.data["lines"], rest) == (10, [])


async def test_a_run_that_has_ended_is_deleted_to_the_last_row(
    store: Store, run_id: str, key: NodeRunKey, succeed: Succeed, graph: Graph
) -> None:
    await store.receive_event(run_id, "approved", None, None, limit=10)
    await succeed(key, 1, {"n": 1})
    with pytest.raises(Conflict) as refused:
        await store.delete_run(run_id)
    assert refused.value.code == "run_not_finished"
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, None, {"n": 1})])
    version, _ = await store.save_graph(graph)
    other, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    before = await rows(store)
    await store.delete_run(run_id)
    for ask in (store.run, store.run_summary, store.tenant_of):
        with pytest.raises(NotFound):
            await ask(run_id)
    with pytest.raises(NotFound):
        await store.log(run_id, LogQuery())
    with pytest.raises(NotFound):
        await store.delete_run(run_id)
    assert [run.run_id for run in (await store.list_runs()).items] == [other.run_id]
    assert await rows(store) == before
    assert await store.deleted_runs(10) == [run_id]
    steps = 0
    while done := await store.delete_some(run_id, 2):
        assert done <= 2
        steps += 1
    assert steps > 8
    assert await store.deleted_runs(10) == []
    assert await rows(store) == {"event": 1, "run_state": 1, "run": 1}


async def test_a_key_is_free_again_once_its_run_is_deleted(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)

    async def make() -> tuple[str, bool]:
        run, is_new = await store.create_run(
            version, {}, functions={}, tools={}, image="i", idempotency_key="k", fingerprint="f"
        )
        return run.run_id, is_new

    first, _ = await make()
    await store.interrupt_runs()
    await store.delete_run(first)
    second, is_new = await make()
    assert is_new
    assert second != first


async def test_runs_go_by_the_age_of_their_end(store: Store, run_id: str) -> None:
    assert await store.delete_runs(before=datetime.now(UTC) + timedelta(days=1), limit=10) == 0
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
    assert await store.delete_runs(before=datetime.now(UTC) - timedelta(days=1), limit=10) == 0
    assert await store.delete_runs(before=datetime.now(UTC) + timedelta(days=1), limit=10) == 1
    assert await store.deleted_runs(10) == [run_id]


async def test_a_run_is_not_forked_from_one_that_is_deleted_meanwhile(store: Store, run_id: str, graph: Graph) -> None:
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
    await store.delete_run(run_id)
    version, _ = await store.save_graph(graph)
    with pytest.raises(NotFound):
        await store.fork_run(NewRun(version, {}, {}, {}, "image"), [], [], forked_from=run_id, forked_at=0)


async def test_an_id_tells_of_its_time() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = new_id("run")
    assert first_id("run", before) < made < first_id("run", before + timedelta(seconds=5))
