"""Retention in the background: what is to go goes, however it is stopped, and writers go first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandgraph.errors import NotFound, Unavailable
from sandgraph.execution import retention as module
from sandgraph.execution.retention import Retention
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.settings import Settings, load_settings
from sandgraph.store.records import LogQuery
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

KEY = NodeRunKey("work", 1)
GRAPH = Graph("g", (Node("s", NodeType.START), Node("e", NodeType.END)), (Edge("s", "e"),))


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REST", 0.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path)
    yield opened
    await opened.close()


async def run_of(store: Store, lines: int, *, width: int = 10, ends: bool = True) -> str:
    graph, _ = await store.save_graph(GRAPH)
    run, _ = await store.create_run(graph, {}, functions={}, tools={}, image="image")
    if lines:
        await store.append_logs(run.run_id, KEY, 1, [LogLine("stdout", 0, "x" * width) for _ in range(lines)])
    if ends:
        await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
        await store.apply(run.run_id, [RecordRun(RunStatus.COMPLETED, None, {})])
    return run.run_id


def settings(**values: float) -> Settings:
    return load_settings(**{"log_retention_days": 0, **values})


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def lines_of(store: Store, run_id: str) -> int:
    return (await store.count_lines(run_id, after=0, limit=1_000_000))[0]


async def test_lines_go_once_they_are_too_old_and_runs_stay(store: Store) -> None:
    ended, open_ = await run_of(store, 1_000), await run_of(store, 300, ends=False)
    await run_of(store, 0)
    now = later(9)
    retention = Retention(store, settings(log_retention_days=10), lambda: now)
    await retention.once()
    assert (await lines_of(store, ended), await lines_of(store, open_)) == (1_000, 300)
    now = later(11)
    await retention.once()
    assert (await lines_of(store, ended), await lines_of(store, open_)) == (0, 0)
    assert (await store.log(ended, LogQuery())).records[0].data["lines"] == 1_000
    # What the run in flight prints now is kept until its own time is over.
    await store.append_logs(open_, KEY, 1, [LogLine("stdout", 0, "more")])
    now = datetime.now(UTC) + timedelta(days=9)
    await retention.once()
    assert await lines_of(store, open_) == 1
    assert [run.run_id for run in await store.runs_with_lines()] == [open_]


async def test_the_oldest_lines_go_where_there_are_too_many(store: Store) -> None:
    runs = [await run_of(store, 1_000, width=936) for _ in range(3)]
    growing = await run_of(store, 100, width=936, ends=False)
    retention = Retention(store, settings(log_retention_mb=1))
    await retention.once()
    left = [await lines_of(store, run_id) for run_id in (*runs, growing)]
    assert left[0] == left[1] == 0
    assert 0 < left[2] < 1_000
    assert left[3] == 100
    assert 1_000 * sum(left) <= 1024 * 1024
    # No more than had to go, but for the last ones of a transaction.
    assert 1_000 * sum(left) > 1024 * 1024 - 1_000 * (module._MOST + 1)
    await store.append_logs(growing, KEY, 1, [LogLine("stdout", 0, "x" * 936) for _ in range(1_500)])
    await retention.once()
    left = [await lines_of(store, run_id) for run_id in (*runs, growing)]
    assert left[:3] == [0, 0, 0]
    assert 1_048 - module._MOST <= left[3] <= 1_048
    # Deleted, they count no more: the next ones have their room.
    await store.apply(growing, [RecordRun(RunStatus.RUNNING)])
    await store.apply(growing, [RecordRun(RunStatus.COMPLETED, None, {})])
    await store.delete_run(growing)
    await retention.once()
    last = await run_of(store, 1_000, width=936)
    await retention.once()
    assert await lines_of(store, last) == 1_000


async def test_runs_go_with_all_that_is_of_them_but_none_that_has_not_ended(store: Store) -> None:
    ended, open_ = await run_of(store, 10), await run_of(store, 10, ends=False)
    now = later(6)
    retention = Retention(store, settings(run_retention_days=7), lambda: now)
    await retention.once()
    assert (await store.run_summary(ended)).is_final
    now = later(8)
    await retention.once()
    with pytest.raises(NotFound):
        await store.run_summary(ended)
    assert await lines_of(store, open_) == 10
    assert await store.deleted_runs(10) == []


async def test_nothing_goes_where_nothing_is_to(store: Store) -> None:
    run_id = await run_of(store, 10)
    now = later(30_000)
    await Retention(store, settings(), lambda: now).once()
    assert await lines_of(store, run_id) == 10


async def test_what_a_stop_leaves_half_removed_is_removed_after_the_next_start(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "data")
    run_id = await run_of(store, 500)
    await store.delete_run(run_id)
    assert await store.delete_some(run_id, 100) > 0
    await store.close()
    store = await Store.open(tmp_path / "data")
    retention = Retention(store, settings())
    retention.start()
    async with asyncio.timeout(10):
        while await store.deleted_runs(1):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    await retention.stop()
    assert await lines_of(store, run_id) == 0
    await store.close()


async def test_it_is_roused_by_a_deletion_and_outlives_a_database_that_does_not_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deleted, asked = store.deleted_runs, asyncio.Event()

    async def broken(_limit: int) -> list[str]:
        asked.set()
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(store, "deleted_runs", broken)
    retention = Retention(store, settings())
    retention.start()
    async with asyncio.timeout(10):
        await asked.wait()
        await asyncio.sleep(0)
        monkeypatch.setattr(store, "deleted_runs", deleted)
        run_id = await run_of(store, 50)
        await store.delete_run(run_id)
        retention.rouse()
        while await store.deleted_runs(1):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    await retention.stop()
    assert "retention failed" in caplog.text


async def test_a_writer_waits_for_one_small_transaction_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = await run_of(store, 1_000)
    most, remove = 0, store.remove_lines

    async def watched(run_id: str, *, before: datetime | None, limit: int) -> tuple[int, int]:
        nonlocal most
        most = max(most, limit)
        # Somebody who writes now waits for this one alone: the next is asked for once it is done.
        removing = asyncio.ensure_future(remove(run_id, before=before, limit=limit))
        await store.append_logs(busy, KEY, 1, [LogLine("stdout", 0, "x")])
        return await removing

    busy = await run_of(store, 0, ends=False)
    monkeypatch.setattr(store, "remove_lines", watched)
    now = later(31)
    await Retention(store, settings(log_retention_days=30), lambda: now).once()
    assert await lines_of(store, run_id) == 0
    assert 0 < most <= module._MOST
