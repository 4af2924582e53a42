"""Keys in the database of a platform that may be running, for another program beside it: short transactions, no lock.

Whoever works on runs has to have the folder for itself. Who only makes or revokes a key does not: no run is touched,
and the database keeps such transactions apart by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.store.api_keys import ApiKeys
from sandgraph.store.backend import Backend, reason
from sandgraph.store.database import backend_of
from sandgraph.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def keys_of(data_dir: Path, database_url: str | None = None) -> AsyncIterator[ApiKeys]:
    """Open the keys of a database for the length of the block, whether or not a platform works on it.

    A folder without a database gets one, and one of an earlier release is brought up to date: for that, nobody may work
    on it.

    Args:
        data_dir: The folder of an SQLite database.
        database_url: Of a PostgreSQL database, instead.

    Raises:
        ConfigurationError: The folder cannot be used.
        Unavailable: The database does not answer.
    """
    backend = backend_of(data_dir, database_url, "beside")
    if await asyncio.to_thread(backend.is_ready):
        try:
            yield ApiKeys(_Beside(backend))
        finally:
            backend.leave()
    else:
        store = await Store.open(data_dir, database_url=database_url)
        try:
            yield store.keys
        finally:
            await store.close()


async def has_keys(data_dir: Path, database_url: str | None = None) -> bool:
    """Tell whether any key was ever made; none was where there is no database of the present release yet."""
    try:
        backend = backend_of(data_dir, database_url, "beside")
        try:
            return await asyncio.to_thread(backend.is_ready) and await ApiKeys(_Beside(backend)).exist()
        finally:
            backend.leave()
    except (ConfigurationError, Unavailable):
        # What is wrong with the database itself is found by who looks for that.
        return False


class _Beside:
    """Does work on a thread, in a transaction of its own."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(self._backend.reader, work, *args, **kwargs)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(self._backend.writer, work, *args, **kwargs)

    async def _do(
        self,
        engine: Engine,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def transaction() -> T:
            try:
                with engine.begin() as connection:
                    return work(connection, *args, **kwargs)
            except (DBAPIError, self._backend.error) as error:
                message = f"The database does not answer: {reason(error)}."
                raise Unavailable(message, code="store_unavailable") from error

        return await asyncio.to_thread(transaction)
