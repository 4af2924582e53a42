"""Lays the points of `chaos_points` around a platform that is about to be composed in this process."""

from __future__ import annotations

import functools
import importlib
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from chaos_faults import BUSY_S, HELD_S, Faults, store_error
from chaos_points import How, SideEffect, side_effects
from sqlalchemy import Connection, Engine, event

from sandgraph import errors
from sandgraph.errors import Unavailable
from sandgraph.execution import floor, waker
from sandgraph.execution.actor import RunActor
from sandgraph.model import retry, scheduler
from sandgraph.store import sqlite
from sandgraph.store.database import Database
from sandgraph.store.prepared import Prepared
from sandgraph.store.sqlite import SqliteBackend

#: Of a function that is wrapped, whatever it is.
Anything: TypeAlias = Any

_NO_LIMIT = 2**32 - 2


def wrap(faults: Faults, *, docker: bool) -> None:
    """Lay every point; for good, so the process is to be a life and nothing else."""
    # As everywhere but sooner, and without end: a life is lost for good only where the platform loses it.
    sqlite.BUSY_TIMEOUT_S = BUSY_S
    hasty = replace(retry.LOST, initial_s=HELD_S / 10, factor=1.5, max_s=HELD_S, max_attempts=10_000)
    vars(scheduler)["LOST"] = hasty
    vars(floor)["_PUT_OFF_S"] = HELD_S / 4
    vars(waker)["_BUSY_S"] = HELD_S / 4
    for boundary in side_effects(docker=docker):
        _wrap_side_effect(boundary, faults)
    _wrap_events(faults)
    _wrap_transactions(faults)
    _wrap_statements(faults)


def _wrap_side_effect(boundary: SideEffect, faults: Faults) -> None:
    module_name, _, path = boundary.where.partition(":")
    holder: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    original = getattr(holder, name)
    wrapper = {How.ASYNC: _asynchronous, How.SYNC: _synchronous, How.BLOCK: _block}[boundary.how]
    wrapped = wrapper(original, boundary, faults)
    if not outer:
        # A function may have been imported by its name.
        for user in (each for each in _modules() if vars(each).get(name) is original):
            setattr(user, name, wrapped)
    setattr(holder, name, wrapped)


def _modules() -> list[Any]:
    import sys  # noqa: PLC0415 - looked at once the platform is imported

    return [module for name, module in list(sys.modules.items()) if name.startswith("sandgraph.")]


def _error(boundary: SideEffect) -> Callable[[], Exception]:
    kind = getattr(errors, boundary.error) if boundary.error else RuntimeError
    return lambda: kind(f"chaos at {boundary.name}")


def _asynchronous(original: Callable[..., Any], boundary: SideEffect, faults: Faults) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapped(*args: Anything, **kwargs: Anything) -> Anything:
        faults.at(f"{boundary.name}:before", _error(boundary))
        done = await original(*args, **kwargs)
        faults.at(f"{boundary.name}:after", _error(boundary))
        return done

    return wrapped


def _synchronous(original: Callable[..., Any], boundary: SideEffect, faults: Faults) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(*args: Anything, **kwargs: Anything) -> Anything:
        faults.at(f"{boundary.name}:before", _error(boundary))
        done = original(*args, **kwargs)
        faults.at(f"{boundary.name}:after", _error(boundary))
        return done

    return wrapped


def _block(original: Callable[..., Any], boundary: SideEffect, faults: Faults) -> Callable[..., Any]:
    @functools.wraps(original)
    @asynccontextmanager
    async def wrapped(*args: Anything, **kwargs: Anything) -> AsyncIterator[Anything]:
        faults.at(f"{boundary.name}:enter:before", _error(boundary))
        async with original(*args, **kwargs) as held:
            faults.at(f"{boundary.name}:enter:after", _error(boundary))
            try:
                yield held
            finally:
                faults.at(f"{boundary.name}:exit:before")
        faults.at(f"{boundary.name}:exit:after")

    return wrapped


def _wrap_events(faults: Faults) -> None:
    tell = RunActor.tell

    @functools.wraps(tell)
    def told(self: RunActor, event: Anything, *args: Anything, **kwargs: Anything) -> None:
        faults.at(f"tell.{type(event).__name__}")
        tell(self, event, *args, **kwargs)

    RunActor.tell = told  # type: ignore[method-assign]


def _wrap_transactions(faults: Faults) -> None:
    write, written, cut_log = Database.write, Database._written, SqliteBackend.after_write
    here = threading.local()

    async def wrapped(self: Database, work: Callable[..., Anything], *args: Anything, **kwargs: Anything) -> Anything:
        name = f"{work.__module__.rpartition('.')[2]}.{work.__name__}"
        faults.at(f"{name}:before")

        def watched(connection: Connection, *args: Anything, **kwargs: Anything) -> Anything:
            here.name = name
            _limit(connection, faults)
            faults.at(f"{name}:begun", _broken)
            done = work(connection, *args, **kwargs)
            faults.at(f"{name}:written", _broken)
            return done

        try:
            return await write(self, watched, *args, **kwargs)
        except Unavailable as trouble:
            faults.felt(trouble)
            raise

    @functools.wraps(written)
    @contextmanager
    def alone(self: Database) -> Iterator[Connection]:
        with faults.writing, written(self) as connection:
            yield connection

    @functools.wraps(cut_log)
    def committed(self: SqliteBackend, let_go: Callable[[], None]) -> None:
        # The first thing that the writer does once a transaction is committed.
        faults.at(f"{here.name}:committed", lambda: store_error(here.name))
        cut_log(self, let_go)

    Database.write = wrapped  # type: ignore[method-assign]
    Database._written = alone  # type: ignore[method-assign]
    SqliteBackend.after_write = committed  # type: ignore[method-assign]


def _limit(connection: Connection, faults: Faults) -> None:
    """Let the database grow, or not."""
    if faults.full_until:
        is_full = time.monotonic() < faults.full_until
        # A limit that is less than there is becomes what there is.
        connection.exec_driver_sql(f"PRAGMA max_page_count = {1 if is_full else _NO_LIMIT}")
        if not is_full:
            faults.full_until = 0.0


def _wrap_statements(faults: Faults) -> None:
    make = sqlite._engine

    @functools.wraps(make)
    def made(*args: Anything, **kwargs: Anything) -> Engine:
        engine = make(*args, **kwargs)
        if kwargs["begin"] == "BEGIN IMMEDIATE":
            event.listen(engine, "before_cursor_execute", lambda *_: faults.at("statement:before", _broken))
            event.listen(engine, "after_cursor_execute", lambda *_: faults.at("statement:after", _broken))
            event.listen(engine, "commit", lambda _: faults.at("commit:before", _broken))
        return engine

    vars(sqlite)["_engine"] = made
    # These go to the driver past the engine.
    for name in ("run", "scalar"):
        setattr(Prepared, name, _watched(getattr(Prepared, name), faults))


def _watched(original: Callable[..., Anything], faults: Faults) -> Callable[..., Anything]:
    @functools.wraps(original)
    def wrapped(*args: Anything, **kwargs: Anything) -> Anything:
        faults.at("statement:before", _broken)
        done = original(*args, **kwargs)
        faults.at("statement:after", _broken)
        return done

    return wrapped


def _broken() -> Exception:
    return sqlite3.OperationalError("disk I/O error (chaos)")
