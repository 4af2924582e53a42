"""SQLite: a file in the data folder, with a write-ahead log, and a lock that gives the folder to one process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from sandgraph.errors import ConfigurationError
from sandgraph.store import migrations, processes
from sandgraph.store.backend import reason
from sandgraph.store.columns import DRIVER, sqlite_of
from sandgraph.store.lock import FolderLock
from sandgraph.store.tables import SCHEMA_VERSION

#: Seconds a statement waits for another program that holds the database.
BUSY_TIMEOUT_S = 5.0

#: The database's name in its folder.
FILE = "sandgraph.db"

#: Of a transaction that writes: to wait for another one later would be too late.
_BEGIN = "BEGIN IMMEDIATE"

#: The write-ahead log is cut back once it is longer than this.
_LOG_BYTES = 32 * 1024 * 1024

#: Seconds between two looks at its length.
_LOOK_S = 0.02

#: Milliseconds for which cutting it waits for readers to be done.
_LOG_PATIENCE_MS = 200

#: "SGph": marks the file as ours.
APPLICATION_ID = 0x53477068


class SqliteBackend:
    """The database of a data folder; as `Backend` says.

    Args:
        data_dir: The folder.
        process_id: Names this process.
        readers: Connections that read at the same time.
    """

    error: type[Exception] = sqlite3.Error
    mistakes: tuple[type[Exception], ...] = (sqlite3.IntegrityError, sqlite3.ProgrammingError)

    def __init__(self, data_dir: Path, process_id: str, *, readers: int) -> None:
        self._path = data_dir / FILE
        self._process_id = process_id
        self._lock: FolderLock | None = None
        self._is_registered = False
        self.writer = _engine(self._path, connections=1, begin=_BEGIN, pragmas=("synchronous = FULL",))
        self.reader = _engine(self._path, connections=readers, begin="BEGIN", pragmas=("query_only = ON",))
        self._log = str(self._path.with_name(f"{FILE}-wal"))
        self._log_bound = _LOG_BYTES
        self._look_at = 0.0

    def is_ready(self) -> bool:
        """Tell whether the file is there, ours, and of the present schema."""
        try:
            with contextlib.closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                names = ("application_id", "user_version")
                found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        except sqlite3.Error:
            return False
        return found == [APPLICATION_ID, SCHEMA_VERSION]

    def take(self, takeover_after_s: float | None) -> None:
        """Lock the folder, make the file or bring it up to date, and register."""
        self._lock = FolderLock(self._path.parent)
        if not self._lock.is_held and (
            takeover_after_s is None or not processes.is_frozen(self._path, takeover_after_s)
        ):
            raise self._lock.refusal
        try:
            # Made here, for SQLite would let everybody on the machine read it.
            self._path.touch(mode=0o600)
            self._prepare(self._lock, takeover_after_s)
        except OSError as error:
            raise ConfigurationError(f"data_dir: the file {self._path} cannot be written: {error.strerror}.") from None

    def begin(self, connection: Connection) -> None:
        """Begin past SQLAlchemy, for which the connection is in one transaction from its first to its end."""
        if connection.in_transaction():
            sqlite_of(connection).execute(_BEGIN)
        else:
            raw = sqlite_of(connection)
            connection.execution_options(**{DRIVER: raw}).begin()

    def commit(self, connection: Connection) -> None:
        """Commit past SQLAlchemy."""
        sqlite_of(connection).commit()

    def check(self, connection: Connection) -> None:
        """Look for the row of this process."""
        # Past SQLAlchemy, which takes ten times as long as SQLite: it is asked in every transaction that writes.
        found = sqlite_of(connection).execute("SELECT 1 FROM process WHERE id = ?", (self._process_id,)).fetchone()
        if found is None:
            raise processes.fenced()

    def is_lost(self, error: BaseException) -> bool:  # noqa: ARG002
        """Tell that it is not: another connection to a file is as good."""
        return False

    def after_write(self, let_go: Callable[[], None]) -> None:
        """Cut the write-ahead log back, where readers that overlap without end kept SQLite from doing so by itself."""
        # It grows by a few megabytes at most until the next look, which takes as long as a statement.
        at = time.monotonic()
        if at < self._look_at:
            return
        self._look_at = at + _LOOK_S
        # Nothing is lost where it fails: what the log holds is stored.
        with contextlib.suppress(OSError, sqlite3.Error):
            # Past pathlib, which takes as long again.
            size = os.stat(self._log).st_size  # noqa: PTH116
            if size <= self._log_bound:
                return
            let_go()
            with contextlib.closing(self.writer.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE_MS}")
                is_busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                cursor.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")
            # A reader that stays may be another program's; not every write must wait for it.
            self._log_bound = size + _LOG_BYTES if is_busy else _LOG_BYTES

    def leave(self) -> None:
        """Take the row away, fold the log into the file, and let go of the folder."""
        if self._is_registered:
            # Where that fails, the lock alone says that the folder is free.
            with contextlib.suppress(DBAPIError, sqlite3.Error), self.writer.begin() as connection:
                processes.leave(connection, self._process_id)
        # The writer's connection is the last: it folds the log into the database file.
        self.reader.dispose()
        self.writer.dispose()
        if self._lock is not None:
            self._lock.release()

    def _prepare(self, lock: FolderLock, takeover_after_s: float | None) -> None:
        try:
            with self.writer.connect() as connection:
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
                    self._register(connection, lock, takeover_after_s)
        except (DBAPIError, sqlite3.Error) as error:
            raise ConfigurationError(f"data_dir: the database {self._path} cannot be used: {reason(error)}.") from None

    def _register(self, connection: Connection, lock: FolderLock, takeover_after_s: float | None) -> None:
        # Whoever comes first to this point has the folder, and the lock follows: so two who come at once never both do.
        was_held = lock.is_held

        def may_replace(_: str, heartbeat_at: datetime | None) -> bool:
            return was_held or (
                takeover_after_s is not None and processes.is_over(connection, heartbeat_at, takeover_after_s)
            )

        beats = takeover_after_s is not None
        if (was_held and not lock.is_current()) or processes.register(
            connection, self._process_id, may_replace, beats=beats
        ):
            raise lock.refusal
        if not was_held:
            lock.replace()
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
