"""What a run hears at the same time: each event is told and kept by itself, and all share a commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.unit.execution.test_dispatcher import begin, dispatching, wrote

from sandgraph.errors import Unavailable
from sandgraph.execution import actor
from sandgraph.execution.transport import Assignment, OnLines
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import AttemptStatus, Failure, NodeRunStatus, RunStatus, Usage
from sandgraph.sandbox.spec import Broken, Outcome
from sandgraph.store.steps import Taken
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


def graph(name: str, nodes: dict[str, int | None], *edges: tuple[str, str]) -> Graph:
    """Return a graph of nodes and how many inputs each waits for."""
    made = [Node(each, function="f", **({} if join is None else {"join": join})) for each, join in nodes.items()]  # type: ignore[arg-type]
    every = (Node("start", NodeType.START), *made, Node("end", NodeType.END))
    return Graph(name, every, tuple(Edge(*edge) for edge in edges))


def fan(width: int) -> Graph:
    names = [f"n{number}" for number in range(width)]
    edges = [edge for name in names for edge in (("start", name), (name, "end"))]
    return graph("fan", dict.fromkeys(names), *edges)


def watched(store: Store, monkeypatch: pytest.MonkeyPatch, *, fails: int = 0) -> list[int]:
    """Return how many steps each commit has, from now on; the first ``fails`` are stored, and said not to be."""
    seen: list[int] = []
    apply_all = store.apply_all

    async def counted(run_id: str, taken: Sequence[Taken], *, lease: int | None = None) -> int:
        seen.append(len(taken))
        last = await apply_all(run_id, taken, lease=lease)
        if len(seen) <= fails:
            raise Unavailable("nobody heard of it", code="store_unavailable")
        return last

    monkeypatch.setattr(store, "apply_all", counted)
    return seen


async def at_once(assignment: Assignment, _: OnLines) -> Outcome:
    return wrote(**{assignment.key.node: 1})


async def test_what_comes_at_the_same_time_shares_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatching(tmp_path, at_once) as (dispatcher, store, _):
        seen = watched(store, monkeypatch)
        record = await dispatcher.wait(await begin(dispatcher, store, fan(10)), 10)
        assert (record.status, record.last_commit, record.final_state) == (
            RunStatus.COMPLETED,
            10,
            {f"n{number}": 1 for number in range(10)},
        )
        assert seen == [1, 10]
        told = await store.run_events(record.run_id)
        assert [each.number for each in told] == list(range(1, 12))
        assert [each.commit for each in told] == [None, *range(1, 11)]
        journal = await store.journal(record.run_id)
        assert [each.seq for each in journal] == list(range(1, record.last_seq + 1))
        assert sum(each.type == "state" for each in journal) == 10


async def test_no_commit_has_more_steps_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "_STEPS_AT_ONCE", 4)
    async with dispatching(tmp_path, at_once) as (dispatcher, store, _):
        seen = watched(store, monkeypatch)
        record = await dispatcher.wait(await begin(dispatcher, store, fan(10)), 10)
        assert record.status is RunStatus.COMPLETED
        assert (sum(seen), max(seen)) == (11, 4)


async def test_a_commit_that_nobody_heard_of_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatching(tmp_path, at_once) as (dispatcher, store, _):
        seen = watched(store, monkeypatch, fails=3)
        record = await dispatcher.wait(await begin(dispatcher, store, fan(5)), 10)
        assert (record.status, record.last_commit) == (RunStatus.COMPLETED, 5)
        assert sum(seen) > 6
        assert len(await store.run_events(record.run_id)) == 6


async def test_an_attempt_may_be_started_and_stopped_by_one_commit(tmp_path: Path) -> None:
    """The end of ``a`` starts ``c``; that of ``b``, heard at the same time, makes the join that ``c`` goes to."""
    edges = [("start", "a"), ("start", "b"), ("a", "c"), ("b", "j"), ("c", "j"), ("j", "end")]
    async with dispatching(tmp_path, at_once) as (dispatcher, store, transport):
        made = graph("race", {"a": None, "b": None, "c": None, "j": 1}, *edges)
        record = await dispatcher.wait(await begin(dispatcher, store, made), 10)
        assert (record.status, record.final_state) == (RunStatus.COMPLETED, {"b": 1, "j": 1})
        assert transport.asked == ["a/1", "b/1", "j/1"]
        stopped = next(each for each in await store.node_runs(record.run_id) if each.node == "c")
        assert stopped.status is NodeRunStatus.CANCELLED
        assert [(each.status, each.usage) for each in stopped.attempts] == [(AttemptStatus.CANCELLED, None)]


async def test_what_comes_with_the_end_is_accounted_for_and_no_more(tmp_path: Path) -> None:
    async def fails(_: Assignment, __: OnLines) -> Outcome:
        return Broken(AttemptStatus.ERROR, Failure("error", "It broke."), Usage(wall_s=0.5))

    async with dispatching(tmp_path, fails) as (dispatcher, store, _):
        record = await dispatcher.wait(await begin(dispatcher, store, fan(3)), 10)
        assert record.status is RunStatus.FAILED
        found = [attempt for each in await store.node_runs(record.run_id) for attempt in each.attempts]
        assert [each.status for each in found] == [AttemptStatus.ERROR, *[AttemptStatus.CANCELLED] * 2]
        assert {each.usage for each in found} == {Usage(wall_s=0.5)}
        assert len(await store.run_events(record.run_id)) == 2
        assert (await store.journal(record.run_id))[-1].status == "failed"
