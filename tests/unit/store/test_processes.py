"""Processes that take a data folder from one that is frozen, and what the other may do then."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from places import Place, on_sqlite

from sandgraph.errors import ConfigurationError, Conflict, Unavailable
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.store import processes
from sandgraph.store.lock import FolderLock
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"
IN_USE = "in use by another Sandgraph process"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is alive holds its lock after this too."""
    monkeypatch.setattr("sandgraph.store.postgres._PATIENCE_S", 0.1)


@asynccontextmanager
async def opened(
    place: Place, process_id: str | None = None, takeover_after_s: float | None = None
) -> AsyncIterator[Store]:
    store = await place.open(process_id, takeover_after_s)
    try:
        yield store
    finally:
        await store.close()


def known(place: Place) -> list[str]:
    return [str(name) for (name,) in place.sql("SELECT id FROM process ORDER BY id")]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def claimed(store: Store, graph: Graph) -> tuple[str, int]:
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    return run.run_id, await store.claim_run(run.run_id, store.process_id)


async def is_fenced(asked: Awaitable[object]) -> bool:
    with pytest.raises(Conflict) as refused:
        await asked
    return refused.value.code == "lease_lost"


async def test_a_process_is_known_while_it_is_there(place: Place) -> None:
    async with opened(place, "one") as store:
        assert store.process_id == "one"
        assert known(place) == ["one"]
        for _ in range(3):
            await store.heartbeat()
    assert known(place) == []
    async with opened(place) as store:
        assert known(place) == [store.process_id]


async def test_a_process_that_is_heard_of_keeps_its_folder(place: Place) -> None:
    async with opened(place, "one", 0.3) as one:
        for _ in range(4):
            await asyncio.sleep(0.1)
            await one.heartbeat()
            for takeover_after_s in (0.3, None):
                with pytest.raises(ConfigurationError, match=IN_USE):
                    await place.open(takeover_after_s=takeover_after_s)
        assert known(place) == ["one"]


async def test_a_process_that_never_promised_to_be_heard_of_keeps_its_folder(place: Place) -> None:
    async with opened(place, "silent") as silent:
        await asyncio.sleep(0.05)
        with pytest.raises(ConfigurationError, match=IN_USE):
            await place.open(takeover_after_s=0.01)
        await silent.heartbeat()
        await asyncio.sleep(0.05)
        async with opened(place, "next", 0.01):
            assert await is_fenced(silent.heartbeat())


async def test_who_was_not_heard_of_is_fenced_off(place: Place, graph: Graph) -> None:
    async with opened(place, "one", 5) as one:
        run_id, lease = await claimed(one, graph)
        await asyncio.sleep(0.1)
        with pytest.raises(ConfigurationError, match=IN_USE):
            await place.open("patient")
        with pytest.raises(ConfigurationError, match="choose a new one"):
            await place.open("one", 0.05)
        assert known(place) == ["one"]
        async with opened(place, "two", 0.05) as two:
            assert known(place) == ["two"]
            # Whatever it is that the first one does, and under whatever lease.
            version = await one.graph((await one.run(run_id)).graph_id)
            assert await is_fenced(one.apply(run_id, [RecordRun(RunStatus.RUNNING)], lease=lease))
            assert await is_fenced(one.append_logs(run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "x")]))
            assert await is_fenced(one.create_run(version, {}, functions={}, tools={}, image="image"))
            assert await is_fenced(one.save_code(CodeKind.TOOL, "t", "…"))
            assert await is_fenced(one.interrupt_runs())
            assert await is_fenced(one.claim_run(run_id, "one"))
            assert await is_fenced(one.heartbeat())
            # The second one could not use the lease of the first either.
            assert await is_fenced(two.apply(run_id, [RecordRun(RunStatus.RUNNING)], lease=lease))
            run = await two.run(run_id)
            assert (run.status, run.owner, run.last_seq) == (RunStatus.PENDING, None, 1)
            assert await two.claim_run(run_id, "two") == lease + 2
            await one.close()
            # The first one's end frees nothing.
            assert known(place) == ["two"]
            with pytest.raises(ConfigurationError, match=IN_USE):
                await place.open()
            await two.heartbeat()
    async with opened(place):
        pass
    if place.url is None:
        assert files(place.folder) == {FILE, "sandgraph.lock"}


async def test_of_many_that_would_take_over_one_does(place: Place) -> None:
    one = await place.open("frozen")
    place.sql("UPDATE process SET heartbeat_at = '2020-01-01 00:00:00.000000'")
    tried = await asyncio.gather(*(place.open(takeover_after_s=60) for _ in range(8)), return_exceptions=True)
    won = [each for each in tried if isinstance(each, Store)]
    lost = [each for each in tried if isinstance(each, BaseException)]
    assert len(won) == 1
    assert all(isinstance(each, ConfigurationError) and IN_USE in each.message for each in lost)
    assert known(place) == [won[0].process_id]
    await won[0].heartbeat()
    with pytest.raises(ConfigurationError, match=IN_USE):
        await place.open(takeover_after_s=60)
    await won[0].close()
    await one.close()
    assert known(place) == []


@on_sqlite
async def test_who_got_the_lock_that_was_replaced_meanwhile_does_not_have_the_folder(place: Place) -> None:
    place.folder.mkdir()
    lock = FolderLock(place.folder)
    assert (lock.is_held, lock.is_current()) == (True, True)
    other = FolderLock(place.folder)
    assert (other.is_held, other.is_current()) == (False, False)
    other.replace()
    assert (lock.is_current(), other.is_current()) == (False, True)
    assert not FolderLock(place.folder).is_held
    lock.release()
    assert not FolderLock(place.folder).is_held
    other.release()
    (place.folder / "sandgraph.lock").unlink()
    lock = FolderLock(place.folder)
    (place.folder / "sandgraph.lock").unlink()
    assert not lock.is_current()
    lock.release()


@on_sqlite
async def test_a_takeover_that_fails_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(place, "one", 5) as one:
        await asyncio.sleep(0.05)

        def refuse(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("pathlib.Path.rename", refuse)
            with pytest.raises(ConfigurationError, match="No space left"):
                await place.open(takeover_after_s=0.01)
        assert files(place.folder) <= {FILE, f"{FILE}-wal", f"{FILE}-shm", "sandgraph.lock"}
        assert known(place) == ["one"]
        await one.heartbeat()


@on_sqlite
async def test_a_database_of_an_earlier_release_in_use_is_refused(place: Place) -> None:
    async with opened(place):
        pass
    place.sql("DROP TABLE process")
    lock = FolderLock(place.folder)
    with pytest.raises(ConfigurationError, match=IN_USE):
        await place.open(takeover_after_s=0.0)
    lock.release()


async def test_what_a_killed_process_left_behind_is_cleared_at_once(place: Place, graph: Graph) -> None:
    async with opened(place, "one") as one:
        run_id, lease = await claimed(one, graph)
    place.sql("INSERT INTO process (id, started_at, heartbeat_at) SELECT 'killed', created_at, created_at FROM run")
    async with opened(place, "two", 3600) as two:
        assert known(place) == ["two"]
        assert await is_fenced(two.apply(run_id, [RecordRun(RunStatus.RUNNING)], lease=lease))


@on_sqlite
async def test_a_heartbeat_that_the_database_refuses_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandgraph.store.sqlite.BUSY_TIMEOUT_S", 0.05)
    async with opened(place) as store:
        with closing(sqlite3.connect(place.folder / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.heartbeat()
            other.execute("ROLLBACK")
        await store.heartbeat()
        assert not processes.is_frozen(place.folder / FILE, 60)


HOLDER = """\
import asyncio, sys
from pathlib import Path
from sandgraph.errors import Conflict
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.store.store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]), database_url=sys.argv[2] or None)
    graph = Graph("g", (Node("start", NodeType.START), Node("end", NodeType.END)), (Edge("start", "end"),))
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    lease = await store.claim_run(run.run_id, "holder")
    await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)], lease=lease)
    print(run.run_id, flush=True)
    try:
        while True:
            await store.append_logs(run.run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "x")], lease=lease)
            await store.heartbeat()
            print("wrote", flush=True)
            await asyncio.sleep(0.05)
    except Conflict as refused:
        print(refused.code, flush=True)
    await store.close()

asyncio.run(main())
"""


def test_a_frozen_process_is_replaced_and_stops_when_it_thaws(place: Place) -> None:
    command = [sys.executable, "-c", HOLDER, *place.arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            asyncio.run(_replace(holder, place))
        finally:
            holder.kill()
    assert place.sql("SELECT count(*) FROM process") == [(0,)]
    if place.url is None:
        assert place.sql("PRAGMA integrity_check") == [("ok",)]
        assert place.sql("PRAGMA foreign_key_check") == []
        lock = FolderLock(place.folder)
        assert lock.is_held
        lock.release()


async def _replace(holder: subprocess.Popen[str], place: Place) -> None:
    assert holder.stdout is not None
    run_id = (await asyncio.to_thread(holder.stdout.readline)).strip()
    assert (await asyncio.to_thread(holder.stdout.readline)).strip() == "wrote"
    with pytest.raises(ConfigurationError, match=IN_USE):
        await place.open(takeover_after_s=30)
    store = await _taken_over(holder, place)
    try:
        before = await store.run(run_id)
        assert (before.status, before.owner) == (RunStatus.RUNNING, None)
        holder.send_signal(signal.SIGCONT)
        out = await asyncio.to_thread(holder.stdout.read)
        assert out.split()[-1] == "lease_lost"
        assert await asyncio.to_thread(holder.wait, 10) == 0
        assert await store.run(run_id) == before
        with pytest.raises(ConfigurationError, match=IN_USE):
            await place.open()
        lease = await store.claim_run(run_id, "me")
        await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})], lease=lease)
    finally:
        await store.close()


async def _taken_over(holder: subprocess.Popen[str], place: Place) -> Store:
    while True:
        holder.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        try:
            return await place.open(takeover_after_s=0.2)
        except ConfigurationError:
            # It stopped in the middle of a write, and holds the database.
            holder.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
