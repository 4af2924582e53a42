"""Faults inside a life: when each is due, and how it is done."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos_points import Action

from sandgraph import errors

#: Seconds for which the database is held, or cannot grow: longer than a write waits for it in a life.
HELD_S = 0.25
BUSY_S = 0.05

#: Seconds for which it cannot grow until somebody feels it.
_UNFELT_S = 5.0


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th passage of a point in one life."""

    point: str
    passage: int
    action: Action

    def __str__(self) -> str:
        return f"{self.point}#{self.passage} {self.action}"


class Notes:
    """What a life leaves behind, whatever ends it: a line is in the kernel's hands once it is written.

    Args:
        path: Appended to.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, **note: object) -> None:
        os.write(self._file, json.dumps(note).encode() + b"\n")


class Locker:
    """Another process, to hold the database; made before there are threads."""

    def __init__(self, database: Path) -> None:
        asked, self._ask = os.pipe()
        self._told, tell = os.pipe()
        if os.fork() == 0:
            os.close(self._ask)
            os.close(self._told)
            _hold_when_asked(database, asked, tell)
        os.close(asked)
        os.close(tell)

    def lock(self) -> bool:
        """Have the database held from now on, for a while; tell whether it is."""
        os.write(self._ask, b"x")
        return os.read(self._told, 1) == b"y"


def _hold_when_asked(database: Path, asked: int, tell: int) -> None:
    try:
        # The life's end, whatever it is, closes the other end of the pipe.
        while os.read(asked, 1):
            connection = sqlite3.connect(database, timeout=2, isolation_level=None)
            try:
                connection.execute("BEGIN IMMEDIATE")
                os.write(tell, b"y")
                # No longer than the life: the next one is to find the database free.
                select.select([asked], [], [], HELD_S)
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                os.write(tell, b"n")
            finally:
                connection.close()
    finally:
        os._exit(0)


class Faults:
    """Counts passages, and does what is due.

    Args:
        due: Each happens once.
        notes: Tell what happened, before it does.
        locker: For `Action.LOCKED`.
        on_stop: Called for `Action.STOP`, in any thread.
    """

    def __init__(self, due: list[Fault], notes: Notes, locker: Locker | None, on_stop: Callable[[], None]) -> None:
        self._due = list(due)
        self._notes = notes
        self._locker = locker
        self._on_stop = on_stop
        self._mutex = threading.Lock()
        self._passed: Counter[str] = Counter()
        self.full_until = 0.0
        #: Held by whoever is in a transaction that writes: who is stopped there holds the database, and not by chance.
        self.writing = threading.RLock()

    def at(
        self, point: str, error: Callable[[], Exception] = lambda: store_error("a point that raises nothing")
    ) -> None:
        """Pass a point. Of the faults that are due, those that are failures are raised, as ``error`` makes them."""
        with self._mutex:
            self._passed[point] += 1
            passage = self._passed[point]
            due = [each for each in self._due if (each.point, each.passage) == (point, passage)]
        for fault in due:
            self._notes.add(fired=str(fault), point=point, action=fault.action, passed=dict(self._passed))
            self._do(fault, error)

    def felt(self, trouble: errors.Unavailable) -> None:
        """Take down what somebody was told."""
        if "full" in trouble.message:
            self.full_until = min(self.full_until, time.monotonic() + HELD_S)
        self._notes.add(felt=trouble.message)

    def end(self) -> None:
        """Take down what was passed."""
        self._notes.add(passed=dict(self._passed))

    def _do(self, fault: Fault, error: Callable[[], Exception]) -> None:
        match fault.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
                # Another thread may be the one that takes it.
                time.sleep(60)
            case Action.FREEZE:
                with self.writing:
                    os.kill(os.getpid(), signal.SIGSTOP)
                    # Another thread may be the one that takes it.
                    time.sleep(0.01)
            case Action.FAIL | Action.TOLD_FAILED:
                raise error()
            case Action.LOCKED:
                if self._locker is None or not self._locker.lock():
                    self._notes.add(felt="nobody could hold the database")
            case Action.DISK_FULL:
                self.full_until = time.monotonic() + _UNFELT_S
            case Action.STOP:
                self._on_stop()


def store_error(what: str) -> errors.Unavailable:
    """Return what the store says where a write failed."""
    return errors.Unavailable(f"The database does not answer: chaos at {what}.", code="store_unavailable")
