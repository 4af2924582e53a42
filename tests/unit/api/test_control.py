"""Events, pauses, forks, resumptions and replays of runs; their history, and who wrote what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from api_world import FULL, NOW, FakeReader, World
from effort import part_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from sandgraph.api.routes import history
from sandgraph.api.views import record_view
from sandgraph.model.annotations import UNCHANGED
from sandgraph.model.run import NodeRunStatus, RunStatus
from sandgraph.model.state import DeleteKey, SetKey, StateDiff
from sandgraph.store.records import CommitRecord, JournalRecord, NodeRunRecord

DOUBLE = {"name": "double", "code": "def double(state):\n    return {}\n"}
GRAPH = {
    "name": "double",
    "nodes": [{"name": "start", "type": "start"}, {"name": "work", "function": "double"}],
    "edges": [{"source": "start", "target": "work"}],
}


@pytest.fixture
def graph_id(client: TestClient) -> str:
    client.post("/nodes/register", json=DOUBLE)
    return str(client.post("/graph/create", json=GRAPH).json()["graph_id"])


@pytest.fixture
def held(client: TestClient, world: World, graph_id: str) -> str:
    """Return the id of a run that goes on."""
    world.runs.hold = True
    body = {"graph_id": graph_id, "initial_state": {"n": 1, "old": True}}
    return str(client.post("/graph/run_async", json=body).json()["run_id"])


@pytest.fixture
def failed(client: TestClient, world: World, graph_id: str) -> str:
    world.runs.status = RunStatus.FAILED
    return str(client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"n": 1}}).json()["run_id"])


def commits(*sizes: int) -> list[CommitRecord]:
    return [
        CommitRecord(number, (number - 1,), StateDiff((SetKey("k", "x" * size),)), "work", number, 1, NOW)
        for number, size in enumerate(sizes, 1)
    ]


# Events


def test_an_event_is_accepted_once(client: TestClient, world: World, held: str) -> None:
    event = {"name": "approved", "payload": {"by": ["Ada", None]}, "event_id": "e-1"}
    first = client.post(f"/graph/event/{held}", json=event)
    told = {"run_id": held, "name": "approved", "event_id": "e-1"}
    assert (first.status_code, first.json()) == (202, {**told, "status": "accepted"})
    again = client.post(f"/graph/event/{held}", json=event)
    assert (again.status_code, again.json()) == (200, {**told, "status": "duplicate"})
    assert world.runs.events == {(held, "e-1"): ("approved", {"by": ["Ada", None]})}
    other = client.post(f"/graph/event/{held}", json={**event, "payload": None})
    assert (other.status_code, other.json()["code"]) == (409, "event_id_reused")


@pytest.mark.parametrize("payload", [None, False, 0, -(2**63), 1.5, "", [], {}, [[[[[[[1]]]]]]]])
def test_a_payload_is_any_json(client: TestClient, world: World, held: str, payload: object) -> None:
    answer = client.post(f"/graph/event/{held}", json={"name": "n", "payload": payload, "event_id": None})
    assert answer.status_code == 202
    event_id = answer.json()["event_id"]
    assert event_id
    kept = world.runs.events[held, event_id]
    assert (kept, type(kept[1])) == (("n", payload), type(payload))


def test_an_event_needs_no_payload_and_no_id(client: TestClient, world: World, held: str) -> None:
    first, second = (client.post(f"/graph/event/{held}", json={"name": "n"}).json() for _ in range(2))
    assert first["event_id"] != second["event_id"]
    assert list(world.runs.events.values()) == [("n", None)] * 2


def test_a_run_that_ended_takes_no_events(client: TestClient, failed: str) -> None:
    answer = client.post(f"/graph/event/{failed}", json={"name": "n"})
    assert (answer.status_code, answer.json()["code"]) == (409, "run_already_finished")


# Pauses


def test_pausing_and_unpausing_answer_with_the_status(client: TestClient, held: str) -> None:
    for _ in range(2):
        paused = client.post(f"/graph/pause/{held}")
        assert (paused.status_code, paused.json()["paused"]) == (200, True)
        assert paused.json() == client.get(f"/graph/status/{held}").json()
    assert client.get("/graph/runs").json()["runs"][0]["paused"] is True
    for _ in range(2):
        unpaused = client.post(f"/graph/unpause/{held}")
        assert (unpaused.status_code, unpaused.json()["paused"]) == (200, False)


@pytest.mark.parametrize("what", ["pause", "unpause"])
def test_a_run_that_ended_cannot_be_paused(client: TestClient, failed: str, what: str) -> None:
    answer = client.post(f"/graph/{what}/{failed}")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_already_finished")


# Forks


def test_a_fork_is_a_new_run(client: TestClient, held: str) -> None:
    body = {"at": 0, "state": {"n": 2, "new": []}, "delete": ["old", "never"]}
    answer = client.post(f"/graph/fork/{held}", json=body)
    assert answer.status_code == 202
    made = answer.json()
    assert made["run_id"] != held
    assert (made["status"], made["forked_from"]) == ("running", {"run_id": held, "at": 0})
    assert made["run_id"] in made["message"]
    assert answer.headers["location"] == f"/graph/status/{made['run_id']}"
    assert client.get(f"/graph/state/{made['run_id']}").json()["data"] == {"n": 2, "new": []}
    assert client.get(f"/graph/status/{made['run_id']}").json()["forked_from"] == {"run_id": held, "at": 0}
    assert client.get(f"/graph/status/{held}").json()["forked_from"] is None


def test_what_a_fork_changes_is_in_order_and_there_once(
    client: TestClient, world: World, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    made = replace(world.runs.records[held], forked_from=held, forked_at=3)

    async def fork(run_id: str, at: int, changes: StateDiff, **more: object) -> object:
        assert more.pop("annotated") == UNCHANGED
        asked.append((run_id, at, changes, *more.values()))
        return made, True

    monkeypatch.setattr(world.runs, "fork", fork)
    body = {"at": 3, "state": {"c": None, "a": 1}, "delete": ["b"], "functions": "latest"}
    client.post(f"/graph/fork/{held}", json=body, headers={"Idempotency-Key": "k"})
    changes = StateDiff((SetKey("a", 1), DeleteKey("b"), SetKey("c", None)))
    assert asked == [(held, 3, changes, True, "k")]
    client.post(f"/graph/fork/{held}", json={"at": 0, "functions": "pinned"})
    assert asked[1] == (held, 0, StateDiff(), False, None)


def test_a_fork_that_is_sent_again_is_the_same(client: TestClient, held: str) -> None:
    key = {"Idempotency-Key": "fork-1"}
    first = client.post(f"/graph/fork/{held}", json={"at": 0}, headers=key)
    again = client.post(f"/graph/fork/{held}", json={"at": 0, "state": {}}, headers=key)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post(f"/graph/fork/{held}", json={"at": 0, "state": {"n": 2}}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_a_fork_at_no_checkpoint(client: TestClient, held: str) -> None:
    answer = client.post(f"/graph/fork/{held}", json={"at": 1})
    assert answer.status_code == 404
    assert [(each["path"], each["code"]) for each in answer.json()["errors"]] == [("at", "checkpoint_not_found")]


def test_a_full_queue_takes_no_forks(client: TestClient, world: World, held: str) -> None:
    world.runs.error = FULL
    answer = client.post(f"/graph/fork/{held}", json={"at": 0})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


# Resumptions


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"functions": "pinned"}', b'{"functions": "latest"}'])
def test_a_failed_run_goes_on_as_a_new_one(client: TestClient, failed: str, body: bytes) -> None:
    answer = client.post(f"/graph/resume/{failed}", content=body)
    assert answer.status_code == 202
    assert answer.json()["forked_from"] == {"run_id": failed, "at": 1}
    assert answer.headers["location"] == f"/graph/status/{answer.json()['run_id']}"


def test_a_run_that_goes_on_is_not_resumed(client: TestClient, held: str) -> None:
    answer = client.post(f"/graph/resume/{held}")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_not_finished")


@pytest.mark.parametrize("what", ["fork", "resume"])
def test_idempotency_keys_are_checked(client: TestClient, failed: str, what: str) -> None:
    answer = client.post(f"/graph/{what}/{failed}", json={}, headers={"Idempotency-Key": "x" * 256})
    assert answer.status_code == 422


# Replays


def test_a_replay_tells_what_drifted(client: TestClient, failed: str) -> None:
    answer = client.post(f"/graph/replay/{failed}", json={"node": "work", "iteration": 2, "scope": "sub#1"})
    assert answer.status_code == 200
    told = answer.json()
    assert [told[name] for name in ("run_id", "node", "iteration", "scope", "attempt")] == [
        failed,
        "work",
        2,
        "sub#1",
        1,
    ]
    assert told["drift"] == ["status", "diff"]
    assert told["recorded"] == {
        "status": "succeeded",
        "diff": [{"op": "set", "key": "n", "value": 1}],
        "conditions": {"entered": True, "again": None, "after": [True]},
        "value": None,
        "error": None,
    }
    assert (told["replayed"]["status"], told["replayed"]["conditions"]) == ("error", None)
    assert told["replayed"]["error"]["message"] == "It broke."


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"node": "nowhere"}, "node", "node_run_not_found"),
        ({"node": "work", "attempt": 2}, "attempt", "attempt_not_found"),
    ],
)
def test_a_replay_of_what_was_not(
    client: TestClient, failed: str, body: dict[str, object], field: str, code: str
) -> None:
    answer = client.post(f"/graph/replay/{failed}", json=body)
    assert answer.status_code == 404
    assert [(each["path"], each["code"]) for each in answer.json()["errors"]] == [(field, code)]


# What was


def test_the_status_of_a_run_that_waits_says_where_it_stands(client: TestClient, held: str, world: World) -> None:
    told = client.get(f"/graph/status/{held}").json()
    assert (told["queue"], told["recoveries"]) == ({"position": 1, "waits_for": "max_active_runs"}, 0)
    world.runs.records[held] = replace(world.runs.records[held], status=RunStatus.RUNNING, recoveries=2)
    told = client.get(f"/graph/status/{held}").json()
    assert (told["queue"], told["recoveries"]) == (None, 2)


def test_the_status_shows_node_runs_in_pages(client: TestClient, held: str) -> None:
    whole = client.get(f"/graph/status/{held}").json()
    assert (len(whole["node_runs"]), whole["next_cursor"]) == (2, None)
    first = client.get(f"/graph/status/{held}?limit=1").json()
    assert first["node_runs"] == whole["node_runs"][:1]
    second = client.get(f"/graph/status/{held}?limit=1&cursor={first['next_cursor']}").json()
    assert (second["node_runs"], second["next_cursor"]) == (whole["node_runs"][1:], None)
    assert first["current_nodes"] == second["current_nodes"] == whole["current_nodes"] == ["work"]
    wrong = client.get(f"/graph/status/{held}?cursor=nonsense")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "cursor")


def test_everything_about_a_node_run_names_its_scope(client: TestClient, failed: str) -> None:
    status = client.get(f"/graph/status/{failed}").json()
    assert [each["scope"] for each in status["node_runs"]] == ["", "sub#1"]


def test_records_name_their_scope() -> None:
    node = JournalRecord(1, NOW, "event", "node", "work", 1, None, "running", "", {}, "sub#1")
    edge = JournalRecord(2, NOW, "event", "edge", None, None, None, "taken", "", {"scope": "sub#1"})
    run = JournalRecord(3, NOW, "event", "run", None, None, None, "running", "", {})
    assert [record_view(each)["scope"] for each in (node, edge, run)] == ["sub#1", "sub#1", ""]


def test_who_is_at_work_is_told_of_all_pages(
    client: TestClient, world: World, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = {1: NodeRunStatus.WAITING, 700: NodeRunStatus.RETRYING, 2_400: NodeRunStatus.RUNNING}
    many = [
        NodeRunRecord(f"n{seq}", 1, status.get(seq, NodeRunStatus.SUCCEEDED), "", None, (), NOW, NOW, first_seq=seq)
        for seq in range(1, 2_501)
    ]

    async def node_runs(_: object, run_id: str) -> list[NodeRunRecord]:
        assert run_id == held
        return many

    monkeypatch.setattr(FakeReader, "node_runs", node_runs)
    first = client.get(f"/graph/status/{held}").json()
    assert (len(first["node_runs"]), first["next_cursor"]) == (500, "500")
    last = client.get(f"/graph/status/{held}?cursor=2000").json()
    assert (len(last["node_runs"]), last["next_cursor"]) == (500, None)
    assert first["current_nodes"] == last["current_nodes"] == ["n1", "n700", "n2400"]
    world.runs.records[held] = replace(world.runs.records[held], status=RunStatus.COMPLETED, finished_at=NOW)
    assert client.get(f"/graph/status/{held}").json()["current_nodes"] == []


def test_attempts_tell_what_they_read(client: TestClient, held: str) -> None:
    first, second = client.get(f"/graph/status/{held}").json()["node_runs"][1]["attempts"]
    assert (first["reads"], second["reads"]) == ({"keys": ["input"], "cut": True}, None)


def test_the_state_names_who_wrote_each_key(client: TestClient, graph_id: str) -> None:
    run_id = client.post("/graph/run", json={"graph_id": graph_id, "initial_state": {"n": 1}}).json()["run_id"]
    initial = {"commit": 0, "node": None, "iteration": None, "scope": "", "attempt": None}
    assert client.get(f"/graph/state/{run_id}?at=0").json()["writers"] == {"n": initial}
    done = {"commit": 1, "node": "work", "iteration": 2, "scope": "sub#1", "attempt": 1}
    assert client.get(f"/graph/state/{run_id}").json()["writers"] == {"n": initial, "done": done}


def test_a_history_lists_commits_in_pages(client: TestClient, world: World, held: str) -> None:
    world.commits.extend(commits(*range(20)))
    whole = client.get(f"/graph/history/{held}").json()
    assert [each["number"] for each in whole["commits"]] == list(range(1, 21))
    assert whole["next_cursor"] is None
    assert whole["commits"][2] == {
        "number": 3,
        "parents": [2],
        "node": "work",
        "iteration": 3,
        "scope": "",
        "attempt": 1,
        "diff": [{"op": "set", "key": "k", "value": "xx"}],
        "merged": [],
        "created_at": "2026-11-23T12:00:00.123456Z",
    }
    seen, cursor = [], ""
    while True:
        page = client.get(f"/graph/history/{held}?limit=9{cursor}").json()
        assert len(page["commits"]) <= 9
        seen += page["commits"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == whole["commits"]


def test_a_page_of_large_commits_ends_early(
    client: TestClient, world: World, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_LONG_PAGE", 10_000)
    world.commits.extend(commits(*[1_000] * 40))
    page = client.get(f"/graph/history/{held}").json()
    assert [each["number"] for each in page["commits"]] == list(range(1, 17))
    rest = client.get(f"/graph/history/{held}?cursor={page['next_cursor']}").json()
    assert rest["commits"][0]["number"] == 17


def test_a_history_of_one_node(client: TestClient, world: World, held: str) -> None:
    world.commits.extend(commits(1, 2))
    assert len(client.get(f"/graph/history/{held}?node=work&scope=").json()["commits"]) == 2
    assert client.get(f"/graph/history/{held}?node=other").json() == {"commits": [], "next_cursor": None}
    assert client.get(f"/graph/history/{held}?scope=sub%231").json()["commits"] == []


def test_runs_that_were_given_up_can_be_listed(client: TestClient, failed: str, graph_id: str) -> None:
    assert [run["run_id"] for run in client.get("/graph/runs?failure=error").json()["runs"]] == [failed]
    assert client.get(f"/graph/runs?failure=too_many_recoveries&graph_id={graph_id}").json()["runs"] == []


@pytest.mark.parametrize("what", ["event", "pause", "unpause", "fork", "resume", "replay"])
def test_these_routes_take_post(client: TestClient, what: str) -> None:
    answer = client.get(f"/graph/{what}/run_1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
BODIES: dict[str, dict[str, Any]] = {
    "event": {"name": "n", "payload": JSON, "event_id": "e"},
    "fork": {"at": 0, "state": st.fixed_dictionaries({"n": JSON}), "delete": ["a", "b"], "functions": "latest"},
    "resume": {"functions": "pinned"},
    "replay": {"node": "work", "iteration": 1, "attempt": 1, "scope": "a#1"},
}
PARTS: dict[str, dict[str, Any]] = {
    "map": {"name": "n", "type": "map", "function": "double", "items": "i", "into": "o", "max_concurrency": 2},
    "wait": {"name": "n", "type": "wait", "event": "e", "timeout_s": 1, "into": "o"},
    "subgraph": {"name": "n", "type": "subgraph", "graph_id": "gr_1", "inputs": {"a": "b"}, "outputs": ["a"]},
    "graph": {"name": "g", "nodes": [{"name": "n"}], "state": {"k": {"reducer": "add"}}, "max_concurrent_runs": 1},
}


def bodies(right: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return documents of which any field may be anything, or missing, or one more."""
    fields = {
        name: (value if isinstance(value, st.SearchStrategy) else st.just(value)) | JSON
        for name, value in right.items()
    }
    return st.builds(
        lambda known, more: {**known, **more},
        st.fixed_dictionaries({}, optional=fields),
        st.dictionaries(st.text(max_size=3), JSON, max_size=1),
    )


quick = settings(
    max_examples=part_of(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("what", BODIES)
@quick
@given(data=st.data())
def test_whatever_is_asked_of_a_run_is_no_error_of_ours(client: TestClient, held: str, what: str, data: Any) -> None:  # noqa: ANN401
    body = data.draw(bodies(BODIES[what]) | JSON)
    answer = client.post(f"/graph/{what}/{held}", content=json.dumps(body))
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("what", PARTS)
@quick
@given(data=st.data())
def test_whatever_a_graph_says_is_no_error_of_ours(client: TestClient, graph_id: str, what: str, data: Any) -> None:  # noqa: ANN401
    assert graph_id
    part = data.draw(bodies(PARTS[what]))
    body = part if what == "graph" else {"name": "g", "start_node": "n", "nodes": [part]}
    answer = client.post("/graph/create", content=json.dumps(body))
    assert answer.status_code < 500, answer.text
    if answer.status_code < 300:
        assert client.get(f"/graph/{answer.json()['graph_id']}").status_code == 200
