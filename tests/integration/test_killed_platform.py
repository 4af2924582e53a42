"""A platform that is killed, or stopped, in the middle of everything, and started again over the same data."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Served, containers_of, serve

pytestmark = pytest.mark.docker

Json = dict[str, Any]

FUNCTIONS = {
    "count": "import time\ndef count(state):\n    time.sleep(0.3)\n    state.set('n', state.get('n', 0) + 1)\n",
    "left": "import time\ndef left(state):\n    time.sleep(2)\n    state.set('left', 1)\n",
    "right": "import time\ndef right(state):\n    time.sleep(2)\n    state.set('right', 1)\n",
    "late": (
        "import time\ndef late(state):\n"
        "    if time.time() < state.get('opens'):\n        raise RuntimeError('too early')\n"
        "    state.set('late', 1)\n"
    ),
}


def graph(name: str, *nodes: Json) -> Json:
    """Return a graph whose nodes run side by side."""
    ends = [{"name": "start", "type": "start"}, {"name": "end", "type": "end"}]
    edges = [{"source": "start", "target": node["name"]} for node in nodes]
    edges += [{"source": node["name"], "target": "end"} for node in nodes]
    return {"name": name, "nodes": [*ends, *nodes], "edges": edges}


def node(function: str, **more: object) -> Json:
    return {"name": function, "type": "standard", "function": function, **more}


LOOP = graph("loop", node("count", condition="state.n < 10", max_iterations=20) | {"type": "loop"})
BRANCHES = graph("branches", node("left"), node("right"))
RETRIED = graph("retried", node("late", retry={"max_attempts": 50, "initial_s": 2, "factor": 1, "jitter": False}))


def begin(platform: Served) -> dict[str, str]:
    """Start one run of each kind, and one that waits for its turn; return their ids once all the others are at it."""
    for name, code in FUNCTIONS.items():
        platform.register(code, name)
    opens = time.time() + 4
    run_ids = {}
    for name, document in {"loop": LOOP, "branches": BRANCHES, "retried": RETRIED, "queued": BRANCHES}.items():
        graph_id = platform.post("/graph/create", document)["graph_id"]
        body = {"graph_id": graph_id, "initial_state": {"n": 0, "opens": opens}}
        run_ids[name] = platform.post("/graph/run_async", body)["run_id"]
    deadline, at = time.monotonic() + 20, dict[str, Json]()
    while time.monotonic() < deadline:
        at = {name: platform.get(f"/graph/status/{run_id}") for name, run_id in run_ids.items()}
        if (
            at["loop"]["last_commit"] >= 2
            and len(at["branches"]["node_runs"]) == 3
            and any(each["status"] == "retrying" for each in at["retried"]["node_runs"])
        ):
            assert at["queued"]["status"] == "pending"
            return run_ids
        time.sleep(0.05)
    raise AssertionError(at)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_every_accepted_run_goes_on_by_itself(
    tmp_path: Path, deployment: Callable[[], str], how: signal.Signals
) -> None:
    name = deployment()
    with serve(tmp_path, name, pool_min=2, max_active_runs=3, drain_s=0) as first:
        run_ids = begin(first)
        first.process.send_signal(how)
        first.process.wait(30)
    with serve(tmp_path, name, pool_min=2, max_active_runs=3) as second:
        journals = {each: second.journal(run_id) for each, run_id in run_ids.items()}
        ended = {each: second.get(f"/graph/status/{run_id}") for each, run_id in run_ids.items()}
        states = {each: second.get(f"/graph/state/{run_id}")["data"] for each, run_id in run_ids.items()}
    assert containers_of(name) == []

    assert {each["status"] for each in ended.values()} == {"completed"}
    assert states["loop"]["n"] == 10
    assert states["branches"].items() >= {"left": 1, "right": 1}.items()
    assert states["queued"] == states["branches"] | {"opens": states["queued"]["opens"]}
    assert states["retried"]["late"] == 1
    for each, records in journals.items():
        _judge(records, ended[each]["node_runs"], interrupted=each != "queued")
    lost = [
        attempt["status"]
        for each in ended.values()
        for node_run in each["node_runs"]
        for attempt in node_run["attempts"]
        if attempt["status"] == "lost"
    ]
    assert len(lost) >= 2


def _judge(records: list[Json], node_runs: list[Json], *, interrupted: bool) -> None:
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert [record["final"] for record in records] == [*[False] * (len(records) - 1), True]
    said = [record["status"] for record in records if record["type"] == "run"]
    assert said == ["pending", "running", *(["interrupted", "running"] if interrupted else [])]
    committed = [(record["node"], record["iteration"]) for record in records if record["type"] == "state"]
    assert len(committed) == len(set(committed))
    for node_run in node_runs:
        statuses = [attempt["status"] for attempt in node_run["attempts"]]
        assert statuses.count("succeeded") == (1 if statuses else 0)
