"""The API against the real engine, as a user meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import Served, serve
from websockets.sync.client import connect

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/api.md", "docs/code-review.md"])
def test_every_curl_example_of_the_docs_works(served: Served, page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    examples = [block for block in blocks if "curl" in block]
    assert examples, f"{page} has no curl example"
    # One shell for the page: later examples use ids that earlier ones captured.
    script = "\n".join(["set -euo pipefail", *examples]).replace("http://127.0.0.1:8000", served.url)
    script = re.sub(r"\bcurl ", "curl --fail-with-body --max-time 60 ", script)
    done = subprocess.run(
        ["bash", "-c", script.replace("ws://127.0.0.1:8000", served.url.replace("http", "ws"))],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_from_registration_to_its_records(served: Served) -> None:
    served.register(
        "def double(state):\n    print('doubling')\n    state.set('output', state.get('input') * 2)\n", "double"
    )
    result = served.run(served.graph_of("double"), {"input": 21})
    assert result["status"] == "completed"
    assert result["final_state"]["data"] == {"input": 21, "output": 42}
    assert [entry["node"] for entry in result["final_state"]["execution_log"]] == ["start", "double", "end"]
    records = served.journal(result["run_id"])
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert "doubling" in [record["message"] for record in records if record["kind"] == "log"]
    assert records[-1]["status"] == "completed"
    state = served.get(f"/graph/state/{result['run_id']}?at=0")
    assert state["data"] == {"input": 21}
    middle = len(records) // 2
    assert served.journal(result["run_id"], after=middle) == records[middle:]


def test_tools_conditions_a_loop_node_and_a_cycle(served: Served) -> None:
    served.post("/tools/register", {"name": "add", "code": "def add(a, b):\n    return a + b\n"})
    served.register("def count(state):\n    state.set('n', tools.invoke('add', state.get('n'), 1))\n", "count")
    served.register("def is_small(state):\n    return state.get('n') < 7\n", "is_small")
    graph = {
        "name": "loops",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "five", "type": "loop", "function": "count", "condition": "state.n < 5", "max_iterations": 10},
            {"name": "more", "function": "count"},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "start", "target": "five"},
            {"source": "five", "target": "more"},
            {"source": "more", "target": "more", "condition": {"function": "is_small"}},
            {"source": "more", "target": "end", "default": True},
        ],
    }
    result = served.run(graph, {"n": 3})
    assert result["status"] == "completed"
    assert result["final_state"]["data"] == {"n": 7}
    ran = [(entry["node"], entry["iteration"]) for entry in result["final_state"]["execution_log"]]
    assert ran == [("start", 1), ("five", 1), ("five", 2), ("more", 1), ("more", 2), ("end", 1)]


def test_parallel_branches_run_at_the_same_time_and_meet(served: Served) -> None:
    for name in ("left", "right"):
        served.register(
            f"import time\ndef {name}(state):\n    time.sleep(1)\n    state.set('{name}', sorted(state.keys()))\n", name
        )
    graph = {
        "name": "diamond",
        "nodes": [
            {"name": "start", "type": "start"},
            {"name": "left", "function": "left"},
            {"name": "right", "function": "right"},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "start", "target": "left"},
            {"source": "start", "target": "right"},
            {"source": "left", "target": "end"},
            {"source": "right", "target": "end"},
        ],
    }
    result = served.run(graph)
    assert result["final_state"]["data"] == {"left": [], "right": []}
    log = {entry["node"]: entry for entry in result["final_state"]["execution_log"]}
    assert log["left"]["started_at"] < log["right"]["finished_at"]
    assert log["right"]["started_at"] < log["left"]["finished_at"]


def test_cancel_kills_a_running_node_at_once(served: Served) -> None:
    served.register("import time\ndef sleep(state):\n    print('asleep', flush=True)\n    time.sleep(60)\n", "sleep")
    graph_id = served.post("/graph/create", served.graph_of("sleep", limits={"timeout_s": 100}))["graph_id"]
    started = served.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {}})
    assert started["status"] == "running"
    with connect(f"{served.url.replace('http', 'ws')}/graph/ws/{started['run_id']}") as records:
        for record in records:
            if json.loads(record)["message"] == "asleep":
                break
        begun = time.monotonic()
        cancelled = served.post(f"/graph/cancel/{started['run_id']}", None)
        rest = [json.loads(record) for record in records]
    assert time.monotonic() - begun < 5
    assert cancelled["status"] == "cancelled"
    assert rest[-1]["status"] == "cancelled"
    again = served.client.post(f"/graph/cancel/{started['run_id']}")
    assert again.status_code == 200
    (attempt,) = again.json()["node_runs"][1]["attempts"]
    assert attempt["status"] == "cancelled"
    assert attempt["usage"]["output_bytes"] == len("asleep\n")
    for name in ("wall_s", "start_s", "cpu_s", "pids_peak"):
        assert attempt["usage"][name] > 0, name


@pytest.mark.parametrize("isolation", ["node", "run"])
def test_the_attempts_of_a_run_share_a_sandbox_if_its_graph_says_so(served: Served, isolation: str) -> None:
    served.register(
        "import os\n"
        "def where(state):\n"
        "    supervisor = os.stat('/proc/self/ns/pid').st_ino, open('/proc/1/stat').read().split()[21]\n"
        "    state.set('found', [*state.get('found'), sorted(os.listdir('/tmp'))])\n"
        "    state.set('supervisors', [*state.get('supervisors'), str(supervisor)])\n"
        "    open('/tmp/left', 'w').close()\n",
        "where",
    )
    graph = served.graph_of("where", type="loop", max_iterations=3)
    result = served.run({**graph, "isolation": isolation}, {"found": [], "supervisors": []})
    assert result["status"] == "completed"
    data = result["final_state"]["data"]
    assert data["found"] == [[], [], []]
    assert len(set(data["supervisors"])) == (1 if isolation == "run" else 3)
    for entry in result["final_state"]["execution_log"][1:4]:
        assert entry["usage"]["start_s"] > 0
        assert entry["usage"]["pids_peak"] >= 2


def test_live_records_come_while_the_node_still_runs(served: Served) -> None:
    served.register(
        "import time\ndef talk(state):\n    for i in range(3):\n        print('line', i)\n        time.sleep(0.5)\n",
        "talk",
    )
    graph_id = served.post("/graph/create", served.graph_of("talk"))["graph_id"]
    run_id = served.post("/graph/run_async", {"graph_id": graph_id})["run_id"]
    seen: list[tuple[str, float]] = []
    with connect(f"{served.url.replace('http', 'ws')}/graph/ws/{run_id}") as records:
        records.send("ping")
        for record in records:
            if record == "pong":
                seen.append(("pong", time.monotonic()))
            elif (message := json.loads(record)["message"]).startswith("line"):
                seen.append((message, time.monotonic()))
    at = dict(seen)
    assert "pong" in at
    assert 0.3 < at["line 1"] - at["line 0"] < 1.5
    assert 0.3 < at["line 2"] - at["line 1"] < 1.5


BAD: dict[str, tuple[str, dict[str, object], int, str, str]] = {
    "a syntax error": ("/nodes/register", {"name": "f", "code": "def f(:"}, 422, "code", "syntax_error"),
    "another name": ("/nodes/register", {"name": "f", "code": "def g(s): pass"}, 422, "code", "name_not_defined"),
    "no function": ("/nodes/register", {"name": "f", "code": "f = 1"}, 422, "code", "not_callable"),
    "import fails": ("/nodes/register", {"name": "f", "code": "import nothing_like_it"}, 422, "code", "import_failed"),
    "endless import": ("/nodes/register", {"name": "f", "code": "while True: pass"}, 422, "code", "check_timeout"),
    "a bad tool": ("/tools/register", {"name": "t", "code": "def t("}, 422, "code", "syntax_error"),
    "no such function": (
        "/graph/create",
        {
            "name": "g",
            "nodes": [{"name": "s", "type": "start"}, {"name": "a", "function": "nowhere"}],
            "edges": [{"source": "s", "target": "a"}],
        },
        422,
        "nodes[1].function",
        "unknown_function",
    ),
    "a condition that does not compile": (
        "/graph/create",
        {
            "name": "g",
            "nodes": [{"name": "s", "type": "start"}, {"name": "e", "type": "end"}],
            "edges": [{"source": "s", "target": "e", "condition": "state. >= 3"}],
        },
        422,
        "edges[0].condition",
        "syntax_error",
    ),
}


@pytest.mark.parametrize(("path", "body", "status", "field", "code"), BAD.values(), ids=BAD.keys())
def test_bad_input_that_only_a_sandbox_can_tell(
    served: Served, path: str, body: dict[str, object], status: int, field: str, code: str
) -> None:
    def kept() -> object:
        return (
            served.get("/nodes/list?limit=500"),
            served.get("/tools/list?limit=500"),
            served.get("/graph/list?limit=500"),
        )

    before = kept()
    answer = served.client.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"][0]["path"] == field
    assert problem["errors"][0]["code"] == code
    if code == "syntax_error":
        assert problem["errors"][0]["line"] == 1
        assert problem["errors"][0]["column"] > 0
    assert kept() == before


def test_a_condition_that_raises_fails_its_node_and_says_so(served: Served) -> None:
    served.register("def f(state): pass", "f")
    graph = served.graph_of("f")
    graph["edges"][1]["condition"] = "state.nothing > 1"
    result = served.run(graph)
    assert result["status"] == "failed"
    assert result["error"]["node"] == "f"
    assert "state.nothing > 1" in json.dumps(result["error"])
    assert "nothing" in result["error"]["message"]


def test_a_runtime_that_the_deployment_does_not_have_is_refused(served: Served) -> None:
    served.register("def f(state):\n    pass\n", "f")
    own = served.get("/readyz")["sandboxes"]["runtime"]
    assert served.run({**served.graph_of("f"), "runtime": own})["status"] == "completed"
    problem = served.post("/graph/create", {**served.graph_of("f"), "runtime": "other"}, expected=(422,))
    assert (problem["code"], problem["errors"][0]["path"]) == ("runtime_not_allowed", "runtime")
    assert repr(own) in problem["detail"]


def test_a_failed_attempt_is_retried(served: Served) -> None:
    served.register(
        "def flaky(state):\n"
        "    if state.attempt < 3:\n"
        "        raise ValueError('not yet')\n"
        "    return {'attempt': state.attempt}\n",
        "flaky",
    )
    result = served.run(served.graph_of("flaky", retry={"max_attempts": 3, "initial_s": 0.05}))
    assert result["status"] == "completed"
    assert result["final_state"]["data"] == {"attempt": 3}


def test_a_new_version_is_for_new_runs(served: Served) -> None:
    served.register("import time\ndef version(state):\n    time.sleep(1)\n    state.set('version', 1)\n", "version")
    graph_id = served.post("/graph/create", served.graph_of("version"))["graph_id"]
    run_id = served.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {}})["run_id"]
    served.register("def version(state):\n    state.set('version', 2)\n", "version")
    second = served.post("/graph/run", {"graph_id": graph_id, "initial_state": {}})
    served.journal(run_id)
    assert served.get(f"/graph/state/{run_id}")["data"] == {"version": 1}
    assert second["final_state"]["data"] == {"version": 2}


def test_code_review_raises_the_score_by_changing_the_code(served: Served) -> None:
    graph_id = served.get("/graph/list?name=code_review")["graphs"][0]["graph_id"]
    code = (
        "def total(items=[]):\n"
        "    sum = 0\n"
        "    for i in items:\n"
        "        if i == None:\n"
        "            continue\n"
        "        sum = sum + i * 37\n"
        "    return sum\n"
    )
    result = served.post(
        "/graph/run", {"graph_id": graph_id, "initial_state": {"code": code, "quality_threshold": 9.5}}
    )
    assert result["status"] == "completed", result
    data = result["final_state"]["data"]
    assert data["improved_code"] != code
    compile(data["improved_code"], "improved", "exec")
    assert data["quality_history"][-1]["score"] > data["quality_history"][0]["score"]
    assert {"functions", "complexity_results", "issues", "suggestions", "quality_score", "improvements_applied"} <= set(
        data
    )


def test_a_restart_without_resuming_marks_what_was_in_flight(tmp_path: Path, deployment: Callable[[], str]) -> None:
    name = deployment()
    with serve(tmp_path, name) as first:
        done = first.run_function("def f(state):\n    state.set('x', 1)\n", name="f")
        first.register("import time\ndef sleep(state):\n    time.sleep(60)\n", "sleep")
        graph_id = first.post("/graph/create", first.graph_of("sleep", limits={"timeout_s": 100}))["graph_id"]
        run_id = first.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {}})["run_id"]
        time.sleep(1)
        os.kill(first.process.pid, 9)
        first.process.wait(10)
    with serve(tmp_path, name, resume_runs=False) as second:
        assert second.get(f"/graph/status/{run_id}")["status"] == "interrupted"
        assert second.journal(run_id)[-1]["status"] == "interrupted"
        assert second.get(f"/graph/state/{done['run_id']}")["data"] == {"x": 1}
        assert second.run_function("def f(state):\n    state.set('x', 2)\n", name="f")["status"] == "completed"
    assert second.containers() == []


def test_sigterm_leaves_no_container_even_under_load(tmp_path: Path, deployment: Callable[[], str]) -> None:
    with serve(tmp_path, deployment()) as platform:
        platform.register("import time\ndef sleep(state):\n    time.sleep(60)\n", "sleep")
        graph_id = platform.post("/graph/create", platform.graph_of("sleep", limits={"timeout_s": 100}))["graph_id"]
        for _ in range(6):
            platform.post("/graph/run_async", {"graph_id": graph_id, "initial_state": {}})
        assert platform.containers()
    assert platform.process.returncode == 0
    assert platform.containers() == []


def test_many_runs_at_once_all_complete(served: Served) -> None:
    served.register("def inc(state):\n    state.set('n', state.get('n') + 1)\n", "inc")
    graph_id = served.post("/graph/create", served.graph_of("inc"))["graph_id"]
    results: list[int] = []

    def one(n: int) -> None:
        answer = served.post("/graph/run", {"graph_id": graph_id, "initial_state": {"n": n}})
        results.append(answer["final_state"]["data"]["n"])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 13))


def approval(served: Served) -> dict[str, object]:
    """Return a graph with a map, a wait, a subgraph and a key with a reducer; its functions are registered."""
    served.register("def measure(word, state):\n    return len(word) * state['factor']\n", "measure")
    served.register("def total(state):\n    state['total'] = sum(state['numbers'])\n", "total")
    for name in ("left", "right"):
        code = f"def {name}(state):\n    state['notes'] = state.get('notes', []) + ['{name}']\n"
        served.register(code, name)
    inner = {"name": "total", "start_node": "total", "nodes": [{"name": "total", "function": "total"}]}
    graph_id = served.post("/graph/create", inner)["graph_id"]
    return {
        "name": "approval",
        "start_node": "measure",
        "state": {"notes": {"reducer": "append"}},
        "nodes": [
            {"name": "measure", "type": "map", "items": "words", "function": "measure", "into": "lengths"},
            {"name": "approval", "type": "wait", "event": "approved", "into": "by", "timeout_s": 60},
            {
                "name": "sum",
                "type": "subgraph",
                "graph_id": graph_id,
                "inputs": {"numbers": "lengths"},
                "outputs": {"letters": "total"},
            },
            {"name": "left", "function": "left"},
            {"name": "right", "function": "right"},
            {"name": "end", "type": "end"},
        ],
        "edges": [
            {"source": "measure", "target": "approval"},
            {"source": "approval", "target": "sum"},
            {"source": "sum", "target": "left"},
            {"source": "sum", "target": "right"},
            {"source": "left", "target": "end"},
            {"source": "right", "target": "end"},
        ],
    }


def wait_for_status(served: Served, run_id: str, status: str) -> dict[str, Any]:
    """Return where a run stands once it has come to that."""
    deadline = time.monotonic() + 30
    while (told := served.get(f"/graph/status/{run_id}"))["status"] != status:
        assert time.monotonic() < deadline, (told["status"], told["error"])
        time.sleep(0.05)
    return told


def test_a_map_a_wait_a_subgraph_and_a_reducer(served: Served) -> None:
    document = approval(served)
    graph_id = served.post("/graph/create", document)["graph_id"]
    shown = served.get(f"/graph/{graph_id}")["graph"]
    assert shown["state"] == document["state"]
    assert served.post("/graph/create", shown)["graph_id"] == graph_id

    state = {"words": ["one", "three"], "factor": 10}
    run_id = served.post("/graph/run_async", {"graph_id": graph_id, "initial_state": state})["run_id"]
    waiting = wait_for_status(served, run_id, "waiting")
    assert (waiting["current_nodes"], waiting["queue"], waiting["paused"]) == (["approval"], None, False)
    event = {"name": "approved", "payload": {"who": "Ada"}, "event_id": "e"}
    told = [served.client.post(f"/graph/event/{run_id}", json=event) for _ in range(2)]
    assert [(each.status_code, each.json()["status"]) for each in told] == [(202, "accepted"), (200, "duplicate")]
    other = served.client.post(f"/graph/event/{run_id}", json={**event, "payload": 5})
    assert (other.status_code, other.json()["code"]) == (409, "event_id_reused")

    records = served.journal(run_id)
    assert (records[-1]["status"], records[-1]["final"]) == ("completed", True)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert {record["scope"] for record in records} == {"", "measure#1", "sum#1"}
    final = served.get(f"/graph/state/{run_id}")
    assert final["data"] == {
        **state,
        "lengths": [30, 50],
        "by": {"who": "Ada"},
        "letters": 80,
        "notes": ["left", "right"],
    }
    writers = final["writers"]
    assert [(writers[key]["node"], writers[key]["attempt"]) for key in ("words", "lengths", "by", "letters")] == [
        (None, None),
        ("measure", None),
        ("approval", None),
        ("sum", None),
    ]
    late = served.client.post(f"/graph/event/{run_id}", json={"name": "more"})
    assert late.status_code == 409

    status = served.get(f"/graph/status/{run_id}")
    assert {(each["scope"], each["node"], each["iteration"]) for each in status["node_runs"]} >= {
        ("measure#1", "measure", 1),
        ("measure#1", "measure", 2),
        ("sum#1", "total", 1),
    }
    (total,) = (each for each in status["node_runs"] if each["node"] == "total")
    assert total["attempts"][0]["reads"] == {"keys": ["numbers"], "cut": False}
    first = served.get(f"/graph/status/{run_id}?limit=2")
    rest = served.get(f"/graph/status/{run_id}?cursor={first['next_cursor']}")
    assert first["node_runs"] + rest["node_runs"] == status["node_runs"]

    history = served.get(f"/graph/history/{run_id}")["commits"]
    assert [each["number"] for each in history] == list(range(1, status["last_commit"] + 1))
    assert [each["node"] for each in served.get(f"/graph/history/{run_id}?scope=sum%231")["commits"]] == ["total"]
    (left,) = served.get(f"/graph/history/{run_id}?node=left")["commits"]
    assert left["diff"] == [{"op": "append", "key": "notes", "value": ["left"]}]


def test_a_run_is_paused_forked_and_replayed(served: Served) -> None:
    graph_id = served.post("/graph/create", approval(served))["graph_id"]
    body = {"graph_id": graph_id, "initial_state": {"words": ["a"], "factor": 1}}
    run_id = served.post("/graph/run_async", body)["run_id"]
    wait_for_status(served, run_id, "waiting")
    assert served.post(f"/graph/pause/{run_id}", None)["paused"] is True
    served.post(f"/graph/event/{run_id}", {"name": "approved"})
    time.sleep(0.5)
    paused = served.get(f"/graph/status/{run_id}")
    assert (paused["status"], paused["paused"]) == ("waiting", True)
    assert served.post(f"/graph/unpause/{run_id}", None)["paused"] is False
    wait_for_status(served, run_id, "completed")
    ended = served.client.post(f"/graph/pause/{run_id}")
    assert ended.status_code == 409

    fork = {"at": 0, "state": {"words": ["four", "five"]}, "delete": ["nothing"]}
    made = served.client.post(f"/graph/fork/{run_id}", json=fork, headers={"Idempotency-Key": run_id})
    assert made.status_code == 202, made.text
    assert made.json()["forked_from"] == {"run_id": run_id, "at": 0}
    again = served.client.post(f"/graph/fork/{run_id}", json=fork, headers={"Idempotency-Key": run_id})
    assert (again.json()["run_id"], again.headers["idempotent-replayed"]) == (made.json()["run_id"], "true")
    forked = made.json()["run_id"]
    served.post(f"/graph/event/{forked}", {"name": "approved"})
    wait_for_status(served, forked, "completed")
    assert served.get(f"/graph/state/{forked}")["data"]["lengths"] == [4, 4]
    assert served.get(f"/graph/status/{forked}")["forked_from"] == {"run_id": run_id, "at": 0}
    assert served.get(f"/graph/state/{run_id}")["data"]["lengths"] == [1]
    assert served.client.post(f"/graph/fork/{run_id}", json={"at": 99}).status_code == 404

    replayed = served.post(f"/graph/replay/{run_id}", {"node": "left"})
    assert replayed["drift"] == []
    assert replayed["recorded"] == replayed["replayed"]
    assert replayed["recorded"]["diff"] == [{"op": "append", "key": "notes", "value": ["left"]}]
    missing = served.client.post(f"/graph/replay/{run_id}", json={"node": "left", "iteration": 7})
    assert missing.status_code == 404


def test_a_failed_run_goes_on_with_what_was_repaired(served: Served) -> None:
    served.register("def first(state):\n    state['first'] = True\n", "first")
    served.register("def fragile(state):\n    raise ValueError('broken')\n", "fragile")
    graph = {
        "name": "fragile",
        "start_node": "first",
        "nodes": [{"name": "first", "function": "first"}, {"name": "fragile", "function": "fragile"}],
        "edges": [{"source": "first", "target": "fragile"}],
    }
    failed = served.run(graph)
    assert failed["status"] == "failed"
    run_id = failed["run_id"]
    assert run_id in [each["run_id"] for each in served.get("/graph/runs?failure=error")["runs"]]
    served.register("def fragile(state):\n    state['fragile'] = state['first']\n", "fragile")
    pinned = served.client.post(f"/graph/resume/{run_id}")
    assert (pinned.status_code, pinned.json()["forked_from"]["run_id"]) == (202, run_id)
    assert wait_for_status(served, pinned.json()["run_id"], "failed")["error"]["message"] == "broken"
    latest = served.post(f"/graph/resume/{run_id}", {"functions": "latest"})["run_id"]
    done = wait_for_status(served, latest, "completed")
    assert served.get(f"/graph/state/{latest}")["data"] == {"first": True, "fragile": True}
    assert done["forked_from"]["run_id"] == run_id
    assert served.get(f"/graph/status/{run_id}")["status"] == "failed"
    assert served.client.post(f"/graph/resume/{latest}").status_code == 409
