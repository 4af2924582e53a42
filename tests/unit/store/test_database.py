from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.model.commands import Command, RecordCommit, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import SetKey, StateDiff, View
from sandgraph.store import database
from sandgraph.store.columns import now
from sandgraph.store.records import CodeKind, RunEvent
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"


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


async def test_foreign_keys_hold(store: Store, run_id: str) -> None:
    with pytest.raises(IntegrityError):
        await store.apply(run_id, [RecordCommit(1, (0,), StateDiff(), NodeRunKey("no attempt"), 1)])
    assert (await store.run(run_id)).last_seq == 2


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await store._database.read(lambda connection: connection.exec_driver_sql("DELETE FROM run"))


async def test_what_was_stored_is_there_after_closing(tmp_path: Path, graph: Graph) -> None:
    data_dir = tmp_path / "data"
    store = await Store.open(data_dir)
    function, _ = await store.save_code(CodeKind.FUNCTION, "work", "…")
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {"n": 1}, functions={"work": function}, tools={}, image="image")
    await store.append_logs(run.run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "hello")])
    seen = (await store.run(run.run_id), await store.journal(run.run_id), await store.run_code(run.run_id))
    await store.close()
    # The write-ahead log is folded in: the file alone is a whole copy.
    assert {path.name for path in data_dir.iterdir()} == {FILE, "sandgraph.lock"}

    again = await Store.open(data_dir)
    try:
        assert await again.save_graph(graph) == (version, False)
        found = (await again.run(run.run_id), await again.journal(run.run_id), await again.run_code(run.run_id))
        assert found == seen
    finally:
        await again.close()


async def test_closing_finishes_what_was_begun_and_can_be_repeated(tmp_path: Path, graph: Graph) -> None:
    store = await Store.open(tmp_path)
    writes = [asyncio.create_task(store.save_code(CodeKind.FUNCTION, f"f{i}", "…")) for i in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert all(created for _, created in await asyncio.gather(*writes))
    for call in (store.save_graph(graph), store.count_runs()):
        with pytest.raises(Unavailable) as closed:
            await call
        assert closed.value.code == "store_unavailable"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandgraph-store")]


async def test_a_caller_that_is_cancelled_leaves_no_half_of_a_step(store: Store, run_id: str) -> None:
    release = threading.Event()
    blocking = asyncio.create_task(store._database.write(lambda _: release.wait(10)))
    step = asyncio.create_task(store.apply(run_id, [RecordRun(RunStatus.WAITING), RecordRun(RunStatus.RUNNING)]))
    await asyncio.sleep(0.01)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert (await store.run_summary(run_id)).last_seq == 2
    release.set()
    assert await blocking
    # What was handed in happens, as a whole and in its turn.
    await store.apply(run_id, [RecordRun(RunStatus.WAITING)])
    assert [record.status for record in await store.journal(run_id, after=2)] == ["waiting", "running", "waiting"]


async def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = await Store.open(tmp_path)
    with pytest.raises(ConfigurationError, match=r"in use by another Sandgraph process \(\d+\)"):
        await Store.open(tmp_path)
    assert await first.count_runs() == 0
    await first.close()
    await (await Store.open(tmp_path)).close()


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
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
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
    monkeypatch.setattr(database, "_LOG_BYTES", 1_000_000)
    monkeypatch.setattr(database, "_LOG_PATIENCE_MS", 20)
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
            # It was tried, in vain, and is not tried again at every write.
            assert store._database._log_bound > 2_000_000
            reader.execute("COMMIT")
        for _ in range(5):
            await store.append_logs(run.run_id, NodeRunKey("work"), 1, lines)
        assert log.stat().st_size < 2_000_000
        assert len(await store.journal(run.run_id)) == 500
        timeout = await store._database.write(lambda connection: pragma(connection, "busy_timeout"))
        assert timeout == round(database.BUSY_TIMEOUT_S * 1000)
    finally:
        await store.close()


async def test_work_that_fails_leaves_the_connection_usable(store: Store) -> None:
    for _ in range(10):
        with pytest.raises(Unavailable) as failed:
            await store._database.write(lambda connection: connection.exec_driver_sql("SELECT * FROM nothing"))
        assert isinstance(failed.value.__cause__, OperationalError)
    assert (await store.save_code(CodeKind.TOOL, "t", "…"))[1]


async def _ask_for_everything(store: Store, run_id: str) -> None:
    graph_id = (await store.run(run_id)).graph_id
    assert len(await store.journal(run_id, after=9_000)) == 500
    for kind in CodeKind:
        await store.list_code(kind, limit=10)
        await store.latest_code(kind, ["a", "b"])
    await store.all_tools()
    first = await store.list_graphs(limit=1)
    await store.list_graphs(name="g", limit=1)
    for status in (None, RunStatus.RUNNING):
        for of in (None, graph_id):
            await store.list_runs(status=status, graph_id=of, limit=1, tenant="default")
    await store.list_runs(status=RunStatus.WAITING, limit=1)
    assert len(first.items) == 1
    await store.count_runs(RunStatus.PENDING, RunStatus.RUNNING)
    await store.pending_runs(10)
    for status in (None, RunStatus.FAILED):
        await store.list_runs(status=status, failure="too_many_recoveries", limit=1, tenant="default")
    await store.list_runs(failure="too_many_recoveries", graph_id=graph_id, cursor="cnVuczpydW5f", tenant="default")
    await store.graph_load("default", "g")
    await store.due_runs(now())
    await store.next_wake()
    await store.untold_events(run_id)
    await store.run_summary(run_id)
    await store.interrupt_runs()
    await store.node_runs(run_id)
    await store.node_runs(run_id, after=3, limit=5)
    await store.node_runs_in_progress(run_id)
    await store.count_node_runs(run_id)
    await store.commits(run_id, upto=3)
    await store.commit(run_id, 1)
    await store.authors(run_id, [1, 2])
    await store.checkpoint(run_id, 1)
    for scope in (None, "", "sub#1"):
        for node in (None, "work"):
            await store.history(run_id, scope=scope, node=node, limit=5)
    await store.run_events(run_id, after=3)
    await store.run_code(run_id)


async def test_every_list_is_read_through_an_index(store: Store, run_id: str) -> None:
    key = NodeRunKey("work")
    began = RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, View.initial({}))
    await store.apply(run_id, [*began, RecordCommit(1, (0,), StateDiff(), key, 1, before=View.initial({}))])
    for _ in range(20):
        await store.append_logs(run_id, key, 1, [LogLine("stdout", 0.0, "line")] * 500)
    statements: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(store._database._read_engine, "before_cursor_execute")
    def record(
        _connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    await _ask_for_everything(store, run_id)
    event.remove(store._database._read_engine, "before_cursor_execute", record)

    def plan(connection: Connection, statement: str, parameters: tuple[object, ...]) -> list[str]:
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    assert len(statements) > 35
    for statement, parameters in statements:
        for detail in await store._database.read(plan, statement, parameters):
            by_index = "INDEX" in detail or "PRIMARY KEY" in detail or detail.startswith("CORRELATED")
            # A walk along a trunk, whose length is bounded.
            is_of_walk = detail in {"CO-ROUTINE chain", "MATERIALIZE chain", "SETUP", "RECURSIVE STEP", "SCAN chain"}
            assert by_index or is_of_walk, f"{detail} in {statement}"
            assert "TEMP B-TREE" not in detail
