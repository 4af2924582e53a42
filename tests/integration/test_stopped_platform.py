"""A platform that is told to stop: nothing is lost, nothing is left, and those who follow know what to do."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from served import Served, containers_of, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Json = dict[str, Any]

#: Each prints before it sleeps, and again after it.
FUNCTIONS = {
    "soon": """import time
def soon(state):
    print('soon begins')
    time.sleep(2)
    print('soon ends')
    state.set('soon', 1)
""",
    "late": """import time
def late(state):
    print('late begins')
    time.sleep(8)
    state.set('late', 1)
""",
    "count": """import time
def count(state):
    time.sleep(0.2)
    state.set('n', state.get('n', 0) + 1)
    print('n', state['n'])
""",
    "talk": """import time
def talk(state):
    for n in range(10_000):
        print('line', n)
        time.sleep(0.001)
""",
}


def chain(*functions: str) -> Json:
    names = ["start", *functions, "end"]
    nodes: list[Json] = [{"name": "start", "type": "start"}, {"name": "end", "type": "end"}]
    nodes += [{"name": name, "function": name} for name in functions]
    return {"name": "-".join(functions), "nodes": nodes, "edges": edges(names)}


def edges(names: list[str]) -> list[Json]:
    return [{"source": source, "target": target} for source, target in itertools.pairwise(names)]


LOOP: Json = {
    "name": "loop",
    "nodes": [
        {"name": "start", "type": "start"},
        {
            "name": "count",
            "type": "loop",
            "function": "count",
            "condition": "state.get('n', 0) < 25",
            "max_iterations": 50,
        },
        {"name": "end", "type": "end"},
    ],
    "edges": edges(["start", "count", "end"]),
}


def begin(platform: Served, graph: Json) -> str:
    graph_id = platform.post("/graph/create", graph)["graph_id"]
    return str(platform.post("/graph/run_async", {"graph_id": graph_id})["run_id"])


def lines(platform: Served, run_id: str) -> list[str]:
    return [record["message"] for record in platform.journal(run_id) if record["kind"] == "log"]


def follow(platform: Served, run_id: str, closed: list[tuple[int | None, int]]) -> threading.Thread:
    """Follow a run on a thread, which notes with what code it ended, and the last number that it saw."""

    def work() -> None:
        last = 0
        with connect(f"{platform.url.replace('http', 'ws')}/graph/ws/{run_id}", close_timeout=5) as records:
            with suppress(ConnectionClosed):
                while True:
                    last = json.loads(records.recv())["seq"]
            closed.append((records.protocol.close_code, last))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def follow_events(platform: Served, run_id: str, heard: list[str]) -> threading.Thread:
    """Follow a run's lines as server-sent events on a thread, which notes all that it is told."""

    def work() -> None:
        headers = {"Accept": "text/event-stream"}
        with httpx2.stream("GET", f"{platform.url}/graph/logs/{run_id}", headers=headers, timeout=60) as events:
            heard.extend(events.iter_lines())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.docker
def test_what_ends_in_time_is_stored_and_the_rest_goes_on_after_the_next_start(
    tmp_path: Path, deployment: Callable[[], str]
) -> None:
    name = deployment()
    closed: list[tuple[int | None, int]] = []
    heard: list[str] = []
    with serve(tmp_path, name, drain_s=4, worker_slots=3, max_active_runs=3) as platform:
        for function, code in FUNCTIONS.items():
            platform.register(code, function)
        soon, late, loop = (begin(platform, each) for each in (chain("soon"), chain("soon", "late"), LOOP))
        queued = begin(platform, chain("count"))
        for run_id in (soon, late):
            platform.wait_for_line(run_id, "soon begins")
        followers = [follow(platform, late, closed), follow_events(platform, late, heard)]
        platform.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        # It goes on to answer while it ends what runs.
        ready = platform.client.get("/readyz")
        while ready.status_code == 200:
            ready = platform.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "shutting_down")
        assert platform.client.get("/livez").status_code == 200
        graph_id = platform.get("/graph/list?limit=1")["graphs"][0]["graph_id"]
        refused = platform.client.post("/graph/run_async", json={"graph_id": graph_id})
        assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
        assert int(refused.headers["retry-after"]) > 0
        assert platform.process.wait(25) == 0
        assert time.monotonic() - began < 4 + 10
        for follower in followers:
            follower.join(10)
    assert containers_of(name) == []
    assert closed[0][0] == 1012
    assert [line for line in heard if line][-1] == ": the platform stops; come back with Last-Event-ID"
    with serve(tmp_path, name, worker_slots=3) as platform:
        for run_id in (soon, late, loop, queued):
            assert platform.journal(run_id)[-1]["status"] == "completed"
            seqs = [record["seq"] for record in platform.journal(run_id)]
            assert seqs == list(range(1, len(seqs) + 1))
        # What ended in time ran once; nothing that was printed is missing.
        assert lines(platform, soon) == ["soon begins", "soon ends"]
        assert lines(platform, late)[:2] == ["soon begins", "soon ends"]
        attempts = [node["attempts"] for node in platform.get(f"/graph/status/{soon}")["node_runs"] if node["attempts"]]
        assert [[each["status"] for each in tried] for tried in attempts] == [["succeeded"]]
        assert lines(platform, loop) == [f"n {n}" for n in range(1, 26)]
        assert platform.journal(late, closed[0][1])[0]["seq"] == closed[0][1] + 1
    assert containers_of(name) == []


@pytest.mark.docker
def test_what_was_printed_before_the_kill_is_stored(tmp_path: Path, deployment: Callable[[], str]) -> None:
    name = deployment()
    with serve(tmp_path, name, drain_s=0, resume_runs="false") as platform:
        platform.register(FUNCTIONS["talk"], "talk")
        run_id = begin(platform, chain("talk"))
        platform.wait_for_line(run_id, "line 100")
        platform.process.send_signal(signal.SIGTERM)
        assert platform.process.wait(20) == 0
    assert containers_of(name) == []
    with serve(tmp_path, name) as platform:
        journal = platform.journal(run_id)
        assert journal[-1]["status"] == "interrupted"
        printed = [record["message"] for record in journal if record["kind"] == "log"]
        assert len(printed) > 100
        assert printed == [f"line {n}" for n in range(len(printed))]


@pytest.mark.docker
def test_a_second_signal_ends_it_at_once(tmp_path: Path, deployment: Callable[[], str]) -> None:
    name = deployment()
    with serve(tmp_path, name, drain_s=600) as platform:
        platform.register(FUNCTIONS["late"], "late")
        run_id = begin(platform, chain("late"))
        platform.wait_for_line(run_id, "late begins")
        platform.process.send_signal(signal.SIGTERM)
        while platform.client.get("/readyz").status_code == 200:
            pass
        began = time.monotonic()
        platform.process.send_signal(signal.SIGINT)
        assert platform.process.wait(20) == 0
        assert time.monotonic() - began < 10
        with pytest.raises(httpx2.HTTPError):
            platform.client.get("/livez")
    assert containers_of(name) == []
