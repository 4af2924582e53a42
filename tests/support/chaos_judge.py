"""What must be true of a data folder after everything that happened to it: read with SQL, past the platform."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from chaos_programs import Case

_FINAL = {"completed", "failed", "cancelled", "interrupted"}


class Judge:
    """Reads the database of a platform that is not running; `problems` is empty where all is well.

    Args:
        database: The file.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._where = str(database)
        self.problems: list[str] = []

    def judge(self, cases: list[Case], accepted: dict[int, str], cancelled: set[str]) -> list[str]:
        """Return what is wrong.

        Args:
            cases: All that were handed in.
            accepted: The runs that the client was told of, by seed.
            cancelled: The runs of which the client was told that they are cancelled.
        """
        with closing(sqlite3.connect(self._database)) as connection:
            connection.row_factory = sqlite3.Row
            self._connection = connection
            self._check(self._values("PRAGMA integrity_check") == ["ok"], "the database is damaged")
            self._check(not self._values("PRAGMA foreign_key_check"), "rows refer to rows that are not there")
            runs = {row["idempotency_key"]: row for row in connection.execute("SELECT * FROM run")}
            self._check(len(runs) == len(cases), f"{len(cases)} programs became {len(runs)} runs")
            for case in cases:
                seed = case.seed
                run = runs.get(f"program {seed}")
                if run is None or accepted.get(seed, run["id"]) != run["id"]:
                    self.problems.append(f"program {seed}: the accepted run {accepted.get(seed)} is not there")
                    continue
                self._where = f"program {seed}, run {run['id']}"
                self._run(run, case, is_cancelled=run["id"] in cancelled)
        return self.problems

    def _run(self, run: sqlite3.Row, case: Case, *, is_cancelled: bool) -> None:
        self._outcome(run, case, is_cancelled=is_cancelled)
        self._journal(run)
        self._events(run, case)
        run_id = run["id"]
        numbers = self._values("SELECT number FROM run_event WHERE run_id = ? ORDER BY number", run_id)
        self._check(numbers == list(range(1, len(numbers) + 1)), f"events {numbers} have gaps")
        commits = self._rows("SELECT * FROM state_commit WHERE run_id = ? ORDER BY number", run_id)
        count = len(commits)
        self._check([each["number"] for each in commits] == list(range(1, count + 1)), "numbers of commits have gaps")
        self._check(run["last_commit"] == count, f"last_commit is {run['last_commit']} of {count}")
        self._once("committed", [_key(commit) for commit in commits])
        attempts = self._rows("SELECT * FROM attempt WHERE run_id = ?", run_id)
        self._check(all(each["finished_at"] for each in attempts), "an attempt has not ended")
        succeeded = {(*_key(each), each["attempt"]) for each in attempts if each["status"] == "succeeded"}
        self._once("succeeded", [each[:-1] for each in succeeded])
        # Those of maps, subgraphs and waits are made by no attempt.
        made_by = {(*_key(commit), commit["attempt"]) for commit in commits if commit["attempt"] is not None}
        self._check(made_by <= succeeded, f"commits of attempts that did not succeed: {made_by - succeeded}")
        node_runs = self._rows("SELECT * FROM node_run WHERE run_id = ?", run_id)
        self._check(all(each["finished_at"] for each in node_runs), "a node run has not ended")

    def _outcome(self, run: sqlite3.Row, case: Case, *, is_cancelled: bool) -> None:
        expected = case.expected
        status, failure = run["status"], json.loads(run["failure"] or "null")
        self._check(bool(run["finished_at"]), f"it is {status} and has not ended")
        if status == "cancelled":
            self._check(is_cancelled or case.is_cancelled, "nobody cancelled it")
            return
        self._check(not is_cancelled, f"it was cancelled, and is {status}")
        if expected.codes:
            is_so = status == "failed" and failure and failure["code"] in expected.codes
            self._check(bool(is_so), f"it is {status} ({failure}); expected was one of {expected.codes}")
            return
        self._check(status == "completed", f"it is {status} ({failure})")
        states = self._values("SELECT state FROM run_state WHERE run_id = ? AND kind = 'final'", run["id"])
        self._check([json.loads(each) for each in states] == [expected.data], "its state is not the oracle's")
        self._check(run["last_commit"] == expected.commits, f"{run['last_commit']} of {expected.commits} commits")
        ran = Counter(
            row["node"]
            for row in self._rows("SELECT * FROM node_run WHERE run_id = ? AND status = 'succeeded'", run["id"])
            if not row["scope"] and row["node"].split()[0] not in {"start", "end"}
        )
        self._check(ran == expected.ran, f"nodes ran {ran}; expected was {expected.ran}")

    def _events(self, run: sqlite3.Row, case: Case) -> None:
        """Check what the client sent: it is there once, in its order, and was told once, if the run came to that."""
        received = self._rows("SELECT * FROM received_event WHERE run_id = ? ORDER BY number", run["id"])
        sent = [(case.event_id(number), payload) for number, payload in enumerate(case.sends)]
        kept = [(each["event_id"], json.loads(each["payload"])) for each in received]
        self._check(kept == sent[: len(kept)], f"it was sent {sent}, and kept {kept}")
        told = [each["told"] for each in received if each["told"] is not None]
        documents = self._rows("SELECT number, document FROM run_event WHERE run_id = ? ORDER BY number", run["id"])
        heard = [each["number"] for each in documents if json.loads(each["document"]).get("type") == "received"]
        self._check(told == heard, f"told are {heard}, and marked as told {told}")
        if run["status"] == "completed":
            self._check(len(told) == len(sent), f"{len(told)} of {len(sent)} events were told")

    def _journal(self, run: sqlite3.Row) -> None:
        events = self._entries(run["id"])
        logged = self._values("SELECT seq FROM log_record WHERE run_id = ?", run["id"])
        numbers = sorted([*(event["seq"] for event in events), *logged])
        self._check(numbers == list(range(1, run["last_seq"] + 1)), "the journal's numbers have gaps")
        ends = [event["seq"] for event in events if _is_end(event)]
        self._check(ends == [run["last_seq"]], f"records of the end are {ends} of {run['last_seq']}")
        ended = [(*_key(each), each["attempt"]) for each in events if _is_attempts_end(each)]
        self._once("recorded as ended", ended)
        self._once("recorded as committed", [_key(event) for event in events if event["type"] == "state"])

    def _once(self, what: str, keys: list[tuple[Any, ...]]) -> None:
        often = [key for key, times in Counter(keys).items() if times > 1]
        self._check(not often, f"{what} more than once: {often}")

    def _check(self, is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as an assertion
        if not is_so:
            self.problems.append(f"{self._where}: {otherwise}")

    def _entries(self, run_id: str) -> list[dict[str, Any]]:
        """Return the events of a journal: a row has several, of which the last has the row's number."""
        names = ("type", "status", "message", "node", "iteration", "attempt", "scope", "data")
        found = list[dict[str, Any]]()
        for row in self._rows("SELECT seq, entries FROM event WHERE run_id = ? ORDER BY seq", run_id):
            entries = json.loads(row["entries"])
            for seq, entry in enumerate(entries, row["seq"] - len(entries) + 1):
                found.append({"seq": seq, "scope": "", "data": None, **dict(zip(names, entry, strict=False))})
        return found

    def _rows(self, query: str, *parameters: object) -> list[sqlite3.Row]:
        return self._connection.execute(query, parameters).fetchall()

    def _values(self, query: str, *parameters: object) -> list[Any]:
        return [row[0] for row in self._rows(query, *parameters)]


def _key(row: sqlite3.Row | dict[str, Any]) -> tuple[Any, ...]:
    """Return what names a node run, in whatever columns there are for it."""
    return tuple(row[name] for name in ("scope", "node", "iteration") if name in row.keys())  # noqa: SIM118


def _is_end(event: dict[str, Any]) -> bool:
    return event["type"] == "run" and event["status"] in _FINAL and not (event["data"] or {}).get("resumes")


def _is_attempts_end(event: dict[str, Any]) -> bool:
    return event["type"] == "attempt" and event["status"] not in {"running", "scheduled"}
