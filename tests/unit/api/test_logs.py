"""What a run printed, over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_world import NOW, World
from starlette.testclient import TestClient

from sandgraph.api.log_views import harmless, text_of
from sandgraph.api.schemas.logs import moment
from sandgraph.store.logs import gap
from sandgraph.store.records import JournalRecord

GRAPH = {
    "name": "g",
    "nodes": [{"name": "s", "type": "start"}, {"name": "e", "type": "end"}],
    "edges": [{"source": "s", "target": "e"}],
}


@pytest.fixture
def run_id(client: TestClient, world: World) -> str:
    graph_id = client.post("/graph/create", json=GRAPH).json()["graph_id"]
    run_id: str = client.post("/graph/run", json={"graph_id": graph_id}).json()["run_id"]
    journal = world.runs.journals[run_id]
    end = journal.pop()
    journal += [line(2 + i, f"line {i}", "stderr" if i % 3 == 0 else "stdout") for i in range(8)]
    journal.append(replace(end, seq=10))
    world.runs.records[run_id] = replace(world.runs.records[run_id], last_seq=10)
    return run_id


def line(seq: int, text: str, stream: str = "stdout", *, cut: bool = False) -> JournalRecord:
    data: dict[str, Any] = {"elapsed_s": 0.5, "cut": cut}
    return JournalRecord(seq, NOW, "log", stream, "work", 1, 1, "running", text, data)


def test_a_page_has_lines_with_their_levels_and_leads_on(client: TestClient, run_id: str) -> None:
    page = client.get(f"/graph/logs/{run_id}?limit=3").json()
    assert [each["message"] for each in page["records"]] == ["working", "line 0", "line 1"]
    assert [each["level"] for each in page["records"]] == ["info", "error", "info"]
    assert [each["kind"] for each in page["records"]] == ["log"] * 3
    assert (page["run_id"], page["next"], page["previous"], page["more"], page["final"]) == (
        run_id,
        3,
        None,
        True,
        False,
    )
    rest = client.get(f"/graph/logs/{run_id}?after={page['next']}").json()
    assert [each["seq"] for each in rest["records"]] == [4, 5, 6, 7, 8, 9]
    assert (rest["more"], rest["final"]) == (False, True)


def test_the_last_lines_and_what_comes_before_them(client: TestClient, run_id: str) -> None:
    page = client.get(f"/graph/logs/{run_id}?tail=2").json()
    assert [each["seq"] for each in page["records"]] == [8, 9]
    page = client.get(f"/graph/logs/{run_id}?before={page['previous']}&limit=2").json()
    assert [each["seq"] for each in page["records"]] == [6, 7]


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("stream=stderr", [2, 5, 8]),
        ("level=error", [2, 5, 8]),
        ("grep=line+3", [5]),
        ("grep=LINE+3", []),
        ("grep=LINE+3&ignore_case=true", [5]),
        ("node=work&scope=&iteration=1&attempt=1&stream=stderr&after=2", [5, 8]),
        ("node=rest", []),
    ],
)
def test_filters(client: TestClient, run_id: str, query: str, seqs: list[int]) -> None:
    page = client.get(f"/graph/logs/{run_id}?{query}").json()
    assert [each["seq"] for each in page["records"]] == seqs


def test_events_come_too_where_they_are_asked_for(client: TestClient, run_id: str) -> None:
    page = client.get(f"/graph/logs/{run_id}?events=true").json()
    assert [each["kind"] for each in page["records"]] == ["log"] * 9 + ["end"]


def test_text_is_a_line_each_with_cursors_in_headers(client: TestClient, run_id: str) -> None:
    answer = client.get(f"/graph/logs/{run_id}?format=text&limit=2")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.splitlines() == [
        "2026-11-23T12:00:00.123456Z work stdout: working",
        "2026-11-23T12:00:00.123456Z work stderr: line 0",
    ]
    assert (answer.headers["x-log-next"], answer.headers["x-log-more"]) == ("2", "true")


def test_a_download_is_all_of_it_whatever_the_size_of_a_page(client: TestClient, run_id: str) -> None:
    answer = client.get(f"/graph/logs/{run_id}?download=true&limit=2", headers={"Accept-Encoding": "identity"})
    assert answer.headers["content-disposition"] == f'attachment; filename="{run_id}.log"'
    assert "content-encoding" not in answer.headers
    assert len(answer.text.splitlines()) == 9
    packed = client.get(f"/graph/logs/{run_id}?download=true", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == answer.text
    listed = client.get(f"/graph/logs/{run_id}?download=true&format=json&stream=stderr")
    assert listed.headers["content-disposition"].endswith('.ndjson"')
    assert [json.loads(each)["seq"] for each in listed.text.splitlines()] == [2, 5, 8]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        (f"after={2**63}", "after"),
        ("before=0", "before"),
        ("tail=0", "tail"),
        ("tail=1001", "tail"),
        ("limit=1001", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-13-01T00:00:00Z", "since"),
        ("since=2026-11-23T12:00:00", "since"),
        ("since=999999999d", "since"),
        ("iteration=0", "iteration"),
        ("attempt=x", "attempt"),
        ("stream=stdin", "stream"),
        ("level=loud", "level"),
        ("grep=", "grep"),
        (f"grep={'x' * 257}", "grep"),
        ("format=xml", "format"),
        ("download=maybe", "download"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, run_id: str, query: str, path: str) -> None:
    answer = client.get(f"/graph/logs/{run_id}?{query}")
    assert answer.status_code == 422
    assert [each["path"] for each in answer.json()["errors"]] == [path]


def test_a_run_that_there_is_not_has_no_log(client: TestClient) -> None:
    for form in ("", "?format=text", "?download=true"):
        assert client.get(f"/graph/logs/nope{form}").json()["code"] == "run_not_found"


def test_times_and_durations() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert moment("90s", now) == now - timedelta(seconds=90)
    assert moment("2d", now) == now - timedelta(days=2)
    assert moment("2026-11-23T12:00:00.5Z", now) == now + timedelta(seconds=0.5)
    assert moment("2026-11-23 13:00:00+01:00", now) == now
    assert moment("2026-11-23T13:00:00 01:00", now) == now
    assert moment("2026-11-23t12:00:00.123456789z", now).microsecond == 123456


def test_text_gives_a_terminal_no_orders() -> None:
    hostile = "a\x1b[2J\x07\x9b31m\r\n\u202eb\tc\x7f\ud800é"
    assert harmless(hostile) == "a\\x1b[2J\\x07\\x9b31m\\x0d\\x0a\\u202eb\tc\\x7f\ud800é"
    said = text_of(JournalRecord(1, NOW, "log", "stdout", "a\x1b[0m", 2, 3, "running", "x\ny", {"cut": True}, "s\r#1"))
    assert said.endswith("Z s\\x0d#1/a\\x1b[0m#2 attempt 3 stdout: x\\x0ay [cut]")


def test_text_says_what_is_missing() -> None:
    assert text_of(gap(1, 1_300, 1_200)) == "--- 1200 lines removed by retention ---"
    assert text_of(gap(1, 1, 1)) == "--- 1 line removed by retention ---"
    assert text_of(gap(7, 1_300, 1_200)) == "--- lines removed by retention ---"
    cut = JournalRecord(9, NOW, "event", "attempt", "work", 1, 2, "output_limit", "Too much.", {})
    assert text_of(cut) == "--- the output of work attempt 2 ends here, at its limit ---"


def test_a_run_that_has_ended_is_deleted(client: TestClient, world: World, run_id: str) -> None:
    gone = client.delete(f"/graph/runs/{run_id}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.get(f"/graph/logs/{run_id}").json()["code"] == "run_not_found"
    assert client.delete(f"/graph/runs/{run_id}").json()["code"] == "run_not_found"
    world.runs.hold = True
    graph_id = client.get("/graph/list").json()["graphs"][0]["graph_id"]
    running = client.post("/graph/run_async", json={"graph_id": graph_id}).json()["run_id"]
    refused = client.delete(f"/graph/runs/{running}")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_not_finished")
