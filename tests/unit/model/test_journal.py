"""What a run's journal says."""

from __future__ import annotations

from tests.unit.model.graphs import graph_of, tried
from tests.unit.model.playbook import Playbook, play

from sandgraph.model.commands import RecordRun
from sandgraph.model.journal import Entry, entries
from sandgraph.model.run import RunStatus


def lines(run: Playbook) -> list[str]:
    return [f"{entry.type} {entry.status}: {entry.message}" for entry in entries(run.commands)]


def written(run: Playbook, kind: str) -> list[Entry]:
    return [entry for entry in entries(run.commands) if entry.type == kind]


def test_a_step_in_words() -> None:
    run = play(graph_of("start>a a>b? a>end!"))
    assert lines(run) == [
        "run running: The run is running.",
        "node running: start running",
        "node succeeded: start succeeded",
        "edge taken: start → a taken",
        "node running: a running",
        "attempt running: Attempt 1 of a started.",
    ]
    run.expects("a").succeeds("a", {"n": 1}, after=(False,))
    assert lines(run) == [
        "attempt succeeded: Attempt 1 of a: succeeded",
        "state committed: a changed: n",
        "node succeeded: a succeeded",
        "edge skipped: a → b skipped",
        "edge taken: a → end taken",
        "node skipped: b skipped",
        "node running: end running",
        "node succeeded: end succeeded",
        "run completed: The run is completed.",
    ]


def test_a_commit_carries_its_diff() -> None:
    run = play(graph_of("start>a a>end"), m=0).expects("a").succeeds("a", {"n": 1}, deletes=["m"])
    (entry,) = written(run, "state")
    assert entry.data == {
        "commit": 1,
        "parents": [0],
        "diff": [{"op": "delete", "key": "m"}, {"op": "set", "key": "n", "value": 1}],
    }
    assert (str(entry.key), entry.attempt, entry.message) == ("a", 1, "a changed: m, n")


def test_a_long_list_of_keys_is_cut() -> None:
    changes = {f"k{n:02}": n for n in range(11)}
    (entry,) = written(play(graph_of("start>a a>end")).expects("a").succeeds("a", changes), "state")
    assert entry.message.endswith("k08, k09, …")
    (entry,) = written(play(graph_of("start>a a>end")).expects("a").succeeds("a"), "state")
    assert entry.message == "a changed: nothing"


def test_a_failure_is_told_with_what_is_known_of_it() -> None:
    run = play(graph_of("start>a a>end")).expects("a").fails("a")
    assert lines(run) == [
        "attempt error: Attempt 1 of a: It broke.",
        "node failed: a failed: It broke.",
        "run failed: The run failed: It broke.",
    ]
    error = {"error": {"code": "error", "message": "It broke.", "node": "a"}}
    assert [entry.data for entry in entries(run.commands)] == [error, error, error]


def test_a_retry_is_announced() -> None:
    run = play(graph_of("start>a a>end", tried("a", 2, initial_s=1.5))).expects("a").fails("a")
    assert lines(run)[1:] == [
        "node retrying: a retrying: It broke.",
        "attempt scheduled: Attempt 2 of a follows in at most 1.5 s.",
    ]


def test_a_cancel_is_told_of_everything_it_stops() -> None:
    assert lines(play(graph_of("start>a a>end")).expects("a").cancelled()) == [
        "attempt cancelled: Attempt 1 of a: cancelled",
        "node cancelled: a cancelled",
        "run cancelled: The run was cancelled.",
    ]


def test_a_run_that_waits_for_its_turn() -> None:
    assert [entry.message for entry in entries([RecordRun(RunStatus.PENDING)])] == ["The run is pending."]
