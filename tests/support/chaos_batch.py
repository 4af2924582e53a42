"""Programs over one data folder, through all the lives that work on it."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from chaos_judge import Judge
from chaos_life import CRASHED, DATABASE, DONE, LOST, NOT_STARTED, STOPPED, STUCK, Life
from chaos_points import Action
from chaos_programs import Case

_NAMES = {CRASHED: "crashed", STUCK: "stuck", NOT_STARTED: "not started", -signal.SIGALRM: "too long"}


class Batch:
    """Programs over one data folder, and what is known of them from their lives' notes.

    Args:
        folder: Its own.
        seeds: Of its programs.
    """

    def __init__(self, folder: Path, seeds: list[int]) -> None:
        self.seeds = seeds
        self.database = folder / "data" / DATABASE
        self.notes = folder / "notes.jsonl"
        self.accepted: dict[int, str] = {}
        self.cancelled: set[str] = set()
        self.problems: list[str] = []
        self.history: list[str] = []
        self.fired_now: list[dict[str, Any]] = []
        self.felt_now: list[str] = []
        self.passed_now: dict[str, int] = {}
        self._read = 0

    def is_in_progress(self) -> bool:
        """Tell whether there are runs that the next life has to go on with."""
        if not self.accepted:
            return False
        with closing(sqlite3.connect(self.database)) as connection:
            query = "SELECT 1 FROM run WHERE status NOT IN ('pending') AND finished_at IS NULL"
            return connection.execute(query).fetchone() is not None

    def judge(self, cases: list[Case]) -> list[str]:
        """Return all that was found to be wrong, once no platform works on the folder."""
        return self.problems + Judge(self.database).judge(cases, self.accepted, self.cancelled)

    def read(self, life: Life, ended: int, seconds: float) -> None:
        """Take in what a life noted and how it ended."""
        lines = self.notes.read_bytes()[self._read :] if self.notes.exists() else b""
        self._read += len(lines)
        notes = [json.loads(line) for line in lines.splitlines()]
        self.fired_now = [note for note in notes if "fired" in note]
        self.felt_now = [note["felt"] for note in notes if "felt" in note]
        self.passed_now = next((note["passed"] for note in reversed(notes) if "passed" in note), {})
        self._take_in(notes)
        fired = ", ".join(note["fired"] for note in self.fired_now)
        planned = ", ".join(map(str, life.faults)) or "none"
        said = f"fired ({fired}), felt {self.felt_now}, ended {ended} after {seconds:.2f} s"
        self.history.append(f"  a life with faults ({planned}): {said}")
        if ended not in _allowed(life, {note["action"] for note in self.fired_now}):
            self.problems.append(
                f"a life with faults ({planned}) ended as {ended} ({_NAMES.get(ended, '?')}): {life.log}"
            )

    def _take_in(self, notes: list[dict[str, Any]]) -> None:
        for note in notes:
            if "accepted" in note:
                seed, run_id = note["accepted"]
                if self.accepted.setdefault(seed, run_id) != run_id:
                    self.problems.append(f"program {seed} was accepted as {self.accepted[seed]} and as {run_id}")
            if "cancelled" in note:
                self.cancelled.add(note["cancelled"])
            if "wrong" in note:
                self.problems.append(note["wrong"])
            if "stuck" in note:
                self.problems.append(f"nobody works on a run that has not ended: {note['stuck']}")


def _allowed(life: Life, fired: set[str]) -> set[int]:
    """Return how a life may end."""
    if any(fault.action is Action.FREEZE for fault in life.faults) and "lease_s" in life.settings:
        return {DONE, LOST}
    if Action.KILL in fired:
        return {-signal.SIGKILL}
    if Action.STOP in fired:
        return {STOPPED, DONE, NOT_STARTED}
    # It may have met the start, which then fails as a whole and is made again.
    return {DONE, NOT_STARTED} if fired else {DONE}
