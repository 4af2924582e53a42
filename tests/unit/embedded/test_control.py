"""Engines over services made of dictionaries: what they ask for, and what they make of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from api_world import NOW, FakeCatalog, FakeReader, FakeRuns, World

from sandgraph import Conflict, InvalidInput, NodeType, NotFound, WorkflowEngine, WorkflowGraph, WorkflowState, tools
from sandgraph.embedded import engine as module
from sandgraph.model.run import RunStatus
from sandgraph.model.state import DeleteKey, SetKey, StateDiff
from sandgraph.settings import load_settings
from sandgraph.store.records import CommitRecord


@dataclass
class FakeHost:
    catalog: FakeCatalog
    runs: FakeRuns
    store: FakeReader


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World.make(load_settings())

    @asynccontextmanager
    async def open_host(*_: object) -> AsyncIterator[FakeHost]:
        yield FakeHost(made.catalog, made.runs, FakeReader(made.catalog, made.runs, made.commits, made.asked))

    monkeypatch.setattr(module, "open_host", open_host)
    monkeypatch.setattr(tools, "_own", {})
    return made


@pytest.fixture
def engine(world: World) -> Iterator[WorkflowEngine]:
    world.runs.hold = True
    with WorkflowEngine(sandbox="inprocess") as made:
        yield made


@pytest.fixture
def graph(engine: WorkflowEngine) -> WorkflowGraph:
    made = WorkflowGraph("g", start_node="a").add_node("a", lambda _: {"n": 1})
    engine.register_graph(made)
    return made


@pytest.fixture
def run_id(engine: WorkflowEngine, graph: WorkflowGraph) -> str:
    return asyncio.run(engine.start_run(graph.graph_id, {"n": 1, "old": True}))


def fail(world: World, engine: WorkflowEngine, graph: WorkflowGraph) -> str:
    world.runs.hold, world.runs.status = False, RunStatus.FAILED
    return asyncio.run(engine.start_run(graph.graph_id))


def test_an_event_is_sent_once(world: World, engine: WorkflowEngine, run_id: str) -> None:
    payload = {"by": ("Ada", {"n": 1})}
    told = asyncio.run(engine.send_event(run_id, "approved", payload, event_id="e"))
    assert told == {"run_id": run_id, "name": "approved", "event_id": "e", "status": "accepted"}
    again = asyncio.run(engine.send_event(run_id, "approved", payload, event_id="e"))
    assert again["status"] == "duplicate"
    assert world.runs.events == {(run_id, "e"): ("approved", {"by": ["Ada", {"n": 1}]})}
    assert asyncio.run(engine.send_event(run_id, "bare"))["event_id"]
    with pytest.raises(Conflict):
        asyncio.run(engine.send_event(run_id, "approved", event_id="e"))
    with pytest.raises(NotFound):
        asyncio.run(engine.send_event("run_none", "approved"))


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ({"name": ""}, "name", "too_short"),
        ({"name": 5}, "name", "wrong_type"),
        ({"name": "n", "event_id": ""}, "event_id", "too_short"),
        ({"name": "n", "payload": object()}, "payload", "not_json"),
        ({"name": "n", "payload": {"a": [{1: 2}]}}, "payload.a[0]", "not_json"),
        ({"name": "n", "payload": [2**63]}, "payload[0]", "integer_out_of_range"),
        ({"name": "n", "payload": "\ud800"}, "payload", "invalid_text"),
    ],
)
def test_a_wrong_event_is_told(
    engine: WorkflowEngine, run_id: str, arguments: dict[str, Any], path: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as wrong:
        asyncio.run(engine.send_event(run_id, **arguments))
    assert [(each.path, each.code) for each in wrong.value.problems] == [(path, code)]


def test_pausing_and_unpausing_tell_the_status(engine: WorkflowEngine, graph: WorkflowGraph, run_id: str) -> None:
    paused = asyncio.run(engine.pause(run_id))
    assert (paused["paused"], paused["graph_id"]) == (True, graph.graph_id)
    assert asyncio.run(engine.status(run_id)) == paused
    assert asyncio.run(engine.unpause(run_id))["paused"] is False


def test_status_is_paged(engine: WorkflowEngine, run_id: str) -> None:
    first = asyncio.run(engine.status(run_id, limit=1))
    assert [each["node"] for each in first["node_runs"]] == ["start"]
    second = asyncio.run(engine.status(run_id, cursor=first["next_cursor"], limit=1))
    assert ([each["node"] for each in second["node_runs"]], second["next_cursor"]) == (["work"], None)


@pytest.mark.parametrize("state", [{"n": 2, "more": (1,)}, WorkflowState({"n": 2, "more": [1]})])
def test_a_fork_is_a_new_run(engine: WorkflowEngine, run_id: str, state: dict[str, object] | WorkflowState) -> None:
    made = asyncio.run(engine.fork(run_id, 0, state=state, delete={"old"}, functions="latest"))
    assert made != run_id
    assert asyncio.run(engine.state(made))["data"] == {"n": 2, "more": [1]}
    assert asyncio.run(engine.status(made))["forked_from"] == {"run_id": run_id, "at": 0}
    plain = asyncio.run(engine.fork(run_id, 0))
    assert asyncio.run(engine.state(plain))["data"] == {"n": 1, "old": True}
    with pytest.raises(NotFound):
        asyncio.run(engine.fork(run_id, 1))


def test_what_a_fork_asks_for(
    world: World, engine: WorkflowEngine, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def fork(*arguments: object, **named: object) -> object:
        asked.append((arguments, named))
        return world.runs.records[run_id], True

    monkeypatch.setattr(world.runs, "fork", fork)
    asyncio.run(engine.fork(run_id, 3, state={"b": 1}, delete=iter(["a"]), functions="latest"))
    changes = StateDiff((DeleteKey("a"), SetKey("b", 1)))
    assert asked == [((run_id, 3, changes), {"latest": True, "idempotency_key": None})]


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ({"at": -1}, "at", "out_of_range"),
        ({"at": "1"}, "at", "wrong_type"),
        ({"at": 0, "state": [1]}, "state", "wrong_type"),
        ({"at": 0, "state": {"a": {1, 2}}}, "state.a", "not_json"),
        ({"at": 0, "delete": "ab"}, "delete", "wrong_type"),
        ({"at": 0, "delete": 5}, "delete", "wrong_type"),
        ({"at": 0, "state": {"a": 1}, "delete": ["a"]}, "delete[0]", "duplicate_name"),
        ({"at": 0, "functions": "newest"}, "functions", "unknown_value"),
    ],
)
def test_a_wrong_fork_is_told(
    engine: WorkflowEngine, run_id: str, arguments: dict[str, Any], path: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as wrong:
        asyncio.run(engine.fork(run_id, **arguments))
    assert [(each.path, each.code) for each in wrong.value.problems] == [(path, code)]


def test_a_failed_run_goes_on_as_a_new_one(world: World, engine: WorkflowEngine, graph: WorkflowGraph) -> None:
    failed = fail(world, engine, graph)
    made = asyncio.run(engine.resume(failed, functions="latest"))
    assert asyncio.run(engine.status(made))["forked_from"] == {"run_id": failed, "at": 1}
    with pytest.raises(InvalidInput):
        asyncio.run(engine.resume(failed, functions="newest"))
    with pytest.raises(NotFound):
        asyncio.run(engine.resume("run_none"))


def test_a_replay_tells_what_drifted(world: World, engine: WorkflowEngine, graph: WorkflowGraph) -> None:
    failed = fail(world, engine, graph)
    told = asyncio.run(engine.replay(failed, "work", iteration=2, scope="sub#1"))
    assert (told["drift"], told["iteration"], told["scope"]) == (["status", "diff"], 2, "sub#1")
    with pytest.raises(NotFound):
        asyncio.run(engine.replay(failed, "work", attempt=9))
    with pytest.raises(InvalidInput):
        asyncio.run(engine.replay(failed, "work", attempt=0))


def test_states_and_histories(world: World, engine: WorkflowEngine, run_id: str) -> None:
    state = asyncio.run(engine.state(run_id, at=0))
    assert (state["data"], state["commit"]) == ({"n": 1, "old": True}, 0)
    assert state["writers"]["n"]["commit"] == 0
    with pytest.raises(NotFound):
        asyncio.run(engine.state(run_id, at=5))
    diff = StateDiff((SetKey("n", 1),))
    world.commits.extend(CommitRecord(number, (number - 1,), diff, "a", 1, 1, NOW) for number in (1, 2, 3))
    page = asyncio.run(engine.history(run_id, limit=2))
    assert [each["number"] for each in page["commits"]] == [1, 2]
    rest = asyncio.run(engine.history(run_id, cursor=page["next_cursor"], node="a", scope=""))
    assert ([each["number"] for each in rest["commits"]], rest["next_cursor"]) == ([3], None)
    assert asyncio.run(engine.history(run_id, node="b"))["commits"] == []


def test_graphs_that_are_run_are_registered_first(world: World, engine: WorkflowEngine) -> None:
    leaf = WorkflowGraph("leaf", start_node="a").add_node("a", lambda _: {"leaf": 1})
    top = WorkflowGraph("top", start_node="a").add_node("a", lambda _: {"top": 1})
    top.add_node("b", node_type=NodeType.SUBGRAPH, graph=leaf).add_edge("a", "b")
    top.add_node("c", node_type=NodeType.SUBGRAPH, graph_id=leaf.graph_id).add_edge("b", "c")
    engine.register_graph(top)
    stored = list(world.catalog.graphs.values())
    assert [each.name for each in stored] == ["leaf", "top"]
    assert [node.graph_id for node in stored[1].graph.nodes] == [None, stored[0].graph_id, stored[0].graph_id]
    # What a node of the one is called is not what a node of the other is.
    assert stored[0].graph.nodes[0].function != stored[1].graph.nodes[0].function
    assert asyncio.run(engine.start_run(leaf.graph_id))


def test_what_is_wrong_with_a_graph_inside_is_told_from_outside(engine: WorkflowEngine) -> None:
    leaf = WorkflowGraph("leaf", start_node="nowhere").add_node("a")
    top = WorkflowGraph("top", start_node="a").add_node("a", node_type=NodeType.SUBGRAPH, graph=leaf)
    with pytest.raises(InvalidInput) as wrong:
        engine.register_graph(top)
    assert [(each.path, each.code) for each in wrong.value.problems] == [
        ("nodes[0].graph_id.start_node", "unknown_node")
    ]
