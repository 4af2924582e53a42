"""PostgreSQL: connections that keep its promises, and a lock of the session in the place of a folder's."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from sandgraph.errors import ConfigurationError
from sandgraph.store import migrations, processes
from sandgraph.store.backend import original, reason
from sandgraph.store.tables import METADATA, SCHEMA_VERSION, alembic_version

try:
    import psycopg
except ImportError:  # pragma: no cover - it is installed where this is tested
    raise ConfigurationError(
        "database_url: the driver of PostgreSQL is not installed: pip install 'sandgraph[postgres]'."
    ) from None

#: Oldest release that is supported, as libpq numbers it.
_OLDEST = 150_000

#: Seconds: to connect, for one statement, for a lock, and for whoever does nothing inside a transaction. The last frees
#: what a frozen process holds, and so has to be shorter than the wait for a lock.
_CONNECT_S, _STATEMENT_S, _IDLE_S, _LOCK_S = 10, 60, 10, 15

#: Seconds after which a process that holds its lock still is taken for alive.
_PATIENCE_S = 1.0

#: "SGph": held while a process starts, so that two who come at once come one after the other.
_START_KEY = 0x53477068

#: Classes of errors after which the server is to be asked anew: the connection failed, or the server shuts down.
_LOST_CLASSES = ("08", "57P")


class PostgresBackend:
    """A PostgreSQL database; as `Backend` says.

    A process that is alive holds a lock of its own on the connection that writes: whoever finds it free knows that the
    process is gone, however it ended. One that is frozen holds its lock for ever, and is replaced as on SQLite: for
    want of heartbeats.

    Args:
        database_url: ``postgresql://…``
        process_id: Names this process.
        readers: Connections that read at the same time.
    """

    error: type[Exception] = psycopg.Error
    mistakes: tuple[type[Exception], ...] = (psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.DataError)

    def __init__(self, database_url: str, process_id: str, *, readers: int) -> None:
        url = url_of(database_url)
        self._name = shown(url)
        self._process_id = process_id
        self._is_registered = False
        self.writer = _engine(url, connections=1, lock=_key_of(process_id))
        self.reader = _engine(url, connections=readers, reads=True)

    def is_ready(self) -> bool:
        """Tell whether the database has tables of the present schema."""
        return self.version() == SCHEMA_VERSION

    def version(self) -> int:
        """Return of which schema the database is; 0 where it is empty.

        Raises:
            ConfigurationError: This release cannot use it.
        """
        try:
            with self.reader.begin() as connection:
                _examine(connection, self._name)
                return version_of(connection, self._name)
        except (DBAPIError, psycopg.Error) as error:
            raise ConfigurationError(f"database_url: {self._name} cannot be used: {reason(error)}.") from None

    def take(self, takeover_after_s: float | None) -> None:
        """Make the tables or bring them up to date, and register."""
        try:
            with self.writer.connect() as connection, connection.begin():
                _examine(connection, self._name)
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_START_KEY})")
                self._prepare(connection, takeover_after_s)
        except (DBAPIError, psycopg.Error) as error:
            raise ConfigurationError(f"database_url: {self._name} cannot be used: {reason(error)}.") from None
        self._is_registered = True

    def in_use_by(self, takeover_after_s: float | None) -> str | None:
        """Return which process works on the database and is not to be replaced; None if there is none."""
        with self.reader.begin() as connection:
            if not migrations.stamped(connection):
                return None
            return processes.refusing(connection, _may_replace(connection, takeover_after_s))

    def begin(self, connection: Connection) -> None:
        """Begin as SQLAlchemy does."""
        connection.begin()

    def commit(self, connection: Connection) -> None:
        """Commit as SQLAlchemy does."""
        connection.commit()

    def check(self, connection: Connection) -> None:
        """Look for the row of this process, and hold it: nobody takes its place before the transaction's end."""
        with driver_of(connection).cursor() as cursor:
            cursor.execute("SELECT 1 FROM process WHERE id = %s FOR KEY SHARE", (self._process_id,))
            if cursor.fetchone() is None:
                raise processes.fenced()

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether the connection failed; the server may be there again."""
        known = original(error)
        if not isinstance(known, psycopg.OperationalError | psycopg.InterfaceError):
            return False
        return known.sqlstate is None or known.sqlstate.startswith(_LOST_CLASSES)

    def after_write(self, let_go: Callable[[], None]) -> None:
        """Do nothing: the server tidies up by itself."""

    def leave(self) -> None:
        """Take the row away, and close every connection."""
        if self._is_registered:
            # Where that fails, the lock alone says that the process is gone.
            try:
                with self.writer.begin() as connection:
                    processes.leave(connection, self._process_id)
            except (DBAPIError, psycopg.Error):
                pass
        self.reader.dispose()
        self.writer.dispose()

    def _prepare(self, connection: Connection, takeover_after_s: float | None) -> None:
        may_replace = _may_replace(connection, takeover_after_s)
        version = version_of(connection, self._name)
        if version == 0:
            migrations.create(connection)
        else:
            # Before anything is changed under the hands of another process.
            self._refuse(processes.refusing(connection, may_replace))
            migrations.upgrade(connection, version)
        beats = takeover_after_s is not None
        self._refuse(processes.register(connection, self._process_id, may_replace, beats=beats))

    def _refuse(self, other: str | None) -> None:
        if other is not None:
            raise ConfigurationError(
                f"database_url: {self._name} is in use by another Sandgraph process ({other}). Stop it, or choose "
                "another database."
            )


def trouble(database_url: str) -> str | None:
    """Return why a database cannot be used by this release; None if it can be."""
    try:
        schema_of(database_url)
    except ConfigurationError as error:
        return error.message.removeprefix("database_url: ")
    return None


def schema_of(database_url: str) -> int:
    """Return of which schema a database is; 0 where it is empty.

    Raises:
        ConfigurationError: This release cannot use it.
    """
    backend = PostgresBackend(database_url, "examined", readers=1)
    try:
        return backend.version()
    finally:
        backend.leave()


def holder(database_url: str, takeover_after_s: float) -> str | None:
    """Return which process works on a database and is not to be replaced; None if there is none."""
    try:
        backend = PostgresBackend(database_url, "examined", readers=1)
        try:
            return backend.in_use_by(takeover_after_s)
        finally:
            backend.leave()
    except (ConfigurationError, DBAPIError, psycopg.Error):
        # What is wrong with the database itself is said by `trouble`.
        return None


def url_of(database_url: str) -> URL:
    """Return a URL with the driver that is meant.

    Raises:
        ConfigurationError: It is none of PostgreSQL. The message does not repeat it, for it may hold a password.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        url = URL.create("none")
    if url.drivername not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ConfigurationError("database_url: it has to be like postgresql://user:password@host:5432/database.")
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """Return what may be shown of a URL: neither its user nor its password, nor its parameters."""
    port = f":{url.port}" if url.port else ""
    return f"the database {url.database or '(default)'} on {url.host or 'the local server'}{port}"


def driver_of(connection: Connection) -> psycopg.Connection[Any]:
    """Return the driver's own connection."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise TypeError(f"not a connection of psycopg: {raw!r}")
    return raw


def version_of(connection: Connection, name: str) -> int:
    """Return the schema of a database; 0 where it is empty.

    Raises:
        ConfigurationError: It is another program's, or a newer Sandgraph's.
    """
    version = migrations.stamped(connection)
    if version == 0 and not METADATA.tables.keys().isdisjoint(
        set(inspect(connection).get_table_names()) - {alembic_version.name}
    ):
        raise ConfigurationError(f"database_url: {name} is not a database of Sandgraph.")
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"database_url: {name} is of a newer Sandgraph (its schema is {version}, this release knows "
            f"{SCHEMA_VERSION}). Start that release, or choose another database."
        )
    return version


def _examine(connection: Connection, name: str) -> None:
    found = driver_of(connection).info.server_version
    if found < _OLDEST:
        raise ConfigurationError(
            f"database_url: {name} is of PostgreSQL {found // 10_000}; {_OLDEST // 10_000} or later is needed."
        )
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise ConfigurationError(f"database_url: {name} keeps text as {encoding}; make one with ENCODING 'UTF8'.")


def _may_replace(connection: Connection, takeover_after_s: float | None) -> processes.MayReplace:
    def may_replace(other: str, heartbeat_at: datetime | None) -> bool:
        is_frozen = takeover_after_s is not None and processes.is_over(connection, heartbeat_at, takeover_after_s)
        return is_frozen or _is_gone(connection, other)

    return may_replace


def _is_gone(connection: Connection, process_id: str) -> bool:
    """Tell whether a process is no more: nobody holds its lock. The server may hear of its end a moment later."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found = connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_key_of(process_id)})").scalar()
        if found or time.monotonic() > deadline:
            return bool(found)
        time.sleep(_PATIENCE_S / 20)


def _key_of(process_id: str) -> int:
    """Return the number of a process's lock; two of one number would take each other for alive, no more."""
    return int.from_bytes(hashlib.sha256(process_id.encode()).digest()[:8], signed=True)


def _engine(url: URL, *, connections: int, lock: int | None = None, reads: bool = False) -> Engine:
    engine = create_engine(
        url,
        # Values by their places, as `Prepared` has them.
        paramstyle="format",
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={
            "application_name": "sandgraph",
            "client_encoding": "utf8",
            "connect_timeout": _CONNECT_S,
            # A server whose machine went away without a word.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        },
    )
    settings = {
        "timezone": "'UTC'",
        # What is told to be stored is, whatever the server was told.
        "synchronous_commit": "on",
        "statement_timeout": f"'{_STATEMENT_S}s'",
        "lock_timeout": f"'{_LOCK_S}s'",
        "idle_in_transaction_session_timeout": f"'{_IDLE_S}s'",
    }

    @event.listens_for(engine, "connect")
    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        try:
            with connection.cursor() as cursor:
                for name, value in settings.items():
                    cursor.execute(f"SET SESSION {name} = {value}")
                if lock is not None:
                    cursor.execute("SELECT pg_try_advisory_lock(%s)", (lock,))
            connection.commit()
        except psycopg.Error:
            # The pool forgets a connection that it never got.
            connection.close()
            raise
        if reads:
            # One snapshot for all statements.
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True

    return engine
