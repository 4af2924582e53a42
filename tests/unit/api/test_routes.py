"""What each route answers when all is well, and when something behind it is not."""

from __future__ import annotations

import pytest
from api_world import FULL, World
from starlette.testclient import TestClient

from sandgraph.api.services import Reader
from sandgraph.errors import ConfigurationError, EngineUnavailable, SandgraphError
from sandgraph.model.run import RunStatus
from sandgraph.store.store import Store

# The table of the design, HTTP.
TABLE = [
    ("POST", "/nodes/register"),
    ("GET", "/nodes/list"),
    ("POST", "/tools/register"),
    ("GET", "/tools/list"),
    ("POST", "/graph/create"),
    ("POST", "/graph/run"),
    ("POST", "/graph/run_async"),
    ("GET", "/graph/status/{run_id}"),
    ("GET", "/graph/state/{run_id}"),
    ("POST", "/graph/cancel/{run_id}"),
    ("GET", "/graph/list"),
    ("GET", "/graph/{graph_id}"),
    ("GET", "/graph/runs"),
    ("POST", "/graph/event/{run_id}"),
    ("POST", "/graph/pause/{run_id}"),
    ("POST", "/graph/unpause/{run_id}"),
    ("POST", "/graph/fork/{run_id}"),
    ("POST", "/graph/resume/{run_id}"),
    ("POST", "/graph/replay/{run_id}"),
    ("GET", "/graph/history/{run_id}"),
]

DOUBLE = {"name": "double", "code": "def double(state):\n    state.set('output', state.get('input') * 2)\n"}
GRAPH = {
    "name": "double",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "work", "function": "double"},
        {"name": "end", "type": "end"},
    ],
    "edges": [{"source": "start", "target": "work"}, {"source": "work", "target": "end"}],
}


@pytest.fixture
def graph_id(client: TestClient) -> str:
    client.post("/nodes/register", json=DOUBLE)
    return str(client.post("/graph/create", json=GRAPH).json()["graph_id"])


def the_store_is_a_reader(store: Store) -> Reader:
    """Let the type checker say so."""
    return store


@pytest.mark.parametrize(("method", "path"), TABLE)
def test_every_route_of_the_design_is_there(client: TestClient, method: str, path: str) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert method.lower() in paths[path]
    known = client.request(method, path.format(run_id="run_0", graph_id="gr_0"))
    assert known.status_code in {200, 400, 404}
    if known.status_code == 404:
        assert known.json()["code"] in {"run_not_found", "graph_not_found"}


def test_registering_makes_a_version_once(client: TestClient) -> None:
    first = client.post("/nodes/register", json=DOUBLE)
    assert first.status_code == 201
    assert first.json()["version"] == 1
    assert client.post("/nodes/register", json=DOUBLE).status_code == 200
    changed = {**DOUBLE, "code": DOUBLE["code"] + "\n# changed\n"}
    assert client.post("/nodes/register", json=changed).json()["version"] == 2
    listed = client.get("/nodes/list").json()
    assert [(each["name"], each["version"]) for each in listed["nodes"]] == [("double", 2)]
    assert listed["next_cursor"] is None


def test_tools_are_listed_apart_from_functions(client: TestClient) -> None:
    tool = {"name": "greet", "code": "def greet(name): return name", "description": "Greets."}
    assert client.post("/tools/register", json=tool).status_code == 201
    assert client.get("/tools/list").json()["tools"][0]["description"] == "Greets."
    assert client.get("/nodes/list").json()["nodes"] == []


def test_a_graphs_document_makes_the_same_graph_again(client: TestClient, graph_id: str) -> None:
    read = client.get(f"/graph/{graph_id}").json()
    again = client.post("/graph/create", json=read["graph"])
    assert again.status_code == 200
    assert again.json()["graph_id"] == graph_id
    assert again.headers["location"] == f"/graph/{graph_id}"
    summary = {name: value for name, value in read.items() if name != "graph"}
    assert client.get("/graph/list?name=double").json()["graphs"] == [summary]
    assert client.get("/graph/list?name=other").json()["graphs"] == []


def test_a_graph_may_name_an_isolation_and_a_runtime(client: TestClient) -> None:
    client.post("/nodes/register", json=DOUBLE)
    made = client.post("/graph/create", json={**GRAPH, "isolation": "run", "runtime": "runsc"})
    assert made.status_code == 201
    document = client.get(f"/graph/{made.json()['graph_id']}").json()["graph"]
    assert (document["isolation"], document["runtime"]) == ("run", "runsc")
    assert client.post("/graph/create", json=document).status_code == 200
    assert client.post("/graph/create", json={**GRAPH, "isolation": "node", "runtime": None}).status_code == 201
    assert client.post("/graph/create", json=GRAPH).status_code == 200


def test_run_waits_and_gives_the_final_state(client: TestClient, graph_id: str) -> None:
    answer = client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"input": 5}})
    assert answer.status_code == 200
    outcome = answer.json()
    assert outcome["status"] == "completed"
    assert outcome["graph_id"] == graph_id
    assert outcome["final_state"]["run_id"] == outcome["run_id"]
    assert outcome["final_state"]["data"] == {"input": 5, "done": True}
    log = outcome["final_state"]["execution_log"]
    assert [(each["node"], each["attempt"], each["status"]) for each in log] == [
        ("start", None, "succeeded"),
        ("work", 1, "timeout"),
        ("work", 2, "running"),
    ]
    assert log[1]["duration_ms"] == 500
    assert log[1]["started_at"] == "2026-11-23T12:00:01.123456Z"
    assert log[1]["error"]["code"] == "timeout"
    assert log[2]["usage"] is None


def test_a_failed_run_is_an_answer_and_no_error(client: TestClient, world: World, graph_id: str) -> None:
    world.runs.status = RunStatus.FAILED
    answer = client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"input": 5}})
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"]["node"] == "work"
    assert answer.json()["final_state"]["data"] == {"input": 5}


def test_a_run_that_takes_too_long_to_wait_for_goes_on(world: World, graph_id: str, client: TestClient) -> None:
    object.__setattr__(world.settings, "sync_wait_s", 0.01)
    world.runs.hold = True
    answer = client.post("/graph/run", json={"graph_id": graph_id})
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    assert answer.json()["status"] == "running"
    assert run_id in answer.json()["message"]
    assert answer.headers["location"] == f"/graph/status/{run_id}"


def test_run_async_status_state_and_cancel(client: TestClient, world: World, graph_id: str) -> None:
    world.runs.hold = True
    started = client.post("/graph/run_async", json={"graph_id": graph_id, "initial_state": {"input": 1}})
    assert started.status_code == 202
    run_id = started.json()["run_id"]
    assert started.json()["status"] == "running"
    assert started.headers["location"] == f"/graph/status/{run_id}"

    status = client.get(f"/graph/status/{run_id}").json()
    assert status["current_nodes"] == ["work"]
    assert status["node_runs"][1]["attempts"][0]["usage"] == {
        "wall_s": 1.0,
        "cpu_s": None,
        "peak_memory_bytes": None,
        "pids_peak": 3,
        "output_bytes": 0,
        "oom_kills": 0,
        "exit_code": None,
        "signal": 9,
        "queue_s": 0.5,
        "start_s": 0.25,
    }
    assert client.get(f"/graph/state/{run_id}").json()["data"] == {"input": 1}

    cancelled = client.post(f"/graph/cancel/{run_id}")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    assert client.post(f"/graph/cancel/{run_id}").json()["status"] == "cancelled"


def test_a_finished_run_cannot_be_cancelled(client: TestClient, graph_id: str) -> None:
    run_id = client.post("/graph/run", json={"graph_id": graph_id}).json()["run_id"]
    answer = client.post(f"/graph/cancel/{run_id}")
    assert answer.status_code == 409
    assert answer.json()["code"] == "run_already_finished"


def test_checkpoints(client: TestClient, graph_id: str) -> None:
    run_id = client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"n": 1}}).json()["run_id"]
    assert client.get(f"/graph/state/{run_id}?at=0").json()["data"] == {"n": 1}
    assert client.get(f"/graph/state/{run_id}?at=1").json()["data"] == {"n": 1, "done": True}
    missing = client.get(f"/graph/state/{run_id}?at=2")
    assert missing.status_code == 404
    assert missing.json()["errors"] == [
        {"path": "at", "code": "checkpoint_not_found", "message": "There is no checkpoint '2'."}
    ]


def test_an_idempotency_key_starts_one_run(client: TestClient, graph_id: str) -> None:
    body = {"graph_id": graph_id, "initial_state": {"n": 1}}
    first = client.post("/graph/run_async", json=body, headers={"Idempotency-Key": "order-17"})
    again = client.post("/graph/run_async", json=body, headers={"Idempotency-Key": "order-17"})
    assert again.json()["run_id"] == first.json()["run_id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["status"] == "completed"
    other = client.post("/graph/run", json={**body, "initial_state": {}}, headers={"Idempotency-Key": "order-17"})
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_key_reused"


def test_lists_are_paged_and_filtered(client: TestClient, world: World, graph_id: str) -> None:
    made = [client.post("/graph/run", json={"graph_id": graph_id}).json()["run_id"] for _ in range(5)]
    world.runs.hold = True
    held = client.post("/graph/run_async", json={"graph_id": graph_id}).json()["run_id"]
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = client.get(f"/graph/runs{query}").json()
        assert len(page["runs"]) <= 2
        seen += [run["run_id"] for run in page["runs"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert seen == [held, *reversed(made)]
    assert len(client.get("/graph/runs?status=completed").json()["runs"]) == 5
    assert client.get("/graph/runs?status=failed").json()["runs"] == []
    assert client.get("/graph/runs?failure=error").json()["runs"] == []
    assert client.get("/graph/runs?graph_id=gr_none").json()["runs"] == []


def test_a_full_queue_says_when_to_come_back(client: TestClient, world: World, graph_id: str) -> None:
    world.runs.error = FULL
    for path in ("/graph/run", "/graph/run_async"):
        answer = client.post(path, json={"graph_id": graph_id})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["code"] == "queue_full"


def test_a_part_that_does_not_answer_is_503(client: TestClient, world: World) -> None:
    world.catalog.error = EngineUnavailable("The Docker engine does not answer.")
    answer = client.post("/nodes/register", json=DOUBLE)
    assert answer.status_code == 503
    assert answer.json()["code"] == "engine_unavailable"
    assert int(answer.headers["retry-after"]) > 0


def test_an_error_that_fits_nowhere_is_500_without_its_text(
    client: TestClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (SandgraphError("secret"), ConfigurationError("secret"), RuntimeError("secret")):
        world.catalog.error = error
        answer = client.post("/nodes/register", json=DOUBLE)
        assert answer.status_code == 500
        assert answer.json()["code"] == "internal_error"
        assert "secret" not in answer.text
        assert f"request {answer.headers['x-request-id']} failed" in caplog.text


def test_health(client: TestClient, world: World) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    checks = [{"name": name, "status": "ok"} for name in ("database", "engine")]
    assert client.get("/readyz").json() == {"status": "ready", "checks": checks}
    world.health.down = True
    for path, code, check in (("/livez", "not_alive", "heart"), ("/readyz", "not_ready", "engine")):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["code"] == code
        assert [each["path"] for each in answer.json()["errors"]] == [check]
        assert "beats" not in answer.text
        assert "26" not in answer.text


def test_health_in_detail_is_for_this_machine(world: World, client: TestClient) -> None:
    local = TestClient(client.app, client=("127.0.0.1", 1))
    found = local.get("/readyz").json()
    assert found["active_runs"] == 0
    assert [each["detail"] for each in found["checks"]] == ["It can be written.", "version 26"]
    assert "active_runs" not in local.get("/readyz", headers={"X-Forwarded-For": "192.0.2.1"}).json()
    world.health.down = True
    assert local.get("/readyz").json()["errors"][0]["message"] == "version 26"


def test_the_root_says_where_to_go(client: TestClient) -> None:
    links = client.get("/").json()
    assert links["docs"] == "/docs"
    assert client.get(links["openapi"]).status_code == 200


def test_routes_that_are_not_there(client: TestClient) -> None:
    assert client.get("/nothing").json()["code"] == "route_not_found"
    assert client.get("/graph/list/").status_code == 404
    wrong = client.delete("/graph/list")
    assert wrong.status_code == 405
    assert wrong.json()["code"] == "method_not_allowed"
    for path in ("/graph/run", "/graph/run_async", "/graph/create"):
        answer = client.get(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
