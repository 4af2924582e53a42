"""What is SQLite's alone: the folder, the file, and their troubles."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from places import Place
from sqlalchemy import Connection

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.model.commands import Command, RecordCommit, RecordNodeRun, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey, NodeRunStatus
from sandgraph.model.state import SetKey, StateDiff, View
from sandgraph.store import sqlite
from sandgraph.store.records import CodeKind, RunEvent
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", None)


async def refusal(data_dir: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await Store.open(data_dir)
    # Nothing is left open or locked.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandgraph-store")]
    assert refused.value.message.startswith("data_dir: ")
    return refused.value.message


def pragma(connection: Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


async def test_the_folder_is_made_and_is_the_owners_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data ☃ ?%#"
    store = await Store.open(data_dir)
    try:
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()} == {0o600}
        assert (data_dir / FILE).exists()
    finally:
        await store.close()


async def test_the_database_is_set_up_to_keep_its_promises(store: Store) -> None:
    def settings(connection: Connection) -> list[object]:
        return [pragma(connection, name) for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")]

    full = 2
    assert await store._database.write(settings) == ["wal", 1, full, 5_000]
    assert await store._database.read(settings) == ["wal", 1, full, 5_000]


async def test_a_folder_that_nobody_works_on_has_the_file_alone(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.save_code(CodeKind.FUNCTION, "work", "…")
    await store.close()
    # The write-ahead log is folded in: the file alone is a whole copy.
    assert set(os.listdir(tmp_path)) == {FILE, "sandgraph.lock"}  # noqa: PTH208


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in await refusal(tmp_path / "file" / "data")
    assert "cannot make the folder" in await refusal(tmp_path / "file")


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert await refusal(tmp_path) == f"data_dir: the folder {tmp_path} cannot be written: Permission denied."


async def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert "cannot be used" in await refusal(tmp_path)


async def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 1_000)
    assert "file is not a database" in await refusal(tmp_path)


async def test_a_database_cut_short_is_refused(tmp_path: Path) -> None:
    await (await Store.open(tmp_path)).close()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:6_000])
    assert "malformed" in await refusal(tmp_path)


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE theirs (id INTEGER)")
    before = (tmp_path / FILE).read_bytes()
    assert "is not a database of Sandgraph" in await refusal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    await (await Store.open(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as newer:
        newer.execute("PRAGMA user_version = 1000")
    before = (tmp_path / FILE).read_bytes()
    assert "is of a newer Sandgraph (its schema is 1000" in await refusal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


async def test_a_database_that_another_program_holds(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    store = await Store.open(tmp_path)
    try:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="database is locked") as unavailable:
                await store.save_graph(graph)
            assert unavailable.value.code == "store_unavailable"
            assert (await store.list_graphs()).items == ()
            other.execute("ROLLBACK")
            version, _ = await store.save_graph(graph)
            assert (await store.list_graphs()).items == (version,)
    finally:
        await store.close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "database is locked" in await refusal(tmp_path)


async def test_a_full_disk_loses_nothing_that_was_stored(store: Store, run_id: str) -> None:
    def room(connection: Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await store._database.write(room, 1)
    before = await store.run(run_id)
    big = [LogLine("stdout", 0.0, "x" * 100_000)] * 5
    for _ in range(3):
        with pytest.raises(Unavailable, match="full"):
            await store.append_logs(run_id, NodeRunKey("work"), 1, big)
    assert await store.run(run_id) == before
    await store._database.write(room, 1_000_000)
    assert await store.append_logs(run_id, NodeRunKey("work"), 1, big) == before.last_seq + 5


async def test_a_full_disk_leaves_no_half_of_a_step_an_event_or_a_fork(store: Store, run_id: str) -> None:
    def room(connection: Connection, pages: int) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    async def seen() -> list[object]:
        runs = await store.list_runs()
        return [runs, await store.untold_events(run_id), await store.run_events(run_id), await store.commits(run_id)]

    key, big = NodeRunKey("work"), StateDiff((SetKey("big", "x" * 500_000),))
    lease = await store.claim_run(run_id, "me")
    view = View.initial({})
    began: list[Command] = [RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, view)]
    step: list[Command] = [*began, RecordCommit(1, (0,), big, key, 1, before=view, after=view.after(1, big))]
    version = await store.graph((await store.run(run_id)).graph_id)
    before = await seen()
    await store._database.write(room, 1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="full"):
            await store.apply(run_id, step, told=RunEvent(1, {"type": "started"}), lease=lease)
        with pytest.raises(Unavailable, match="full"):
            await store.receive_event(run_id, "go", "x" * 500_000, "id", limit=9)
        with pytest.raises(Unavailable, match="full"):
            await store.fork_run(NewRun(version, {}, {}, {}, "image"), step, [], forked_from=run_id, forked_at=1)
    assert await seen() == before
    await store._database.write(room, 1_000_000)
    assert await store.apply(run_id, step, told=RunEvent(1, {"type": "started"}), lease=lease) == 5
    assert (await store.receive_event(run_id, "go", "x" * 500_000, "id", limit=9))[1]


async def test_readers_without_end_do_not_let_the_log_grow(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LOG_BYTES", 1_000_000)
    monkeypatch.setattr(sqlite, "_LOG_PATIENCE_MS", 20)
    monkeypatch.setattr(sqlite, "_LOOK_S", 0.0)
    store = await Store.open(tmp_path)
    log = tmp_path / f"{FILE}-wal"
    try:
        version, _ = await store.save_graph(graph)
        run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
        lines = [LogLine("stdout", 0.0, "x" * 10_000)] * 50
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM run").fetchall()
            for _ in range(5):
                await store.append_logs(run.run_id, NodeRunKey("work"), 1, lines)
            assert log.stat().st_size > 2_000_000
            backend = store._database._backend
            assert isinstance(backend, sqlite.SqliteBackend)
            # It was tried, in vain, and is not tried again at every write.
            assert backend._log_bound > 2_000_000
            # Until the next write is too much.
            while log.stat().st_size + 400_000 < backend._log_bound:
                await store.append_logs(run.run_id, NodeRunKey("work"), 1, lines)
            reader.execute("COMMIT")
        for _ in range(5):
            await store.append_logs(run.run_id, NodeRunKey("work"), 1, lines)
        assert log.stat().st_size < 2_000_000
        timeout = await store._database.write(lambda connection: pragma(connection, "busy_timeout"))
        assert timeout == round(sqlite.BUSY_TIMEOUT_S * 1000)
    finally:
        await store.close()
