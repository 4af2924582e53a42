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


@asynccontextmanager
async def opened(
    folder: Path, process_id: str | None = None, takeover_after_s: float | None = None
) -> AsyncIterator[Store]:
    store = await Store.open(folder, process_id=process_id, takeover_after_s=takeover_after_s)
    try:
        yield store
    finally:
        await store.close()


def known(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / FILE)) as database:
        return [name for (name,) in database.execute("SELECT id FROM process ORDER BY id")]


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


async def test_a_process_is_known_while_it_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path, "one") as store:
        assert store.process_id == "one"
        assert known(tmp_path) == ["one"]
        for _ in range(3):
            await store.heartbeat()
    assert known(tmp_path) == []
    async with opened(tmp_path) as store:
        assert known(tmp_path) == [store.process_id]


async def test_a_process_that_is_heard_of_keeps_its_folder(tmp_path: Path) -> None:
    async with opened(tmp_path, "one", 0.3) as one:
        for _ in range(4):
            await asyncio.sleep(0.1)
            await one.heartbeat()
            for takeover_after_s in (0.3, None):
                with pytest.raises(ConfigurationError, match=IN_USE):
                    await Store.open(tmp_path, takeover_after_s=takeover_after_s)
        assert known(tmp_path) == ["one"]


async def test_a_process_that_never_promised_to_be_heard_of_keeps_its_folder(tmp_path: Path) -> None:
    async with opened(tmp_path, "silent") as silent:
        await asyncio.sleep(0.05)
        with pytest.raises(ConfigurationError, match=IN_USE):
            await Store.open(tmp_path, takeover_after_s=0.01)
        await silent.heartbeat()
        await asyncio.sleep(0.05)
        async with opened(tmp_path, "next", 0.01):
            assert await is_fenced(silent.heartbeat())


async def test_who_was_not_heard_of_is_fenced_off(tmp_path: Path, graph: Graph) -> None:
    async with opened(tmp_path, "one", 5) as one:
        run_id, lease = await claimed(one, graph)
        await asyncio.sleep(0.1)
        with pytest.raises(ConfigurationError, match=IN_USE):
            await Store.open(tmp_path, process_id="patient")
        with pytest.raises(ConfigurationError, match="choose a new one"):
            await Store.open(tmp_path, process_id="one", takeover_after_s=0.05)
        assert known(tmp_path) == ["one"]
        async with opened(tmp_path, "two", 0.05) as two:
            assert known(tmp_path) == ["two"]
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
            assert known(tmp_path) == ["two"]
            with pytest.raises(ConfigurationError, match=IN_USE):
                await Store.open(tmp_path)
            await two.heartbeat()
    async with opened(tmp_path):
        pass
    assert files(tmp_path) == {FILE, "sandgraph.lock"}


async def test_of_many_that_would_take_over_one_does(tmp_path: Path) -> None:
    one = await Store.open(tmp_path, process_id="frozen")
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("UPDATE process SET heartbeat_at = '2020-01-01 00:00:00.000000'")
    tried = await asyncio.gather(*(Store.open(tmp_path, takeover_after_s=60) for _ in range(8)), return_exceptions=True)
    won = [each for each in tried if isinstance(each, Store)]
    lost = [each for each in tried if isinstance(each, BaseException)]
    assert len(won) == 1
    assert all(isinstance(each, ConfigurationError) and IN_USE in each.message for each in lost)
    assert known(tmp_path) == [won[0].process_id]
    await won[0].heartbeat()
    with pytest.raises(ConfigurationError, match=IN_USE):
        await Store.open(tmp_path, takeover_after_s=60)
    await won[0].close()
    await one.close()
    assert known(tmp_path) == []


async def test_who_got_the_lock_that_was_replaced_meanwhile_does_not_have_the_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert (lock.is_held, lock.is_current()) == (True, True)
    other = FolderLock(tmp_path)
    assert (other.is_held, other.is_current()) == (False, False)
    other.replace()
    assert (lock.is_current(), other.is_current()) == (False, True)
    assert not FolderLock(tmp_path).is_held
    lock.release()
    assert not FolderLock(tmp_path).is_held
    other.release()
    (tmp_path / "sandgraph.lock").unlink()
    lock = FolderLock(tmp_path)
    (tmp_path / "sandgraph.lock").unlink()
    assert not lock.is_current()
    lock.release()


async def test_a_takeover_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, "one", 5) as one:
        await asyncio.sleep(0.05)

        def refuse(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("pathlib.Path.rename", refuse)
            with pytest.raises(ConfigurationError, match="No space left"):
                await Store.open(tmp_path, takeover_after_s=0.01)
        assert files(tmp_path) <= {FILE, f"{FILE}-wal", f"{FILE}-shm", "sandgraph.lock"}
        assert known(tmp_path) == ["one"]
        await one.heartbeat()


async def test_a_database_of_an_earlier_release_in_use_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("DROP TABLE process")
    lock = FolderLock(tmp_path)
    with pytest.raises(ConfigurationError, match=IN_USE):
        await Store.open(tmp_path, takeover_after_s=0.0)
    lock.release()


async def test_what_a_killed_process_left_behind_is_cleared_at_once(tmp_path: Path, graph: Graph) -> None:
    async with opened(tmp_path, "one") as one:
        run_id, lease = await claimed(one, graph)
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("INSERT INTO process SELECT 'killed', created_at, created_at FROM run")
    async with opened(tmp_path, "two", 3600) as two:
        assert known(tmp_path) == ["two"]
        assert await is_fenced(two.apply(run_id, [RecordRun(RunStatus.RUNNING)], lease=lease))


async def test_a_heartbeat_that_the_database_refuses_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandgraph.store.database.BUSY_TIMEOUT_S", 0.05)
    async with opened(tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.heartbeat()
            other.execute("ROLLBACK")
        await store.heartbeat()
        assert not processes.is_frozen(tmp_path / FILE, 60)


HOLDER = """\
import asyncio, sys
from pathlib import Path
from sandgraph.errors import Conflict
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.store.store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]))
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


def test_a_frozen_process_is_replaced_and_stops_when_it_thaws(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            asyncio.run(_replace(holder, tmp_path))
        finally:
            holder.kill()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("SELECT count(*) FROM process").fetchone() == (0,)
    lock = FolderLock(tmp_path)
    assert lock.is_held
    lock.release()


async def _replace(holder: subprocess.Popen[str], folder: Path) -> None:
    assert holder.stdout is not None
    run_id = (await asyncio.to_thread(holder.stdout.readline)).strip()
    assert (await asyncio.to_thread(holder.stdout.readline)).strip() == "wrote"
    with pytest.raises(ConfigurationError, match=IN_USE):
        await Store.open(folder, takeover_after_s=30)
    store = await _taken_over(holder, folder)
    try:
        before = await store.run(run_id)
        assert (before.status, before.owner) == (RunStatus.RUNNING, None)
        holder.send_signal(signal.SIGCONT)
        out = await asyncio.to_thread(holder.stdout.read)
        assert out.split()[-1] == "lease_lost"
        assert await asyncio.to_thread(holder.wait, 10) == 0
        assert await store.run(run_id) == before
        with pytest.raises(ConfigurationError, match=IN_USE):
            await Store.open(folder)
        lease = await store.claim_run(run_id, "me")
        await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})], lease=lease)
    finally:
        await store.close()


async def _taken_over(holder: subprocess.Popen[str], folder: Path) -> Store:
    while True:
        holder.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        try:
            return await Store.open(folder, takeover_after_s=0.2)
        except ConfigurationError:
            # It stopped in the middle of a write, and holds the database.
            holder.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
