"""Keys in the database of a platform that may be running, for another program beside it: short transactions, no lock.

Whoever works on runs has to have the folder for itself. Who only makes or revokes a key does not: no run is touched,
and the database keeps such transactions apart by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DatabaseError

from sandgraph.errors import Unavailable
from sandgraph.store.api_keys import ApiKeys
from sandgraph.store.columns import sqlite_of
from sandgraph.store.database import APPLICATION_ID, BUSY_TIMEOUT_S, FILE
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def keys_of(data_dir: Path) -> AsyncIterator[ApiKeys]:
    """Open the keys of a data folder for the length of the block, whether or not a platform works on it.

    A folder without a database gets one, and one of an earlier release is brought up to date: for that, nobody may work
    on it.

    Raises:
        ConfigurationError: The folder cannot be used.
        Unavailable: The database does not answer.
    """
    path = data_dir / FILE
    if await asyncio.to_thread(_is_present, path):
        engine = _engine(path)
        try:
            yield ApiKeys(_Beside(engine))
        finally:
            engine.dispose()
    else:
        store = await Store.open(data_dir)
        try:
            yield store.keys
        finally:
            await store.close()


class _Beside:
    """Does work on a thread, in a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.write(work, *args, **kwargs)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def transaction() -> T:
            try:
                with self._engine.begin() as connection:
                    return work(connection, *args, **kwargs)
            except (DatabaseError, sqlite3.Error) as error:
                reason = error.orig if isinstance(error, DatabaseError) else error
                raise Unavailable(f"The database does not answer: {reason}.", code="store_unavailable") from error

        return await asyncio.to_thread(transaction)


def _is_present(path: Path) -> bool:
    """Tell whether there is a database of ours, of the present schema."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    except sqlite3.Error:
        return False
    return found == [APPLICATION_ID, SCHEMA_VERSION]


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        sqlite_of(connection).execute("BEGIN IMMEDIATE")

    return engine
