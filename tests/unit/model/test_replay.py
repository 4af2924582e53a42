"""Runs made again from their events, through the documents that are stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import get_args

import pytest
from effort import part_of
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.graphs import shape
from tests.unit.model.playbook import diff_of, key_of
from tests.unit.model.profile import examples
from tests.unit.model.programs import INITIAL, Program, programs
from tests.unit.model.simulation import Simulation

from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordCommit, ScheduleRetry
from sandgraph.model.event_document import from_document, to_document
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.retry import MAX_LOST, Retry
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, RunStatus
from sandgraph.model.state import Json, StateDiff

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY = key_of("a#2")


class Stored(Simulation):
    """A simulation that stores what it is told, as the platform does."""

    def tell(self, event: events.Event) -> bool:
        before = self.run.commits
        changed = super().tell(event)
        if changed:
            commit = self.run.commits if self.run.commits > before else None
            if not hasattr(self, "stored"):
                self.stored: list[tuple[str, int | None]] = []
            self.stored.append((json.dumps(to_document(event)), commit))
        return changed

    def replayed(self) -> Past:
        """Make the run again from what was stored."""
        told = []
        for document, commit in self.stored:
            diff = self.ledger.commits[commit].diff if commit else StateDiff()
            told.append(Told(from_document(json.loads(document), INITIAL, diff), NOW, commit))
        fresh = Past(scheduler.Run(self.program.graph, self.run.topology))
        # In parts or at once, it comes to the same.
        half = len(told) // 2
        return replay(replay(fresh, told[:half]), told[half:])

    def is_killed(self) -> None:
        """Forget the run, make it again, and lose what ran."""
        past = self.replayed()
        assert past.run == self.run
        assert past.number == len(self.stored)
        waiting = {key for key, active in self.run.active.items() if active.is_waiting}
        assert {key: past.waits[key][0] for key in waiting} == self.ledger.waiting
        self.run = past.run
        for lost in past.lost():
            self.tell(lost)


@examples(30)
@given(programs(), st.integers(0, 2**32))
def test_a_run_that_is_killed_comes_to_what_the_oracle_says(chosen: Program, seed: int) -> None:
    order = Random(seed)
    simulation = Stored(chosen)
    while not simulation.run.status.is_final:
        running = [key for key, active in simulation.run.active.items() if not active.is_waiting]
        if order.random() < 0.3 and all(simulation.may_be_lost(key) for key in running):
            simulation.is_killed()
        key = order.choice(sorted(simulation.run.active, key=str))
        if simulation.run.active[key].is_waiting:
            simulation.wait_no_more(key)
        elif simulation.may_fail(key) and order.random() < 0.2:
            simulation.fail(key)
        else:
            simulation.succeed(key)
    assert simulation.replayed().run == simulation.run
    simulation.agrees_with_oracle()


EVENTS: list[events.Event] = [
    events.RunStarted({"x": 1}),
    events.AttemptSucceeded(KEY, 3, diff_of({"x": 1}), after=(True, False)),
    events.AttemptSucceeded(KEY, 1, diff_of({}), entered=False, again=False),
    events.AttemptFailed(KEY, 1, AttemptStatus.OOM, Failure("oom", "Too much.")),
    events.AttemptFailed(KEY, 1, AttemptStatus.ERROR, Failure("error", "No\udc80.", "E", "…", "a", "x > 1")),
    events.AttemptSucceeded(NodeRunKey("b", 2, "sub#1"), 1, value=[1], is_amended=True),
    events.RetryDue(KEY, 2),
    events.EventReceived("approved", {"by": "me"}, "e1"),
    events.TimeElapsed(KEY),
    events.PauseRequested(),
    events.UnpauseRequested(),
    events.Reopened(),
    events.CancelRequested(),
    events.RunTimedOut(1.5),
]


@pytest.mark.parametrize("event", EVENTS)
def test_a_document_is_read_as_what_was_written(event: events.Event) -> None:
    diff = event.diff if isinstance(event, events.AttemptSucceeded) else StateDiff()
    assert from_document(json.loads(json.dumps(to_document(event))), {"x": 1}, diff) == event


def test_every_event_is_kept_with_every_field() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(events.Event))
    for event in EVENTS:
        # A key is kept as node and iteration; diffs and states are kept elsewhere.
        assert {each.name for each in fields(event)} - {"key", "diff", "state"} <= to_document(event).keys()


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"type": "unheard"},
        {"type": "succeeded", "node": "a"},
        {"type": "failed", "node": "a", "iteration": 1, "attempt": 1, "status": "no", "failure": {}},
        {"type": "failed", "node": "a", "iteration": 1, "attempt": 1, "status": "oom", "failure": {"what": ""}},
    ],
)
def test_a_document_that_is_none_is_refused(document: dict[str, Json]) -> None:
    with pytest.raises(ValueError, match=r"^no document of an event|there are no events|is not a valid"):
        from_document(document, {}, StateDiff())


def chain(**node: object) -> Past:
    nodes = (Node("s", NodeType.START), Node("a", function="f", **node), Node("end", NodeType.END))  # type: ignore[arg-type]
    graph = Graph("chain", nodes, (Edge("s", "a"), Edge("a", "end")))
    return Past(scheduler.Run(graph, shape(graph)))


def test_a_retry_is_waited_for_from_when_its_failure_was_stored() -> None:
    failed = events.AttemptFailed(key_of("a"), 1, AttemptStatus.ERROR, Failure("error", "No."))
    later = NOW + timedelta(seconds=5)
    told = [Told(events.RunStarted({}), NOW, None), Told(failed, later, None)]
    past = replay(chain(retry=Retry(max_attempts=2, initial_s=7)), told)
    assert past.began == NOW
    assert past.waits == {key_of("a"): (ScheduleRetry(key_of("a"), 2, 7, jitter=True), later)}
    assert past.lost() == []
    past = replay(past, [Told(events.RetryDue(key_of("a"), 2), later, None)])
    assert not past.waits
    assert [(lost.attempt, lost.status) for lost in past.lost()] == [(2, AttemptStatus.LOST)]


def test_what_is_lost_too_often_fails() -> None:
    past = replay(chain(), [Told(events.RunStarted({}), NOW, None)])
    for _ in range(MAX_LOST):
        past = replay(past, [Told(lost, NOW, None) for lost in past.lost()])
        past = replay(
            past,
            [
                Told(events.RetryDue(key, wait.attempt), NOW, None)
                for key, (wait, _) in past.waits.items()
                if not past.run.status.is_final
            ],
        )
    assert past.run.status is RunStatus.FAILED


@pytest.mark.parametrize("commit", [None, 2])
def test_a_history_that_goes_another_way_is_refused(commit: int | None) -> None:
    past = replay(chain(), [Told(events.RunStarted({}), NOW, None)])
    with pytest.raises(ValueError, match="event 2 leads to another end than it did"):
        replay(past, [Told(events.AttemptSucceeded(key_of("a"), 1), NOW, commit)])
    with pytest.raises(ValueError, match="event 2 leads"):
        replay(past, [Told(events.RetryDue(key_of("a"), 1), NOW, None)])


def test_ten_thousand_commits_are_told_again_in_no_time() -> None:
    nodes = (
        Node("s", NodeType.START),
        Node("a", NodeType.LOOP, "f", max_iterations=10_000),
        Node("end", NodeType.END),
    )
    graph = Graph("long", nodes, (Edge("s", "a"), Edge("a", "end")), max_steps=10_000)
    told = [Told(events.RunStarted({}), NOW, None)]
    told += [Told(events.AttemptSucceeded(key_of(f"a#{n}"), 1, diff_of({"n": n})), NOW, n) for n in range(1, 10_001)]
    began = time.process_time()
    past = replay(Past(scheduler.Run(graph, shape(graph))), told)
    assert past.run.status is RunStatus.COMPLETED
    assert time.process_time() - began < 2


def test_a_commit_is_what_an_event_made() -> None:
    run = replay(chain(), [Told(events.RunStarted({}), NOW, None)]).run
    _, commands = scheduler.step(run, events.AttemptSucceeded(key_of("a"), 1, diff_of({"x": 1}, ["idle"])))
    (commit,) = [command for command in commands if isinstance(command, RecordCommit)]
    # What is stored is the commit's, and leads to the same run.
    again = events.AttemptSucceeded(key_of("a"), 1, commit.diff)
    assert scheduler.step(run, again)[1] == commands


SCRIPT = """
import hashlib
import sys
from random import Random
from tests.unit.model.programs import program
from tests.unit.model.simulation import Simulation
from sandgraph.model import scheduler

said, step = hashlib.sha256(), scheduler.step

def heard(run, event):
    run, commands = step(run, event)
    said.update(repr(commands).encode())
    return run, commands

scheduler.step = heard
for seed in range(int(sys.argv[1])):
    simulation = Simulation(program(Random(seed).choice))
    simulation.finish(Random(seed), flaky=True)
print(said.hexdigest())
"""


def test_another_process_decides_alike() -> None:
    """No decision may hang on the order of a set, which each process chooses for itself."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join(map(str, (root, root / "platform", root / "runner_image")))
    others = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(part_of(150))],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2", "3")
    ]
    said = {other.communicate()[0] for other in others}
    assert [other.returncode for other in others] == [0, 0, 0]
    assert len(said) == 1
