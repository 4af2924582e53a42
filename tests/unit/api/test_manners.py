"""Lists, notes and entity tags, as clients meet them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from api_world import World
from starlette.testclient import TestClient

from sandgraph.model.run import RunStatus
from sandgraph.store.filters import RunFilter, RunSort

DOUBLE = {"name": "double", "code": "def double(state):\n    return {}\n"}
GRAPH = {
    "name": "g",
    "nodes": [{"name": "s", "type": "start"}, {"name": "work", "function": "double"}],
    "edges": [{"source": "s", "target": "work"}],
}


@pytest.fixture
def graph_id(client: TestClient) -> str:
    client.post("/nodes/register", json=DOUBLE)
    return str(client.post("/graph/create", json=GRAPH).json()["graph_id"])


def run(client: TestClient, graph_id: str, **more: object) -> str:
    answer = client.post("/graph/run", json={"graph_id": graph_id, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run_id"])


def test_every_filter_reaches_the_store(client: TestClient, world: World) -> None:
    query = (
        "status=failed&status=running&graph_id=g1&graph_name=n&tag=a&tag=b:1&failure=oom&paused=true&forked_from=r"
        "&created_after=2026-11-23T12:00:00Z&created_before=2026-11-23T14:00:00%2B01:00"
        "&finished_after=2026-11-23T12:00:00.5Z&finished_before=2026-11-24T00:00:00Z&sort=-finished_at"
    )
    assert client.get(f"/graph/runs?{query}").json() == {"runs": [], "next_cursor": None}
    [(where, sort)] = world.asked
    assert sort is RunSort.ENDED_LAST
    assert where == RunFilter(
        frozenset({RunStatus.FAILED, RunStatus.RUNNING}),
        "g1",
        "n",
        ("a", "b:1"),
        "oom",
        True,  # noqa: FBT003 - in the order of its fields
        "r",
        datetime(2026, 11, 23, 12, tzinfo=UTC),
        datetime(2026, 11, 23, 13, tzinfo=UTC),
        datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC),
        datetime(2026, 11, 24, tzinfo=UTC),
    )


def test_what_is_noted_is_shown_wherever_the_run_is(client: TestClient, graph_id: str) -> None:
    notes = {"tags": ["team:a", "nightly"], "metadata": {"ticket": "OPS-17"}}
    shown = {"tags": ["nightly", "team:a"], "metadata": {"ticket": "OPS-17"}}
    begun = client.post("/graph/run_async", json={"graph_id": graph_id, **notes}).json()
    run_id = begun["run_id"]
    forked = client.post(f"/graph/fork/{run_id}", json={"at": 0}).json()
    other = client.post(f"/graph/fork/{run_id}", json={"at": 0, "tags": [], "metadata": {"why": "not"}}).json()
    status = client.get(f"/graph/status/{run_id}").json()
    [listed] = [each for each in client.get("/graph/runs?tag=team:a").json()["runs"] if each["run_id"] == run_id]
    noted = client.get(f"/graph/runs/{run_id}").json()
    for answer in (begun, forked, status, listed, noted):
        assert {name: answer[name] for name in notes} == shown
    assert (other["tags"], other["metadata"]) == ([], {"why": "not"})


WRONG: dict[str, tuple[dict[str, object], str, str]] = {
    "too many tags": ({"tags": [str(n) for n in range(21)]}, "tags", "too_long"),
    "a tag with a space": ({"tags": ["a b"]}, "tags[0]", "invalid_name"),
    "an empty tag": ({"tags": [""]}, "tags[0]", "invalid_name"),
    "a tag twice": ({"tags": ["a", "a"]}, "tags", "duplicate_name"),
    "a long tag": ({"tags": ["a" * 65]}, "tags[0]", "invalid_name"),
    "too much metadata": ({"metadata": {str(n): "" for n in range(33)}}, "metadata", "too_many_fields"),
    "a key with a space": ({"metadata": {"a b": ""}}, "metadata.a b", "invalid_name"),
    "a number": ({"metadata": {"a": 1}}, "metadata.a", "wrong_type"),
    "a long text": ({"metadata": {"a": "x" * 513}}, "metadata.a", "too_long"),
    "no object": ({"metadata": []}, "metadata", "wrong_type"),
}


@pytest.mark.parametrize("name", WRONG)
def test_notes_are_bounded(client: TestClient, graph_id: str, name: str) -> None:
    body, path, code = WRONG[name]
    asked = [
        client.post("/graph/run", json={"graph_id": graph_id, **body}),
        client.post("/graph/fork/run_1", json={"at": 0, **body}),
        client.post("/graph/resume/run_1", json=body),
        client.patch("/graph/runs/run_1", json=body, headers={"If-Match": "*"}),
    ]
    for answer in asked:
        first = answer.json()["errors"][0]
        assert (answer.status_code, first["path"]) == (422, path)
        assert first["code"] in {code, "too_long"}


def test_a_change_names_what_it_changes(client: TestClient, graph_id: str) -> None:
    path = f"/graph/runs/{run(client, graph_id, tags=['a'])}"
    first = client.get(path)
    tag = first.headers["etag"]
    changed = client.patch(path, json={"metadata": {"x": "1"}}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["tags"], changed.json()["metadata"]) == (200, ["a"], {"x": "1"})
    assert changed.headers["etag"] != tag
    late = client.patch(path, json={"tags": []}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    silent = client.patch(path, json={"tags": []})
    assert (silent.status_code, silent.json()["code"]) == (428, "precondition_required")
    for none_of_ours in (f"W/{changed.headers['etag']}", '"x"', "nonsense", '"99999999999999999999"'):
        assert client.patch(path, json={"tags": []}, headers={"If-Match": none_of_ours}).status_code == 412
    assert client.get(path).json()["tags"] == ["a"]
    several = client.patch(path, json={"tags": []}, headers={"If-Match": f'"77", {changed.headers["etag"]}'})
    assert (several.status_code, several.json()["tags"]) == (200, [])
    anyway = client.patch(path, json={"tags": ["b"]}, headers={"If-Match": "*"})
    assert (anyway.status_code, client.get(path).headers["etag"]) == (200, anyway.headers["etag"])


def test_who_has_an_answer_already_gets_no_other(client: TestClient, graph_id: str) -> None:
    run_id = run(client, graph_id)
    for path in (f"/graph/status/{run_id}", f"/graph/{graph_id}", f"/graph/runs/{run_id}"):
        tag = client.get(path).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert "content-type" not in again.headers
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    before = client.get(f"/graph/status/{run_id}").headers["etag"]
    client.patch(f"/graph/runs/{run_id}", json={"tags": ["new"]}, headers={"If-Match": "*"})
    assert client.get(f"/graph/status/{run_id}", headers={"If-None-Match": before}).status_code == 200


def test_registered_code_is_read_with_all_its_versions(client: TestClient) -> None:
    codes = [f"def double(state):\n    return {{}}  # {number}\n" for number in range(6)]
    for code in codes:
        for kind in ("nodes", "tools"):
            client.post(f"/{kind}/register", json={"name": "double", "code": code})
    for kind in ("nodes", "tools"):
        first = client.get(f"/{kind}/double?limit=4").json()
        rest = client.get(f"/{kind}/double?cursor={first['next_cursor']}").json()
        assert [each["code"] for each in first["versions"] + rest["versions"]] == codes[::-1]
        assert (first["name"], rest["next_cursor"]) == ("double", None)
        [one] = client.get(f"/{kind}/double?version=2").json()["versions"]
        assert (one["version"], one["code"]) == (2, codes[1])
        for path in (f"/{kind}/double?version=7", f"/{kind}/other", f"/{kind}/%00"):
            assert client.get(path).json()["code"] == f"{'function' if kind == 'nodes' else 'tool'}_not_found"
        assert client.get(f"/{kind}/register").status_code == 405


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/graph/runs/run_1", "DELETE, GET, PATCH"),
        ("/webhooks", "GET, POST"),
        ("/nodes/list", "GET"),
        ("/graph/run", "POST"),
        ("/graph/create", "POST"),
        ("/docs", "GET"),
    ],
)
def test_a_method_that_is_not_there_is_told_of_all_that_are(client: TestClient, path: str, allowed: str) -> None:
    answer = client.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert {*answer.headers["allow"].split(", ")} >= {*allowed.split(", ")}
    if path != "/docs":
        assert answer.headers["allow"] == allowed
