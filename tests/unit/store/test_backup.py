"""Copies of an SQLite database, and bringing them back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey
from sandgraph.store.backup import backup, restore
from sandgraph.store.records import CodeKind
from sandgraph.store.sqlite import FILE
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

pytestmark = pytest.mark.anyio


async def filled(folder: Path, graph: Graph, name: str) -> Store:
    store = await Store.open(folder)
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    await store.append_logs(run.run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "x" * 1_000)] * 50)
    await store.save_code(CodeKind.TOOL, name, "…")
    return store


async def tools(folder: Path) -> set[str]:
    store = await Store.open(folder)
    try:
        return set(await store.all_tools())
    finally:
        await store.close()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208


async def test_a_copy_is_made_while_somebody_writes_and_is_of_one_moment(tmp_path: Path, graph: Graph) -> None:
    store = await filled(tmp_path / "data", graph, "first")
    run_id = (await store.list_runs(tenant="default")).items[0].run_id
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await store.append_logs(run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "y" * 1_000)] * 20)

    writing = asyncio.create_task(write())
    for number in range(3):
        copy = tmp_path / f"copy{number}"
        assert await asyncio.to_thread(backup, tmp_path / "data", copy) == copy.stat().st_size
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with closing(sqlite3.connect(copy)) as found:
            ((last,),) = found.execute("SELECT last_seq FROM run")
            ((lines,),) = found.execute("SELECT count(*) FROM log_record")
            assert last == lines + 1
            assert found.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    done.set()
    await writing
    await store.close()
    # The copies, and nothing that was there on the way.
    assert names(tmp_path) == ["copy0", "copy1", "copy2", "data"]


async def test_what_was_copied_comes_back_and_what_was_there_is_kept(tmp_path: Path, graph: Graph) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    await (await filled(data, graph, "first")).close()
    backup(data, copy)
    store = await Store.open(data)
    await store.save_code(CodeKind.TOOL, "second", "…")
    await store.close()
    aside = restore(data, copy)
    assert aside is not None
    assert await tools(data) == {"first"}
    assert names(data) == [FILE, aside.name, "sandgraph.lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()} == {0o600}
    assert restore(data, aside) is not None
    assert await tools(data) == {"first", "second"}
    assert restore(tmp_path / "new", copy) is None
    assert await tools(tmp_path / "new") == {"first"}


async def test_what_a_killed_process_left_in_the_log_is_kept_too(tmp_path: Path, graph: Graph) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    store = await filled(data, graph, "first")
    (tmp_path / "killed").mkdir(0o700)
    for name in (FILE, f"{FILE}-wal"):
        (tmp_path / "killed" / name).write_bytes((data / name).read_bytes())
    await store.close()
    backup(tmp_path / "killed", copy)
    aside = restore(tmp_path / "killed", copy)
    assert aside is not None
    assert restore(tmp_path / "other", aside) is None
    assert await tools(tmp_path / "other") == {"first"}


async def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, graph: Graph) -> None:
    await (await filled(tmp_path / "data", graph, "first")).close()
    (tmp_path / "copy").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("copy", "link"):
        with pytest.raises(ConfigurationError, match="is there already"):
            backup(tmp_path / "data", tmp_path / name)
    assert (tmp_path / "copy").read_text() == "mine"
    assert names(tmp_path) == ["copy", "data", "link"]


async def test_nothing_is_restored_under_the_hands_of_a_process(tmp_path: Path, graph: Graph) -> None:
    store = await filled(tmp_path / "data", graph, "first")
    backup(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="in use by another Sandgraph process"):
        restore(tmp_path / "data", tmp_path / "copy")
    await store.heartbeat()
    await store.close()


def damaged(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 9_000] = b"\xff" * 9_000
    file.write_bytes(whole)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:9_000])


def of_another_program(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA application_id = 0")


def of_a_newer_release(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def without_a_row(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM run")


def no_database(file: Path) -> None:
    file.write_bytes(b"no database at all" * 1_000)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "spoil", [damaged, cut_short, of_another_program, of_a_newer_release, without_a_row, no_database, empty]
)
async def test_a_copy_that_is_not_sound_is_refused_and_changes_nothing(
    tmp_path: Path, graph: Graph, spoil: object
) -> None:
    assert callable(spoil)
    data, copy = tmp_path / "data", tmp_path / "copy"
    await (await filled(data, graph, "first")).close()
    backup(data, copy)
    spoil(copy)
    with pytest.raises(ConfigurationError, match=r"damaged|not a database of Sandgraph|newer Sandgraph"):
        restore(data, copy)
    assert names(data) == [FILE, "sandgraph.lock"]
    assert await tools(data) == {"first"}
    # Nor is one made of such a database.
    spoil(data / FILE)
    with pytest.raises(ConfigurationError):
        backup(data, tmp_path / "second")
    assert names(tmp_path) == ["copy", "data"]


async def test_what_is_not_there_is_said(tmp_path: Path, graph: Graph) -> None:
    with pytest.raises(ConfigurationError, match="there is no database"):
        backup(tmp_path, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="there is no file"):
        restore(tmp_path, tmp_path / "copy")
    await (await filled(tmp_path, graph, "first")).close()
    with pytest.raises(Unavailable, match="cannot be written"):
        backup(tmp_path, tmp_path / "no" / "folder")


async def test_a_disk_that_is_full_leaves_no_half_of_a_copy(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await filled(tmp_path / "data", graph, "first")).close()

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(Unavailable, match="No space left"):
        backup(tmp_path / "data", tmp_path / "copy")
    assert names(tmp_path) == ["data"]
