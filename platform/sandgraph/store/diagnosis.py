"""A closer look at where data is kept, beside a platform that may be running: nothing of it is changed."""

from __future__ import annotations

import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine, select
from sqlalchemy.exc import DBAPIError

from sandgraph.errors import ConfigurationError
from sandgraph.store import tables
from sandgraph.store.sqlite import FILE

#: Of file systems: what is another machine's, and what is gone with this one's next start.
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre", "afs", "virtiofs")
_FLEETING = ("tmpfs", "ramfs", "overlay")

#: Instructions of SQLite between two looks at the clock.
_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a data folder is.

    Attributes:
        kind: Of its file system, as the kernel calls it; empty where nobody knows.
        is_open: Whether other users of the machine can look into it.
    """

    kind: str
    is_open: bool

    @property
    def is_remote(self) -> bool:
        """Whether another machine has it, so that locks may not hold."""
        return self.kind.startswith(_REMOTE)

    @property
    def is_fleeting(self) -> bool:
        """Whether it is gone with the machine's, or the container's, end."""
        return self.kind in _FLEETING


@dataclass(frozen=True, slots=True)
class Contents:
    """What a SQLite database came to.

    Attributes:
        size: Bytes of the file.
        log_size: Bytes of its write-ahead log.
        damage: What is wrong in it; None where nothing is.
        is_all: Whether all of it was looked at in the time that there was.
    """

    size: int
    log_size: int
    damage: str | None
    is_all: bool


@dataclass(frozen=True, slots=True)
class Server:
    """A server of PostgreSQL.

    Attributes:
        version: As it says it.
        connections: That are open.
        most: That may be.
        size: Bytes of the database.
    """

    version: str
    connections: int
    most: int
    size: int


@dataclass(frozen=True, slots=True)
class EndingKey:
    """An API key that is about to open nothing any more."""

    key_id: str
    name: str
    tenant: str
    expires_at: datetime


def place(data_dir: Path) -> Place:
    """Return where a data folder, or the folder that it would be made in, is."""
    there = next(each for each in (data_dir.absolute(), *data_dir.absolute().parents) if each.exists())
    shared = data_dir.exists() and bool(data_dir.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return Place(_kind_of(there), shared)


def log_trouble(data_dir: Path) -> str | None:
    """Return why SQLite cannot have a write-ahead log in a folder; None if it can, or there is no such folder."""
    if not data_dir.is_dir():
        return None
    try:
        with (
            tempfile.TemporaryDirectory(dir=data_dir, prefix="doctor-") as folder,
            closing(sqlite3.connect(Path(folder) / "try.db", isolation_level=None)) as one,
        ):
            ((mode,),) = one.execute("PRAGMA journal_mode = WAL")
            one.execute("CREATE TABLE tried (number INTEGER)")
            one.execute("INSERT INTO tried VALUES (1)")
            with closing(sqlite3.connect(Path(folder) / "try.db")) as other:
                ((seen,),) = other.execute("SELECT number FROM tried")
    except (sqlite3.Error, OSError) as error:
        return str(error)
    return None if (mode, seen) == ("wal", 1) else f"the journal's mode stays {mode}"


def contents(data_dir: Path, within_s: float) -> Contents | None:
    """Look through a folder's database, for so long at the most; None where there is none."""
    file = data_dir / FILE
    if not file.exists() or file.stat().st_size == 0:
        return None
    log = file.with_name(f"{FILE}-wal")
    sizes = file.stat().st_size, log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + within_s
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
            found = [str(each) for (each,) in connection.execute("PRAGMA quick_check(5)")]
            found += [f"a row of {row[0]} refers to none" for row in connection.execute("PRAGMA foreign_key_check")]
    except sqlite3.OperationalError as error:
        if time.monotonic() > deadline:
            return Contents(*sizes, damage=None, is_all=False)
        return Contents(*sizes, damage=str(error), is_all=False)
    except sqlite3.Error as error:
        return Contents(*sizes, damage=str(error), is_all=False)
    damage = [each for each in found if each != "ok"]
    return Contents(*sizes, damage="; ".join(damage[:5]) or None, is_all=True)


def server(database_url: str) -> Server:
    """Look at a server of PostgreSQL.

    Raises:
        ConfigurationError: It does not answer.
    """
    from sandgraph.store.postgres import PostgresBackend  # noqa: PLC0415 - its driver is an extra

    backend = PostgresBackend(database_url, "doctor", readers=1)
    try:
        with backend.reader.connect() as connection:
            say = connection.exec_driver_sql
            return Server(
                str(say("SHOW server_version").scalar()),
                int(str(say("SELECT count(*) FROM pg_stat_activity").scalar())),
                int(str(say("SHOW max_connections").scalar())),
                int(str(say("SELECT pg_database_size(current_database())").scalar())),
            )
    except DBAPIError as error:
        raise ConfigurationError(f"It does not answer: {str(error.orig).splitlines()[0]}.") from None
    finally:
        backend.leave()


def ending_keys(data_dir: Path, database_url: str, before: datetime) -> list[EndingKey]:
    """Return the API keys that are good and will not be at a time; none where there is no database of this release."""
    key = tables.api_key.c
    query = select(tables.api_key).where(
        key.revoked_at.is_(None), key.expires_at > datetime.now(UTC), key.expires_at < before
    )

    def read(connection: Connection) -> list[EndingKey]:
        found = connection.execute(query.order_by(key.expires_at))
        return [EndingKey(row.id, row.name, row.tenant, row.expires_at) for row in found]

    try:
        if database_url:
            from sandgraph.store.postgres import PostgresBackend  # noqa: PLC0415 - its driver is an extra

            backend = PostgresBackend(database_url, "doctor", readers=1)
            try:
                with backend.reader.connect() as connection:
                    return read(connection)
            finally:
                backend.leave()
        return _read_sqlite(data_dir / FILE, read)
    except (DBAPIError, ConfigurationError):
        return []


def _read_sqlite(file: Path, read: Callable[[Connection], list[EndingKey]]) -> list[EndingKey]:
    if not file.exists():
        return []

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return read(connection)
    finally:
        engine.dispose()


def _kind_of(path: Path) -> str:
    """Return the kind of the file system that a path is on, by the kernel's table of mounts."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if len(point) >= longest and (path == Path(point) or Path(point) in path.parents):
            found, longest = after.split()[0], len(point)
    return found
