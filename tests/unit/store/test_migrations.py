"""A database as an earlier release left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandgraph.errors import ConfigurationError
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import RunStatus
from sandgraph.store import migrations
from sandgraph.store.records import RunEvent
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

pytestmark = pytest.mark.anyio

FILE = "sandgraph.db"
SCHEMA_1 = Path(__file__).with_name("schema_1.sql").read_text()
NOW = "2026-11-23 12:00:00.000000"


def make(folder: Path, *statements: str) -> None:
    """Make a database of schema 1."""
    with closing(sqlite3.connect(folder / FILE)) as old:
        old.executescript(SCHEMA_1)
        old.executescript("PRAGMA journal_mode = WAL; PRAGMA application_id = 1397190760; PRAGMA user_version = 1;")
        for statement in statements:
            old.execute(statement)
        old.commit()


def runs(**statuses: str) -> list[str]:
    """Return the statements of a graph and of runs."""
    document = '{"name":"g","start_node":null,"max_steps":9,"timeout_s":null,"nodes":[],"edges":[]}'
    said = [f"INSERT INTO graph VALUES ('g1', 'g', 1, '{document}', '{NOW}')"]
    for run_id, status in statuses.items():
        ended = f"'{NOW}'" if status in {"completed", "interrupted"} else "NULL"
        values = f"'{run_id}', 'g1', 'g', '{status}', NULL, 'image', NULL, NULL, 1, 0, '{NOW}', NULL, {ended}"
        said.append(f"INSERT INTO run VALUES ({values})")
        said.append(f"INSERT INTO run_state VALUES ('{run_id}', 'initial', '{{\"x\":1}}')")
        said.append(f"INSERT INTO event VALUES ('{run_id}', 1, '{NOW}', 'run', '{status}', '', {'NULL, ' * 4}NULL)")
    return said


def tables_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(file)) as database:
        names = [
            name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'index')")
        ]
        return {name: sorted(database.execute(f"PRAGMA table_xinfo({name})"), key=str) for name in names}


async def test_an_old_schema_becomes_the_present_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    make(old, *runs(run_a="completed"))
    for folder in (old, new):
        await (await Store.open(folder)).close()

    def shape(folder: Path) -> dict[str, set[tuple[object, ...]]]:
        # A column's place is its own affair: statements name their columns.
        return {name: {row[1:] for row in rows} for name, rows in tables_of(folder / FILE).items()}

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


async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *runs(run_a="completed"))
    before = tables_of(tmp_path / FILE)
    monkeypatch.setitem(migrations._STATEMENTS, 1, (*migrations._STATEMENTS[1], "CREATE nonsense"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await Store.open(tmp_path)
    assert tables_of(tmp_path / FILE) == before
    monkeypatch.undo()
    await (await Store.open(tmp_path)).close()
