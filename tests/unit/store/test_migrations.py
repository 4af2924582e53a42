"""A database as an earlier release left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandgraph.errors import ConfigurationError
from sandgraph.model.commands import RecordRun, StartAttempt
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import View
from sandgraph.store import migrations
from sandgraph.store.records import Checkpoint, RunEvent
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"
SCHEMA_1 = Path(__file__).with_name("schema_1.sql").read_text()
RUN = (
    "id, graph_id, graph_name, status, failure, image, idempotency_key, fingerprint, last_seq, last_commit, "
    "created_at, started_at, finished_at"
)
NOW = "2026-11-23 12:00:00.000000"


def make(folder: Path, *statements: str, schema: int = 1) -> None:
    """Make a database of an earlier schema."""
    with closing(sqlite3.connect(folder / FILE)) as old:
        old.executescript(SCHEMA_1)
        old.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA application_id = 1397190760; PRAGMA user_version = {schema};"
        )
        more = [statement for each in range(1, schema) for statement in migrations._STATEMENTS[each]]
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
        said.append(f"INSERT INTO run ({RUN}) VALUES ({values})")
        said.append(f"INSERT INTO run_state VALUES ('{run_id}', 'initial', '{{\"x\":1}}')")
        said.append(f"INSERT INTO event VALUES ('{run_id}', 1, '{NOW}', 'run', '{status}', '', {'NULL, ' * 4}NULL)")
    return said


def deeds(run_id: str) -> list[str]:
    """Return the statements of what a run did: two branches, one of them retried, that met, and a node that runs."""
    said = []
    node_runs = [("a", "succeeded"), ("b", "succeeded"), ("join", "succeeded"), ("last", "running")]
    for number, (node, status) in enumerate(node_runs, 1):
        ended = "NULL" if status == "running" else f"'{NOW}'"
        of = f"'{run_id}', '{node}', 1"
        said.append(f"INSERT INTO node_run VALUES ({of}, {number}, '{status}', 'm', NULL, '{NOW}', {ended})")
        said.append(f"INSERT INTO attempt VALUES ({of}, 1, '{status}', NULL, '{{\"wall_s\":1.5}}', '{NOW}', {ended})")
    failure = '{"code":"error","message":"It broke."}'
    said.append(f"INSERT INTO attempt VALUES ('{run_id}', 'b', 1, 2, 'error', '{failure}', NULL, '{NOW}', '{NOW}')")
    for number, parents, key in ((1, "[0]", "a"), (2, "[0]", "b"), (3, "[1,2]", "join")):
        diff = f'[{{"op":"set","key":"{key}","value":{number}}}]'
        values = f"'{run_id}', {number}, '{parents}', '{diff}', '{key}', 1, 1, '{NOW}'"
        said.append(f"INSERT INTO state_commit VALUES ({values})")
        of = f"'{key}', 1, 1"
        said.append(
            f"INSERT INTO event VALUES ('{run_id}', {2 * number}, '{NOW}', 'state', 'committed', 'm', {of}, {number}, "
            f"'{{\"commit\":{number}}}')"
        )
        said.append(
            f"INSERT INTO log_record VALUES ('{run_id}', {2 * number + 1}, '{NOW}', {of}, 'stdout', 0.5, 'x', 0)"
        )
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


@pytest.mark.parametrize("schema", [1, 2])
async def test_an_old_schema_becomes_the_present_one(tmp_path: Path, schema: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    make(old, *runs(run_a="completed"), *deeds("run_a"), schema=schema)
    for folder in (old, new):
        await (await Store.open(folder)).close()

    def shape(folder: Path) -> dict[str, set[tuple[object, ...]]]:
        # A column's place is its own affair: statements name their columns. So is a constraint's.
        tables = {name: {row[1:] for row in rows} for name, rows in tables_of(folder / FILE).items()}
        return tables | {
            name: {(row[0], row[2]) for row in rows}
            for name, rows in tables_of(folder / FILE).items()
            if name.endswith(" index_info")
        }

    assert shape(old) == shape(new)
    with closing(sqlite3.connect(old / FILE)) as migrated:
        assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
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


@pytest.mark.parametrize("schema", [1, 2])
async def test_what_runs_did_under_an_old_schema_is_kept(tmp_path: Path, schema: int) -> None:
    told = [
        f"INSERT INTO run_event VALUES ('run_a', {number}, '{document}', {made}, '{NOW}')"
        for number, document, made in ((1, '{"type":"started"}', "NULL"), (2, '{"type":"succeeded","node":"a"}', 1))
    ]
    old = runs(run_a="running", run_b="failed")
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
        [failed] = (await store.list_runs(failure="error")).items
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


@pytest.mark.parametrize("schema", [1, 2])
async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    make(tmp_path, *runs(run_a="completed"), *deeds("run_a"), schema=schema)
    before = tables_of(tmp_path / FILE)
    last = SCHEMA_VERSION - 1
    monkeypatch.setitem(migrations._STATEMENTS, last, (*migrations._STATEMENTS[last], "CREATE nonsense"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await Store.open(tmp_path)
    assert tables_of(tmp_path / FILE) == before
    monkeypatch.undo()
    await (await Store.open(tmp_path)).close()
