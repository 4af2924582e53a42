"""The SQLite database: one thread that writes, a few that read, and an asyncio face over both."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.store import migrations, processes
from sandgraph.store.columns import sqlite_of
from sandgraph.store.ids import new_id
from sandgraph.store.lock import FolderLock
from sandgraph.store.tables import SCHEMA_VERSION

P = ParamSpec("P")
T = TypeVar("T")

Watcher = Callable[[str, float, float], None]

#: Seconds a statement waits for another program that holds the database.
BUSY_TIMEOUT_S = 5.0

#: The database's name in its folder.
FILE = "sandgraph.db"

_READERS = 4

#: The write-ahead log is cut back once it is longer than this.
_LOG_BYTES = 32 * 1024 * 1024

#: Milliseconds for which cutting it waits for readers to be done.
_LOG_PATIENCE_MS = 200

#: "SGph": marks the file as ours.
APPLICATION_ID = 0x53477068


class Database:
    """An open database; make it with `open`.

    Work is a function of a connection, run inside one transaction: all of it happens, or nothing.

    Attributes:
        process_id: Names this process in it.
    """

    def __init__(self, path: Path, lock: FolderLock, process_id: str) -> None:
        self.process_id = process_id
        self._is_registered = False
        self._path = path
        self._lock = lock
        self._write_engine = _engine(path, connections=1, begin="BEGIN IMMEDIATE", pragmas=("synchronous = FULL",))
        self._read_engine = _engine(path, connections=_READERS, begin="BEGIN", pragmas=("query_only = ON",))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sandgraph-store-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sandgraph-store-reader")
        self._log = path.with_name(f"{path.name}-wal")
        self._log_bound = _LOG_BYTES
        self._closing: asyncio.Future[None] | None = None
        #: Is told of each transaction, on its thread: ``read`` or ``write``, seconds it waited, and seconds it took.
        self.watcher: Watcher | None = None
        # Kept from one transaction to the next: to take it from its pool takes as long as to store a step.
        self._writing: Connection | None = None

    @classmethod
    async def open(
        cls, data_dir: Path, *, process_id: str | None = None, takeover_after_s: float | None = None
    ) -> Database:
        """Open the database of a data folder, made if there is none.

        Args:
            data_dir: The folder.
            process_id: Names this process, and no other start of it; made up without it.
            takeover_after_s: Take the folder from a process that works on it, but was not heard of for so many seconds;
                and promise to be heard of.

        Raises:
            ConfigurationError: The folder or the file cannot be used, or another process works on it.
        """
        return await asyncio.to_thread(cls._open, data_dir, process_id or new_id("process"), takeover_after_s)

    @classmethod
    def _open(cls, data_dir: Path, process_id: str, takeover_after_s: float | None) -> Database:
        path = data_dir / FILE
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"data_dir: cannot make the folder {data_dir}: {error.strerror}.") from None
        lock = FolderLock(data_dir)
        if not lock.is_held and (takeover_after_s is None or not processes.is_frozen(path, takeover_after_s)):
            refusal = lock.refusal
            lock.release()
            raise refusal
        database = cls(path, lock, process_id)
        try:
            # Made here, for SQLite would let everybody on the machine read it.
            path.touch(mode=0o600)
            database._prepare(None if lock.is_held else takeover_after_s, beats=takeover_after_s is not None)
        except OSError as error:
            database._shut()
            raise ConfigurationError(f"data_dir: the file {path} cannot be written: {error.strerror}.") from None
        except BaseException:
            database._shut()
            raise
        return database

    def _prepare(self, frozen_after_s: float | None, *, beats: bool) -> None:
        try:
            with self._write_engine.connect() as connection:
                # Outside a transaction, where alone the journal's mode can change.
                raw = sqlite_of(connection)
                version = self._version(raw)
                mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                if mode != "wal":
                    raise ConfigurationError(
                        f"data_dir: {self._path} cannot have a write-ahead log; put data_dir on a local file system."
                    )
                # Also where nothing is to be made: whoever cannot write finds out now.
                with connection.begin():
                    if version == 0:
                        migrations.create(connection)
                        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                    else:
                        migrations.upgrade(connection, version)
                    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    self._register(connection, frozen_after_s, beats=beats)
        except (DatabaseError, sqlite3.Error) as error:
            raise ConfigurationError(f"data_dir: the database {self._path} cannot be used: {_reason(error)}.") from None

    def _register(self, connection: Connection, frozen_after_s: float | None, *, beats: bool) -> None:
        # Whoever comes first to this point has the folder, and the lock follows: so two who come at once never both do.
        is_ours = frozen_after_s is not None or self._lock.is_current()
        if not is_ours or not processes.register(
            connection, self.process_id, frozen_after_s=frozen_after_s, beats=beats
        ):
            raise self._lock.refusal
        if frozen_after_s is not None:
            self._lock.replace()
        self._is_registered = True

    def _version(self, raw: sqlite3.Connection) -> int:
        version: int = raw.execute("PRAGMA user_version").fetchone()[0]
        application: int = raw.execute("PRAGMA application_id").fetchone()[0]
        is_empty = raw.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if application != APPLICATION_ID and not (is_empty and version == application == 0):
            raise ConfigurationError(f"data_dir: {self._path} is not a database of Sandgraph.")
        if version > SCHEMA_VERSION:
            raise ConfigurationError(
                f"data_dir: {self._path} is of a newer Sandgraph (its schema is {version}, this release knows "
                f"{SCHEMA_VERSION}). Start that release, or choose another data_dir."
            )
        return version

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in the one thread that writes, in the order of the calls.

        A caller that is cancelled meanwhile hears nothing more of it, yet it is done.

        Raises:
            Unavailable: The database is locked by another program, the disk is full or broken, or it is closed.
            Conflict: Another process took this one's place (``lease_lost``).
        """

        def transaction() -> T:
            with _translated(), self._written() as connection:
                processes.check(connection, self.process_id)
                done = work(connection, *args, **kwargs)
            self._cut_log()
            return done

        return await self._submit(self._writer, transaction)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work over one snapshot of what was committed.

        Raises:
            Unavailable: As for `write`.
        """

        def transaction() -> T:
            with _translated(), self._read_engine.begin() as connection:
                return work(connection, *args, **kwargs)

        return await self._submit(self._readers, transaction)

    async def close(self) -> None:
        """Finish the work that was handed in, and close; later calls wait for the first."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._shut))
        await asyncio.shield(self._closing)

    def _submit(self, pool: ThreadPoolExecutor, transaction: Callable[[], T]) -> asyncio.Future[T]:
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
                kind = "write" if pool is self._writer else "read"
                watcher(kind, began - asked, time.monotonic() - began)

        pool.submit(work)
        return answer

    @contextlib.contextmanager
    def _written(self) -> Iterator[Connection]:
        """Yield the one connection that writes, in a transaction."""
        if self._writing is None:
            self._writing = self._write_engine.connect()
        try:
            with self._writing.begin():
                yield self._writing
        except BaseException:
            # Whatever state it is in, the next transaction begins with a clean one.
            self._let_go()
            raise

    def _let_go(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.close()

    def _cut_log(self) -> None:
        """Cut the write-ahead log back, where readers that overlap without end kept SQLite from doing so by itself."""
        # Nothing is lost where it fails: what the log holds is stored.
        with contextlib.suppress(OSError, sqlite3.Error):
            size = self._log.stat().st_size
            if size <= self._log_bound:
                return
            self._let_go()
            with contextlib.closing(self._write_engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE_MS}")
                is_busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                cursor.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")
            # A reader that stays may be another program's; not every write must wait for it.
            self._log_bound = size + _LOG_BYTES if is_busy else _LOG_BYTES

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._let_go()
        if self._is_registered:
            # Where that fails, the lock alone says that the folder is free.
            with contextlib.suppress(DatabaseError, sqlite3.Error), self._write_engine.begin() as connection:
                processes.leave(connection, self.process_id)
        # The writer's connection is the last: it folds the log into the database file.
        self._read_engine.dispose()
        self._write_engine.dispose()
        self._lock.release()


def _engine(path: Path, *, connections: int, begin: str, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Or the driver would begin transactions by itself, and only before some statements.
        connection.isolation_level = None
        try:
            for pragma in ("foreign_keys = ON", *pragmas):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            # A pragma may be the first to read a damaged file; the pool forgets a connection that it never got.
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        # Past SQLAlchemy, as it is part of every transaction.
        sqlite_of(connection).execute(begin)

    return engine


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError, sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (DatabaseError, sqlite3.Error) as error:
        raise Unavailable(f"The database does not answer: {_reason(error)}.", code="store_unavailable") from error


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DatabaseError) else error)
