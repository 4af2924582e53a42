"""A database as an earlier release left it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from sandgraph.errors import ConfigurationError
from sandgraph.model.commands import RecordRun, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import View
from sandgraph.store import migrations
from sandgraph.store.columns import to_json
from sandgraph.store.filters import RunFilter
from sandgraph.store.migrations import statements
from sandgraph.store.records import Checkpoint, RunEvent
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"
SCHEMA_1 = Path(__file__).with_name("schema_1.sql").read_text()
#: Of the first schema; later ones have more.
COLUMNS = {
    "run": "id, graph_id, graph_name, status, failure, image, idempotency_key, fingerprint, last_seq, last_commit, "
    "created_at, started_at, finished_at",
    "event": "run_id, seq, ts, type, status, message, node, iteration, attempt, diff_of, data",
    "node_run": "run_id, node, iteration, first_seq, status, message, failure, started_at, finished_at",
    "attempt": "run_id, node, iteration, attempt, status, failure, usage, started_at, finished_at",
    "state_commit": "run_id, number, parents, diff, node, iteration, attempt, created_at",
    "log_record": "run_id, seq, ts, node, iteration, attempt, stream, elapsed_s, text, is_cut",
}
NOW = "2026-11-23 12:00:00.000000"


def insert(table: str, values: str) -> str:
    return f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({values})"


def statements_of(revision: int) -> list[str]:
    """Return what a revision does to a database of the one before."""
    module = import_module(f"sandgraph.store.migrations.versions.revision_{revision:04}")
    found: list[str] = [str(statement) for statement in module.STATEMENTS]
    return found


def make(folder: Path, *statements: str, schema: int = 1) -> None:
    """Make a database of an earlier schema."""
    with closing(sqlite3.connect(folder / FILE)) as old:
        old.executescript(SCHEMA_1)
        old.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA application_id = 1397190760; PRAGMA user_version = {schema};"
        )
        more = [statement for each in range(2, schema + 1) for statement in statements_of(each)]
        if schema > 2:
            statements += ("UPDATE run SET failure_code = json_extract(failure, '$.code') WHERE failure IS NOT NULL",)
        for statement in (*more, *statements):
            old.execute(statement)
        old.commit()


def runs(**statuses: str) -> list[str]:
    """Return the statements of a graph and of runs."""
    document = '{"name":"g","start_node":null,"max_steps":9,"timeout_s":null,"nodes":[],"edges":[]}'
    said = [f"INSERT INTO graph VALUES ('g1', 'g', 1, '{document}', '{NOW}')"]
    for run_id, status in statuses.items():
        ended = f"'{NOW}'" if status in {"completed", "interrupted"} else "NULL"
        values = f"'{run_id}', 'g1', 'g', '{status}', NULL, 'image', NULL, NULL, 1, 0, '{NOW}', NULL, {ended}"
        said.append(insert("run", values))
        said.append(f"INSERT INTO run_state VALUES ('{run_id}', 'initial', '{{\"x\":1}}')")
        said.append(insert("event", f"'{run_id}', 1, '{NOW}', 'run', '{status}', '', {'NULL, ' * 4}NULL"))
    return said


def deeds(run_id: str) -> list[str]:
    """Return the statements of what a run did: two branches, one of them retried, that met, and a node that runs."""
    said = []
    node_runs = [("a", "succeeded"), ("b", "succeeded"), ("join", "succeeded"), ("last", "running")]
    for number, (node, status) in enumerate(node_runs, 1):
        ended = "NULL" if status == "running" else f"'{NOW}'"
        of = f"'{run_id}', '{node}', 1"
        said.append(insert("node_run", f"{of}, {number}, '{status}', 'm', NULL, '{NOW}', {ended}"))
        said.append(insert("attempt", f"{of}, 1, '{status}', NULL, '{{\"wall_s\":1.5}}', '{NOW}', {ended}"))
    failure = '{"code":"error","message":"It broke."}'
    said.append(insert("attempt", f"'{run_id}', 'b', 1, 2, 'error', '{failure}', NULL, '{NOW}', '{NOW}'"))
    for number, parents, key in ((1, "[0]", "a"), (2, "[0]", "b"), (3, "[1,2]", "join")):
        diff = f'[{{"op":"set","key":"{key}","value":{number}}}]'
        values = f"'{run_id}', {number}, '{parents}', '{diff}', '{key}', 1, 1, '{NOW}'"
        said.append(insert("state_commit", values))
        of = f"'{key}', 1, 1"
        said.append(
            insert(
                "event",
                f"'{run_id}', {2 * number}, '{NOW}', 'state', 'committed', 'm', {of}, {number}, "
                f"'{{\"commit\":{number}}}'",
            )
        )
        said.append(insert("log_record", f"'{run_id}', {2 * number + 1}, '{NOW}', {of}, 'stdout', 0.5, 'x', 0"))
    said.append(f"UPDATE run SET last_seq = 7, last_commit = 3 WHERE id = '{run_id}'")
    said.append(f"UPDATE run SET failure = '{failure}' WHERE status = 'failed'")
    return said


def tables_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(file)) as database:
        names = [
            name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'index')")
        ]
        return {
            f"{name} {what}": sorted(database.execute(f"PRAGMA {what}({name})"), key=str)
            for name in names
            for what in ("table_list", "table_xinfo", "foreign_key_list", "index_list", "index_info")
        }


def shape(file: Path) -> dict[str, set[tuple[object, ...]]]:
    """Return what tables and indexes there are, and of what columns and constraints."""
    # A column's place is its own affair: statements name their columns. So is a constraint's.
    found = tables_of(file)
    tables = {name: {row[1:] for row in rows} for name, rows in found.items()}
    return tables | {
        name: {(row[0], row[2]) for row in rows} for name, rows in found.items() if name.endswith(" index_info")
    }


@pytest.mark.parametrize("schema", [1, 2, 3])
async def test_an_old_schema_becomes_the_present_one(tmp_path: Path, schema: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    make(old, *runs(run_a="completed"), *deeds("run_a"), schema=schema)
    for folder in (old, new):
        await (await Store.open(folder)).close()

    assert shape(old / FILE) == shape(new / FILE)
    with closing(sqlite3.connect(old / FILE)) as migrated:
        assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert migrated.execute("SELECT * FROM alembic_version").fetchall() == [(f"{SCHEMA_VERSION:04}",)]
        assert migrated.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert migrated.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_runs_of_an_old_schema_are_kept_and_those_that_waited_are_taken_up(tmp_path: Path, graph: Graph) -> None:
    make(tmp_path, *runs(run_a="completed", run_b="running", run_c="pending", run_d="interrupted"))
    store = await Store.open(tmp_path)
    try:
        assert list(await store.hand_back_runs()) == ["run_c"]
        found = {run.run_id: (run.status, run.is_final) for run in (await store.list_runs()).items}
        assert found == {
            "run_a": (RunStatus.COMPLETED, True),
            # What it was told was not stored then.
            "run_b": (RunStatus.INTERRUPTED, True),
            "run_c": (RunStatus.PENDING, False),
            "run_d": (RunStatus.INTERRUPTED, True),
        }
        assert [record.is_end for record in await store.journal("run_b")] == [False, True]
        assert (await store.run("run_a")).initial_state == {"x": 1}
        await store.apply("run_c", [RecordRun(RunStatus.RUNNING)], told=RunEvent(1, {"type": "started"}))
        assert list(await store.hand_back_runs()) == ["run_c"]
        assert (await store.save_graph(graph))[1]
    finally:
        await store.close()


@pytest.mark.parametrize("schema", [1, 2, 3])
async def test_what_runs_did_under_an_old_schema_is_kept(tmp_path: Path, schema: int) -> None:
    told = [
        f"INSERT INTO run_event VALUES ('run_a', {number}, '{document}', {made}, '{NOW}')"
        for number, document, made in ((1, '{"type":"started"}', "NULL"), (2, '{"type":"succeeded","node":"a"}', 1))
    ]
    old = runs(run_a="running", run_b="failed")
    told += ["UPDATE run SET failure_code = 'error' WHERE status = 'failed'"] if schema > 2 else []
    make(tmp_path, *old, *deeds("run_a"), *deeds("run_b"), *(told if schema > 1 else ()), schema=schema)
    store = await Store.open(tmp_path)
    try:
        node_runs = await store.node_runs("run_a")
        assert [(each.node, each.status, each.scope, each.first_seq) for each in node_runs] == [
            ("a", NodeRunStatus.SUCCEEDED, "", 1),
            ("b", NodeRunStatus.SUCCEEDED, "", 2),
            ("join", NodeRunStatus.SUCCEEDED, "", 3),
            ("last", NodeRunStatus.RUNNING, "", 4),
        ]
        assert [(each.attempt, each.status, each.reads) for each in node_runs[1].attempts] == [
            (1, AttemptStatus.SUCCEEDED, None),
            (2, AttemptStatus.ERROR, None),
        ]
        assert node_runs[0].attempts[0].usage == Usage(wall_s=1.5)
        commits = await store.commits("run_a")
        assert [(each.number, each.parents, each.node, each.attempt, each.trunk) for each in commits] == [
            (1, (0,), "a", 1, None),
            (2, (0,), "b", 1, None),
            (3, (1, 2), "join", 1, None),
        ]
        assert await store.checkpoint("run_a", 2) == Checkpoint({"x": 1, "b": 2}, {"x": 0, "b": 2})
        assert (await store.checkpoint("run_a", 3)).writers == {"x": 0, "a": 1, "b": 2, "join": 3}
        journal = await store.journal("run_a")
        assert [(each.seq, each.kind, each.scope) for each in journal] == [
            (1, "event", ""),
            *((seq, ("event", "log")[seq % 2], "") for seq in range(2, 8)),
        ]
        assert journal[1].data == {"commit": 1, "diff": [{"op": "set", "key": "a", "value": 1}]}
        assert [each.commit for each in await store.run_events("run_a")] == ([None, 1] if schema > 1 else [])
        [failed] = (await store.list_runs(RunFilter(failure="error"))).items
        assert (failed.run_id, failed.owner, failed.paused, failed.forked_from) == ("run_b", None, False, None)
        # They go on.
        assert list(await store.hand_back_runs()) == (["run_a"] if schema > 1 else [])
        if schema > 1:
            lease = await store.claim_run("run_a", "me")
            assert lease == 2
            assert await store.resume_run("run_a", 3, "image")
            key = NodeRunKey("last")
            await store.apply("run_a", [StartAttempt(key, 2, View.initial({}))], lease=lease)
            assert (await store.node_runs("run_a"))[3].status is NodeRunStatus.RUNNING
    finally:
        await store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as migrated:
        assert migrated.execute("PRAGMA foreign_key_check").fetchall() == []
        assert migrated.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_every_event_of_an_old_journal_says_what_it_said(tmp_path: Path) -> None:
    said = [
        # Status, message, node, iteration, attempt, scope, number of the commit, data.
        ('it\'s "so"', "tab\t, \\x00, \\ and \N{SNAKE}", None, None, None, "", None, None),
        ("failed", "", "a/b", 2, 3, "sub#1", None, {"error": {"code": "\udc80\0", "message": "é"}}),
        ("committed", "m", "b", 1, 1, "", 2, {"commit": 2, "parents": [0]}),
        ("committed", "m", "a", 1, 1, "", 1, None),
        ("committed", "m", "a", 1, 1, "", 1, {}),
        ("committed", "too long", "a", 1, 1, "", None, {"commit": 1, "keys": ["k"], "truncated": True}),
    ]
    make(tmp_path, *runs(run_a="completed"), *deeds("run_a"), schema=3)
    with closing(sqlite3.connect(tmp_path / FILE)) as old:
        columns = "run_id, seq, ts, type, status, message, node, iteration, attempt, scope, diff_of, data"
        for seq, (*values, data) in enumerate(said, 8):
            of = ("run_a", seq, NOW, "kind", *values, None if data is None else to_json(data))
            old.execute(f"INSERT INTO event ({columns}) VALUES ({', '.join('?' * len(of))})", of)
        old.commit()
    store = await Store.open(tmp_path)
    try:
        journal = await store.journal("run_a", after=7)
        for seq, (record, (*values, made, data)) in enumerate(zip(journal, said, strict=True), 8):
            found = (record.status, record.message, record.node, record.iteration, record.attempt, record.scope)
            diff = {"diff": [{"op": "set", "key": "_ab"[made], "value": made}]} if made else {}
            assert (record.seq, record.kind, record.type, *found) == (seq, "event", "kind", *values)
            assert (record.data, record.ts.isoformat(" ")) == ({**(data or {}), **diff}, "2026-11-23 12:00:00+00:00")
        for after in range(7, 14):
            assert await store.journal("run_a", after=after, limit=2) == journal[after - 7 : after - 5]
    finally:
        await store.close()


@pytest.mark.parametrize("schema", [1, 2, 3])
async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    make(tmp_path, *runs(run_a="completed"), *deeds("run_a"), schema=schema)
    before = tables_of(tmp_path / FILE)
    execute, done = statements.execute, list[int]()

    def fail_at_last(said: Iterable[statements.Statement]) -> None:
        done.append(len(done) + schema + 1)
        execute([*said, *(["CREATE nonsense"] if done[-1] == SCHEMA_VERSION else [])])

    monkeypatch.setattr(statements, "execute", fail_at_last)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await Store.open(tmp_path)
    assert done == list(range(schema + 1, SCHEMA_VERSION + 1))
    assert tables_of(tmp_path / FILE) == before
    monkeypatch.undo()
    await (await Store.open(tmp_path)).close()


def migrated(file: Path, to: int) -> None:
    """Run the revisions from an empty database."""
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        migrations.upgrade(connection, 0, to)
    engine.dispose()


async def test_the_revisions_make_of_nothing_what_is_made_at_once(tmp_path: Path) -> None:
    await (await Store.open(tmp_path)).close()
    migrated(tmp_path / "migrated.db", SCHEMA_VERSION)
    assert shape(tmp_path / "migrated.db") == shape(tmp_path / FILE)


def test_the_first_revision_is_what_the_first_release_made(tmp_path: Path) -> None:
    make(tmp_path)
    migrated(tmp_path / "migrated.db", 1)
    ours = {name: rows for name, rows in shape(tmp_path / "migrated.db").items() if "alembic_version" not in name}
    assert ours == shape(tmp_path / FILE)


def test_there_is_a_revision_for_each_schema() -> None:
    folder = Path(migrations.__file__).with_name("versions")
    assert {file.name for file in folder.glob("revision_*.py")} == {
        f"revision_{version:04}.py" for version in range(1, SCHEMA_VERSION + 1)
    }
    for version in range(1, SCHEMA_VERSION + 1):
        module = import_module(f"sandgraph.store.migrations.versions.revision_{version:04}")
        assert module.revision == migrations.revision_of(version)
        assert module.down_revision == (migrations.revision_of(version - 1) if version > 1 else None)
