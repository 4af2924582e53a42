"""What is PostgreSQL's alone: its connections, its restarts, and what it may not be told."""

from __future__ import annotations

import asyncio
import textwrap
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from places import Place
from postgres_server import Server
from sqlalchemy import BigInteger, Connection, Integer, String, create_engine, inspect

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey
from sandgraph.store import examine, migrations, postgres
from sandgraph.store.migrations import alembic_runs
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store
from sandgraph.store.tables import METADATA, SCHEMA_VERSION

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture(params=["postgres"])
def place(postgres_template: Server, tmp_path: Path) -> Iterator[Place]:
    name = f"test_{uuid.uuid4().hex}"
    yield Place(tmp_path / "data", postgres_template.create(name, "sandgraph_template"))
    postgres_template.drop(name)


@pytest.fixture
def empty(postgres_server: Server, tmp_path: Path) -> Iterator[Place]:
    name = f"test_{uuid.uuid4().hex}"
    yield Place(tmp_path / "data", postgres_server.create(name))
    postgres_server.drop(name)


async def refusal(place: Place) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await place.open()
    assert refused.value.message.startswith("database_url: ")
    return refused.value.message


async def test_the_connections_keep_the_promises(store: Store) -> None:
    names = ("synchronous_commit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def settings(connection: Connection) -> list[object]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in (*names, "TimeZone")]

    assert await store._database.write(settings) == ["on", "1min", "15s", "10s", "UTC"]
    assert await store._database.read(settings) == ["on", "1min", "15s", "10s", "UTC"]


async def test_a_reader_has_one_snapshot_for_all_its_statements(store: Store, graph: Graph) -> None:
    loop = asyncio.get_running_loop()

    def twice(connection: Connection) -> list[object]:
        before = connection.exec_driver_sql("SELECT count(*) FROM graph").scalar()
        asyncio.run_coroutine_threadsafe(store.save_graph(graph), loop).result(10)
        return [before, connection.exec_driver_sql("SELECT count(*) FROM graph").scalar()]

    assert await store._database.read(twice) == [0, 0]
    assert len((await store.list_graphs()).items) == 1


async def test_connections_that_the_server_closed_are_made_anew(store: Store, place: Place) -> None:
    terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'sandgraph'"
    for number in range(3):
        await asyncio.gather(*(store.count_runs() for _ in range(8)))
        assert place.sql(f"{terminate} AND datname = current_database()")
        assert (await store.save_code(CodeKind.TOOL, f"t{number}", "…"))[1]
        assert place.sql(f"{terminate} AND datname = current_database()")
        assert await asyncio.gather(*(store.count_runs() for _ in range(8))) == [0] * 8
        await store.heartbeat()
    # The lock of the session was taken again: nobody else takes the place.
    assert "in use by another Sandgraph process" in await refusal(place)


async def test_a_transaction_whose_connection_breaks_is_not_done_twice(store: Store, place: Place) -> None:
    done = []

    def work(connection: Connection) -> None:
        done.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
        place.sql(f"SELECT pg_terminate_backend({done[-1]}, 5000)")
        connection.exec_driver_sql("DELETE FROM process")

    with pytest.raises(Unavailable) as unavailable:
        await store._database.write(work)
    assert unavailable.value.code == "store_unavailable"
    assert len(done) == 1
    await store.heartbeat()


async def test_a_server_that_is_not_there_is_said_without_secrets(tmp_path: Path, postgres_server: Server) -> None:
    secret = "hidden-word"
    urls = [
        f"postgresql://somebody:{secret}@127.0.0.1:1/sandgraph",
        f"postgresql://sandgraph:{secret}@127.0.0.1:{postgres_server.port}/postgres",
        f"postgresql+psycopg://sandgraph:{secret}@127.0.0.1:{postgres_server.port}/postgres?application_name={secret}",
    ]
    for url in urls:
        with pytest.raises(ConfigurationError, match="cannot be used") as refused:
            await Store.open(tmp_path, database_url=url)
        trace = "".join(traceback.format_exception(refused.value))
        assert secret not in refused.value.message
        assert secret not in trace.replace(repr(secret), "")
        assert secret not in (examine.database(tmp_path, url) or "")
        assert "cannot be used" in (examine.database(tmp_path, url) or "")
        assert examine.holder(tmp_path, 15, url) is None


@pytest.mark.parametrize("url", ["postgresql:/x:word@y", "mysql://a:word@b/c", "postgresql://a:word@b:port/c"])
async def test_a_url_that_is_none_is_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="it has to be like postgresql://") as refused:
        await Store.open(tmp_path, database_url=url)
    assert ":word@" not in refused.value.message


async def test_another_programs_database_is_refused_and_left_alone(empty: Place) -> None:
    empty.sql("CREATE TABLE run (theirs INTEGER)")
    assert "is not a database of Sandgraph" in await refusal(empty)
    assert empty.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'") == [("run",)]


async def test_other_tables_beside_ours_are_let_be(empty: Place) -> None:
    empty.sql("CREATE TABLE theirs (x INTEGER)")
    await (await empty.open()).close()
    await (await empty.open()).close()
    assert empty.sql("SELECT count(*) FROM theirs") == [(0,)]


async def test_a_newer_schema_is_refused_and_left_alone(place: Place) -> None:
    place.sql("UPDATE alembic_version SET version_num = '1000'")
    assert "is of a newer Sandgraph (its schema is 1000" in await refusal(place)
    assert place.sql("SELECT version_num FROM alembic_version") == [("1000",)]


async def test_a_database_of_another_encoding_is_refused(postgres_server: Server, tmp_path: Path) -> None:
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.asked() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        assert "keeps text as LATIN1" in await refusal(Place(tmp_path, postgres_server.url(name)))
    finally:
        postgres_server.drop(name)


async def test_what_a_frozen_process_holds_is_freed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_IDLE_S", 1)
    monkeypatch.setattr(postgres, "_PATIENCE_S", 0.05)
    frozen = await place.open("frozen", 0.1)
    held = asyncio.Event()
    loop = asyncio.get_running_loop()
    thawed = asyncio.Event()

    def hold(connection: Connection) -> None:
        connection.exec_driver_sql("UPDATE process SET started_at = started_at")
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(thawed.wait(), loop).result(30)
        connection.exec_driver_sql("DELETE FROM process")

    holding = asyncio.create_task(frozen._database.write(hold))
    await held.wait()
    await asyncio.sleep(0.15)
    other = await place.open("other", 0.1)
    thawed.set()
    with pytest.raises(Unavailable):
        await holding
    assert place.sql("SELECT id FROM process") == [("other",)]
    await frozen.close()
    await other.close()


async def test_numbers_may_be_large_and_text_is_ordered_by_its_bytes(store: Store, place: Place) -> None:
    names = ["Zebra", "apple", "Äpfel", "_x", "B", "b-1", "b1", "b 2"]
    for name in names:
        await store.save_code(CodeKind.TOOL, name, "…")
    first = await store.list_code(CodeKind.TOOL, limit=3)
    rest = await store.list_code(CodeKind.TOOL, cursor=first.next_cursor)
    assert [each.name for each in (*first.items, *rest.items)] == sorted(names)
    types = [(table.name, column.name) for table in METADATA.tables.values() for column in table.columns]
    engine = create_engine(str(place.url).replace("postgresql:", "postgresql+psycopg:", 1))
    found = inspect(engine)
    for table, column in types:
        kind = next(each["type"] for each in found.get_columns(table) if each["name"] == column)
        assert not isinstance(kind, Integer) or isinstance(kind, BigInteger), (table, column)
        assert not isinstance(kind, String) or kind.collation == "C" or column in _JSON, (table, column)
    engine.dispose()


#: Nothing is ordered by them.
_JSON = {
    column.name
    for table in METADATA.tables.values()
    for column in table.columns
    if type(column.type).__name__ == "JsonText"
}


def test_an_index_of_a_part_is_one_on_both() -> None:
    for table in METADATA.tables.values():
        for index in table.indexes:
            wheres = [index.dialect_options[name]["where"] for name in ("sqlite", "postgresql")]
            assert (wheres[0] is None) == (wheres[1] is None), index.name


REVISION = """
from sandgraph.store.migrations.statements import execute

revision = "{number:04}"
down_revision = "{before:04}"

def upgrade() -> None:
    execute((
        "ALTER TABLE run ADD COLUMN colour VARCHAR DEFAULT 'red' NOT NULL",
        {{"sqlite": "UPDATE run SET colour = 'blue'", "postgresql": "UPDATE run SET colour = 'green'"}},
        "CREATE INDEX ix_run_colour ON run (colour)",
        {last!r},
    ))
"""


@pytest.mark.parametrize("last", ["UPDATE run SET image = image", "CREATE nonsense"])
async def test_a_revision_is_run_as_a_whole_or_not_at_all(
    place: Place, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    store = await place.open()
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    await store.append_logs(run.run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "x")])
    journal = await store.journal(run.run_id)
    await store.close()
    folder = with_revision(tmp_path / "100% migrations", last)
    monkeypatch.setattr(alembic_runs, "_FOLDER", folder)
    for module in (migrations, postgres):
        monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(migrations.upgrade, "__defaults__", (SCHEMA_VERSION + 1,))
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'run' AND column_name = 'colour'"
    if "nonsense" in last:
        assert "syntax error" in await refusal(place)
        assert place.sql("SELECT version_num FROM alembic_version") == [(f"{SCHEMA_VERSION:04}",)]
        assert place.sql(columns) == []
    else:
        store = await place.open()
        assert await store.journal(run.run_id) == journal
        await store.close()
        assert place.sql("SELECT version_num FROM alembic_version") == [(f"{SCHEMA_VERSION + 1:04}",)]
        assert place.sql("SELECT colour FROM run") == [("green",)]


def with_revision(folder: Path, last: str) -> Path:
    """Make a folder of migrations with one more revision than there are."""
    theirs = Path(migrations.__file__).parent
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((theirs / "env.py").read_text())
    for file in (theirs / "versions").glob("revision_*.py"):
        (folder / "versions" / file.name).write_text(file.read_text())
    number = SCHEMA_VERSION + 1
    text = textwrap.dedent(REVISION).format(number=number, before=SCHEMA_VERSION, last=last)
    (folder / "versions" / f"revision_{number:04}.py").write_text(text)
    return folder


async def test_a_live_process_is_not_migrated_away_under_its_hands(place: Place) -> None:
    store = await place.open("alive")
    place.sql("UPDATE alembic_version SET version_num = '0003'")
    assert "in use by another Sandgraph process (alive)" in await refusal(place)
    place.sql(f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION:04}'")
    await store.close()


async def test_a_lock_that_is_waited_for_too_long_is_said(store: Store, place: Place) -> None:
    assert place.url is not None
    await store._database.write(lambda connection: connection.exec_driver_sql("SET SESSION lock_timeout = '50ms'"))
    with psycopg.connect(place.url) as other:
        other.execute("LOCK TABLE graph IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="lock timeout"):
            await store._database.write(lambda connection: connection.exec_driver_sql("DELETE FROM graph"))
        other.rollback()
    await store.heartbeat()
