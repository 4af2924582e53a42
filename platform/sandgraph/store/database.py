"""The database: one thread that writes, a few that read, and an asyncio face over both."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.store.backend import Backend, original, reason
from sandgraph.store.ids import new_id
from sandgraph.store.line import Line
from sandgraph.store.sqlite import SqliteBackend

P = ParamSpec("P")
T = TypeVar("T")

Watcher = Callable[[str, float, float], None]

#: Threads that read, and so connections.
READERS = 4


class Database:
    """An open database; make it with `open`.

    Work is a function of a connection, run inside one transaction: all of it happens, or nothing.

    Args:
        backend: Taken already.
        process_id: Names this process in it.
    """

    def __init__(self, backend: Backend, process_id: str) -> None:
        self.process_id = process_id
        self._backend = backend
        self._writer = Line("sandgraph-store-writer")
        self._readers = Line("sandgraph-store-reader", READERS)
        self._closing: asyncio.Future[None] | None = None
        #: Is told of each transaction, on its thread: ``read`` or ``write``, seconds it waited, and seconds it took.
        self.watcher: Watcher | None = None
        # Kept from one transaction to the next: to take it from its pool takes as long as to store a step.
        self._writing: Connection | None = None

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        database_url: str | None = None,
        process_id: str | None = None,
        takeover_after_s: float | None = None,
    ) -> Database:
        """Open the database, made if there is none.

        Args:
            data_dir: The folder, made if it is not there; the SQLite database is in it.
            database_url: Of a PostgreSQL database, instead; empty is none.
            process_id: Names this process, and no other start of it; made up without it.
            takeover_after_s: Take the database from a process that works on it, but was not heard of for so many
                seconds; and promise to be heard of.

        Raises:
            ConfigurationError: The database cannot be used, or another process works on it.
        """
        process_id = process_id or new_id("process")

        def take() -> Backend:
            # Also with a database elsewhere: other parts keep things there.
            try:
                data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"data_dir: cannot make the folder {data_dir}: {error.strerror}.") from None
            backend = backend_of(data_dir, database_url, process_id)
            try:
                backend.take(takeover_after_s)
            except BaseException:
                backend.leave()
                raise
            return backend

        return cls(await asyncio.to_thread(take), process_id)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in the one thread that writes, in the order of the calls.

        A caller that is cancelled meanwhile hears nothing more of it, yet it is done.

        Raises:
            Unavailable: The database is locked by another program, its disk is full or broken, it does not answer, or
                it is closed.
            Conflict: Another process took this one's place (``lease_lost``).
        """

        def transaction() -> T:
            try:
                with self._written() as connection:
                    done = work(connection, *args, **kwargs)
            except (DBAPIError, self._backend.error) as error:
                self._translate(error)
                raise
            self._backend.after_write(self._let_go)
            return done

        return await self._submit(self._writer, transaction)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work over one snapshot of what was committed.

        Raises:
            Unavailable: As for `write`.
        """

        def once() -> T:
            with self._backend.reader.connect() as connection:
                try:
                    with connection.begin():
                        return work(connection, *args, **kwargs)
                except (DBAPIError, self._backend.error) as error:
                    if self._backend.is_lost(error):
                        # With it, SQLAlchemy makes anew those that are as old.
                        connection.invalidate()
                    raise

        def transaction() -> T:
            try:
                try:
                    return once()
                except (DBAPIError, self._backend.error) as error:
                    if not self._backend.is_lost(error):
                        raise
                # The server was restarted, perhaps, and nothing was changed.
                return once()
            except (DBAPIError, self._backend.error) as error:
                self._translate(error)
                raise

        return await self._submit(self._readers, transaction)

    async def close(self) -> None:
        """Finish the work that was handed in, and close; later calls wait for the first."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._shut))
        await asyncio.shield(self._closing)

    def _submit(self, line: Line, transaction: Callable[[], T]) -> asyncio.Future[T]:
        """Have it done, whether or not somebody still listens to the answer then.

        `asyncio.wrap_future` and `asyncio.shield` would come to the same, in three turns of the event loop.
        """
        if self._closing is not None:
            raise Unavailable("The store is closed.", code="store_unavailable")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        watcher, asked = self.watcher, time.monotonic()

        def hear(settle: Callable[[Any], None], outcome: object) -> None:
            if not answer.done():
                settle(outcome)

        def tell(settle: Callable[[Any], None], outcome: object) -> None:
            # Once the loop is closed, nobody waits for it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(hear, settle, outcome)

        def work() -> None:
            began = time.monotonic()
            try:
                done = transaction()
            except BaseException as error:  # noqa: BLE001 - it is the answer
                tell(answer.set_exception, error)
            else:
                tell(answer.set_result, done)
            if watcher is not None:
                kind = "write" if line is self._writer else "read"
                watcher(kind, began - asked, time.monotonic() - began)

        line.submit(work)
        return answer

    @contextlib.contextmanager
    def _written(self) -> Iterator[Connection]:
        """Yield the one connection that writes, in a transaction."""
        connection = self._begun()
        try:
            yield connection
            self._backend.commit(connection)
        except BaseException as error:
            # Whatever state it is in, the next transaction begins with a clean one.
            self._let_go(error)
            raise

    def _begun(self, *, is_first: bool = True) -> Connection:
        try:
            if self._writing is None:
                self._writing = self._backend.writer.connect()
            self._backend.begin(self._writing)
            self._backend.check(self._writing)
        except BaseException as error:
            self._let_go(error)
            if is_first and self._backend.is_lost(error):
                # Nothing was done yet, and a new connection may find the server there again.
                return self._begun(is_first=False)
            raise
        return self._writing

    def _let_go(self, error: BaseException | None = None) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            if error is not None and self._backend.is_lost(error):
                writing.invalidate()
            writing.close()

    def _translate(self, error: Exception) -> None:
        """Raise what callers hear of an error of the database, unless it is a mistake of ours."""
        if not isinstance(original(error), self._backend.mistakes):
            message = f"The database does not answer: {reason(error)}."
            raise Unavailable(message, code="store_unavailable") from error

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._let_go()
        self._backend.leave()


def backend_of(data_dir: Path, database_url: str | None, process_id: str) -> Backend:
    """Return the database that is meant; nothing of it is opened yet.

    Raises:
        ConfigurationError: The URL is none of PostgreSQL, or its driver is not installed.
    """
    if not database_url:
        return SqliteBackend(data_dir, process_id, readers=READERS)
    # Its driver is an extra, and takes 0.1 s to load.
    from sandgraph.store.postgres import PostgresBackend  # noqa: PLC0415

    return PostgresBackend(database_url, process_id, readers=READERS)
