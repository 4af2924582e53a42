"""Two platforms on one data folder: one that is stopped for longer than its lease, and one that takes its place."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from served import containers_of, serve

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

Json = dict[str, Any]

_LEASE_S = 1

_COUNT = "import time\ndef count(state):\n    time.sleep(0.2)\n    state.set('n', state.get('n', 0) + 1)\n"
_LONG = "import time\ndef long(state):\n    time.sleep(3)\n    state.set('slept', state.get('slept', 0) + 1)\n"


def _graph(name: str, node: Json) -> Json:
    nodes = [{"name": "start", "type": "start"}, node, {"name": "end", "type": "end"}]
    edges = [{"source": "start", "target": node["name"]}, {"source": node["name"], "target": "end"}]
    return {"name": name, "nodes": nodes, "edges": edges}


_GRAPHS = {
    "loop": _graph(
        "loop",
        {"name": "count", "type": "loop", "function": "count", "condition": "state.n < 10", "max_iterations": 20},
    ),
    "long": _graph("long", {"name": "long", "function": "long"}),
    "waits": _graph("waits", {"name": "approval", "type": "wait", "event": "approved", "into": "approval"}),
}
_ENDS = {"loop": {"n": 10}, "long": {"n": 0, "slept": 1}, "waits": {"n": 0, "approval": "yes"}}


def test_who_was_stopped_past_its_lease_ends_and_the_other_ends_its_runs(
    tmp_path: Path, deployment: Callable[[], str]
) -> None:
    name, data = deployment(), tmp_path / "data"
    options = {"pool_min": 1, "lease_s": _LEASE_S}
    with serve(data, name, **options) as first:
        for function, code in (("count", _COUNT), ("long", _LONG)):
            first.register(code, function)
        run_ids = {}
        for kind, graph in _GRAPHS.items():
            graph_id = first.post("/graph/create", graph)["graph_id"]
            body = {"graph_id": graph_id, "initial_state": {"n": 0}}
            run_ids[kind] = first.post("/graph/run_async", body)["run_id"]
        _until(lambda: first.get(f"/graph/status/{run_ids['loop']}")["last_commit"] >= 2)
        _until(lambda: first.get(f"/graph/status/{run_ids['waits']}")["status"] == "waiting")
        _stop_outside_of_transactions(first.process, data)
        time.sleep(_LEASE_S * 1.5)
        with serve(data, name, **options) as second:
            _until(lambda: second.get(f"/graph/status/{run_ids['loop']}")["last_commit"] >= 4)
            first.process.send_signal(signal.SIGCONT)
            assert first.process.wait(30) not in {0, None}
            second.post(f"/graph/event/{run_ids['waits']}", {"name": "approved", "payload": "yes"})
            for kind, run_id in run_ids.items():
                _until(lambda run_id=run_id: second.get(f"/graph/status/{run_id}")["status"] == "completed")  # type: ignore[misc]
                assert second.get(f"/graph/state/{run_id}")["data"] == _ENDS[kind]
                numbers = [record["seq"] for record in second.journal(run_id)]
                assert numbers == list(range(1, len(numbers) + 1))
            assert second.process.poll() is None
            # Each was lost by the first at most: as that ended, it let the second's containers be.
            assert _lost(data, run_ids["long"]) == 1
            assert _lost(data, run_ids["loop"]) <= 1
    assert containers_of(name) == []


def _stop_outside_of_transactions(process: subprocess.Popen[str], data: Path) -> None:
    """Stop a platform at a moment at which it does not hold the database, which nobody could take from it."""
    with closing(sqlite3.connect(data / "sandgraph.db", timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGSTOP)
        _until(lambda: bool(re.search(r"^State:\s+T", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)))
        connection.execute("ROLLBACK")


def _lost(data: Path, run_id: str) -> int:
    with closing(sqlite3.connect(data / "sandgraph.db", timeout=10)) as connection:
        query = "SELECT count(*) FROM attempt WHERE run_id = ? AND status = 'lost'"
        return int(connection.execute(query, (run_id,)).fetchone()[0])


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)
