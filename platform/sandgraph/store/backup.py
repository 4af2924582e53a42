"""Copies of an SQLite database, made while a platform works on it, and brought back while none does."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.store.lock import FolderLock
from sandgraph.store.sqlite import APPLICATION_ID, BUSY_TIMEOUT_S, FILE
from sandgraph.store.tables import SCHEMA_VERSION


def backup(data_dir: Path, file: Path) -> int:
    """Copy the database of a folder as it is at one moment, whether or not a platform works on it; return its size.

    The copy is one file, its owner's alone, checked, and on the disk when this returns.

    Raises:
        ConfigurationError: What the folder has is not a sound database of this release or an earlier one; or there is
            something at ``file`` already, which is left as it is.
        Unavailable: It cannot be read, or the copy cannot be written.
    """
    source = data_dir / FILE
    if not source.exists():
        raise ConfigurationError(f"data_dir: there is no database {source}.")
    if os.path.lexists(file):
        raise _taken(file)
    with _made_in_place_of(file) as part:
        # Writable: whoever is the last to read a log tidies it up, or would leave files of its own behind.
        _copy(source, part, "rw")
        _demand_sound(part, source)
        try:
            # Not over what somebody else put there meanwhile.
            os.link(part, file)
        except FileExistsError:
            raise _taken(file) from None
        _sync_folder(file)
    return file.stat().st_size


def restore(data_dir: Path, file: Path) -> Path | None:
    """Put a copy in the place of a folder's database; nobody may work on it.

    Returns:
        Where the database that was there is now; None where there was none.

    Raises:
        ConfigurationError: A process works on the folder, or there is no such file, or what it has is not a sound
            database of this release or an earlier one; the folder's database is as it was.
        Unavailable: It cannot be read, or the folder cannot be written.
    """
    if not file.is_file():
        raise ConfigurationError(f"file: there is no file {file}.")
    with _translated(data_dir):
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FolderLock(data_dir)
    try:
        if not lock.is_held:
            raise lock.refusal
        target = data_dir / FILE
        with _made_in_place_of(target) as part:
            _copy(file, part, "ro")
            _demand_sound(part, file)
            aside = _kept_aside(target)
            part.rename(target)
            _sync_folder(target)
            return aside
    finally:
        lock.release()


def _taken(file: Path) -> ConfigurationError:
    return ConfigurationError(f"file: {file} is there already; choose another name.")


def _kept_aside(target: Path) -> Path | None:
    """Give the present database a second name, and return it."""
    if not target.exists():
        _remove_logs(target)
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(target)) as old:
        # So that its file is a whole copy; one that is damaged keeps its log beside it.
        old.execute("PRAGMA journal_mode = DELETE")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = target.with_name(f"{target.name}.before-restore-{stamp}")
    log = target.with_name(f"{target.name}-wal")
    if log.exists():
        # First: a log that stayed would be taken for the new file's.
        log.rename(f"{aside}-wal")
    # A second name, and not another: at no moment is there no database.
    os.link(target, aside)
    _remove_logs(target)
    return aside


def _remove_logs(target: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        target.with_name(f"{target.name}{suffix}").unlink(missing_ok=True)


@contextmanager
def _made_in_place_of(file: Path) -> Iterator[Path]:
    """Yield the name of an empty file beside another, its owner's alone; it is gone at the end of the block."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with _translated(file):
        try:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            yield part
        finally:
            part.unlink(missing_ok=True)
            _remove_logs(part)


def _copy(source: Path, target: Path, mode: str) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        # All in one go: a snapshot, for which no writer has to wait.
        read.backup(written)
        # The copy is one file, wherever it is put; a platform that opens it makes a log again.
        written.execute("PRAGMA journal_mode = DELETE")
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _demand_sound(copy: Path, source: Path) -> None:
    with closing(sqlite3.connect(copy)) as database:
        ((application,),) = database.execute("PRAGMA application_id")
        ((version,),) = database.execute("PRAGMA user_version")
        if application != APPLICATION_ID or not version:
            raise ConfigurationError(f"{source} is not a database of Sandgraph.")
        if version > SCHEMA_VERSION:
            message = (
                f"{source} is of a newer Sandgraph (its schema is {version}, this release knows {SCHEMA_VERSION})."
            )
            raise ConfigurationError(message)
        found = [str(line) for (line,) in database.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"] or database.execute("PRAGMA foreign_key_check").fetchone():
            said = found[0] if found != ["ok"] else "rows refer to others that are not there"
            raise ConfigurationError(f"{source} is damaged: {said}.")


def _sync_folder(file: Path) -> None:
    descriptor = os.open(file.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise Unavailable(f"The database cannot be copied: {error}.", code="store_unavailable") from None
        raise ConfigurationError(f"What was to be copied is damaged: {error}.") from None
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror}.", code="store_unavailable") from None
