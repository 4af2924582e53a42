"""What is wrong with a data folder, before anything in it is opened or made."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sandgraph.errors import ConfigurationError
from sandgraph.store import lock, processes
from sandgraph.store.sqlite import APPLICATION_ID, FILE
from sandgraph.store.tables import SCHEMA_VERSION


def folder(data_dir: Path) -> str | None:
    """Return why a data folder cannot be used; None if it can be, or can be made."""
    try:
        if data_dir.is_dir():
            # Files of other users, and file systems that were mounted read-only, show in no other way.
            with tempfile.TemporaryFile(dir=data_dir):
                pass
            return _unwritable(data_dir)
        if data_dir.exists():
            return "it is no folder."
        parent = next(each for each in data_dir.absolute().parents if each.exists())
    except OSError as error:
        return f"it cannot be written ({error.strerror})."
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return f"the folder cannot be made: {parent} cannot be written."
    return None


def holder(data_dir: Path, takeover_after_s: float, database_url: str = "") -> str | None:
    """Return which process works on a database and is not to be replaced; None if there is none."""
    if database_url:
        from sandgraph.store import postgres  # noqa: PLC0415 - its driver is an extra

        return postgres.holder(database_url, takeover_after_s)
    found = lock.holder(data_dir)
    if found is None or processes.is_frozen(data_dir / FILE, takeover_after_s):
        return None
    return found


def database(data_dir: Path, database_url: str = "") -> str | None:
    """Return why a database cannot be used by this release; None if it can be, or is not there yet."""
    if database_url:
        from sandgraph.store import postgres  # noqa: PLC0415 - its driver is an extra

        return postgres.trouble(database_url)
    file = data_dir / FILE
    if not file.exists() or file.stat().st_size == 0:
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            ((application,),) = connection.execute("PRAGMA application_id")
            ((version,),) = connection.execute("PRAGMA user_version")
            ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.Error as error:
        return f"the database {file} cannot be used: {error}."
    if application != APPLICATION_ID and (tables or application or version):
        return f"{file} is not a database of Sandgraph."
    if version > SCHEMA_VERSION:
        return (
            f"{file} is of a newer Sandgraph (its schema is {version}, this release knows {SCHEMA_VERSION}): "
            "start that release."
        )
    return None


def version(data_dir: Path, database_url: str = "") -> int:
    """Return of which schema a database is; 0 where there is none yet.

    Raises:
        ConfigurationError: This release cannot use it.
    """
    if database_url:
        from sandgraph.store import postgres  # noqa: PLC0415 - its driver is an extra

        return postgres.schema_of(database_url)
    wrong = database(data_dir)
    if wrong:
        raise ConfigurationError(f"data_dir: {wrong}")
    file = data_dir / FILE
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        ((found,),) = connection.execute("PRAGMA user_version")
    return int(found)


def free_bytes(data_dir: Path) -> int:
    """Return how much the file system of a data folder, or of where it would be made, has left."""
    there = next(each for each in (data_dir.absolute(), *data_dir.absolute().parents) if each.exists())
    left = os.statvfs(there)
    return left.f_bavail * left.f_frsize


def _unwritable(data_dir: Path) -> str | None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", lock.NAME):
        file = data_dir / name
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            return f"the file {file} cannot be written."
    return None
