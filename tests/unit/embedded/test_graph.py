"""Graphs say at once what is wrong with a node or an edge by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandgraph import InvalidInput, NodeType, WorkflowGraph, WorkflowState
from sandgraph.api.schemas.graph import parse_graph
from sandgraph.embedded.graph import wish
from sandgraph.model.graph import ON_SUCCESS, Condition, OnError, OnMax, Outcome
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.reducers import Reducer
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus
from sandgraph.settings import Settings


def process(state: WorkflowState) -> None: ...


def problem(make: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as wrong:
        make()
    return wrong.value.problems[0].path, wrong.value.problems[0].code


def test_its_id_is_its_own_from_the_start() -> None:
    one, two = WorkflowGraph("same"), WorkflowGraph("same")
    assert one.graph_id == one.graph_id != two.graph_id
    assert one.name == "same"


def test_it_becomes_the_document_that_http_takes() -> None:
    graph = (
        WorkflowGraph(
            "g", start_node="a", max_steps=9, timeout_s=4.5, isolation="run", runtime="runsc", on_error="finish"
        )
        .add_node("a", process, limits={"cpus": 0.5}, retry={"max_attempts": 2, "on": ["oom"]})
        .add_node("b", function="known", limits=Limits(pids=9), retry=Retry(max_attempts=3))
        .add_node("join", join="any")
        .add_node("c", process, "loop", condition="state.x", max_iterations=3, on_max="fail")
        .add_node("d", process, NodeType.LOOP, condition=lambda s: s["x"], max_iterations=1)
        .add_edge("a", "b", {"function": "asked"})
        .add_edge("a", "c", process)
        .add_edge("c", "d", default=True)
        .add_edge("c", "b", on={"failed", "timed_out"})
    )
    names: list[tuple[str, str]] = []

    def name_of(path: str, wished: str, _function: object) -> str:
        names.append((path, wished))
        return wished

    parsed = parse_graph(graph.document(name_of), Settings.model_construct())
    assert names == [
        ("nodes[0].function", "process"),
        ("nodes[3].function", "process"),
        ("nodes[4].function", "process"),
        ("nodes[4].condition.function", "d_condition"),
        ("edges[1].condition.function", "process"),
    ]
    a, b, join, c, d = parsed.nodes
    assert (parsed.name, parsed.start_node, parsed.max_steps, parsed.timeout_s) == ("g", "a", 9, 4.5)
    assert (parsed.isolation, parsed.runtime, parsed.on_error) == (Isolation.RUN, "runsc", OnError.FINISH)
    assert (a.limits, a.retry) == (Limits(cpus=0.5), Retry(max_attempts=2, on=frozenset({AttemptStatus.OOM})))
    assert (b.function, b.limits, b.retry) == ("known", Limits(pids=9), Retry(max_attempts=3))
    assert (b.join, join.join) == (None, 1)
    assert (c.condition, c.on_max) == (Condition(expression="state.x"), OnMax.FAIL)
    assert d.condition == Condition(function="d_condition")
    assert [edge.condition and edge.condition.function for edge in parsed.edges] == ["asked", "process", None, None]
    assert [edge.on for edge in parsed.edges[2:]] == [ON_SUCCESS, {Outcome.FAILED, Outcome.TIMED_OUT}]


def test_maps_waits_and_subgraphs_become_the_document_that_http_takes() -> None:
    inner, outer = (
        WorkflowGraph("inner"),
        WorkflowGraph("outer", state={"a": "append", "b": {"reducer": "merge"}}, max_concurrent_runs=3),
    )
    outer.add_node("map", process, NodeType.MAP, items="xs", into="ys", max_concurrency=2, timeout_s=9)
    outer.add_node("wait", node_type=NodeType.WAIT, event="go", timeout_s=1.5, into="went")
    outer.add_node("timer", node_type="wait", timeout_s=1)
    outer.add_node("sub", node_type=NodeType.SUBGRAPH, graph=inner, inputs={"x": "y"}, outputs={"k": 1}.keys())
    outer.add_node("known", node_type="subgraph", graph_id="graph_1", inputs=(), outputs=iter("ab"))
    parsed = parse_graph(outer.document(lambda _path, wished, _function: wished), Settings.model_construct())
    assert parsed.reducers == (("a", Reducer.APPEND), ("b", Reducer.MERGE))
    assert parsed.max_concurrent_runs == 3
    each, wait, timer, sub, known = parsed.nodes
    assert (each.type, each.function, each.items, each.into) == (NodeType.MAP, "process", "xs", "ys")
    assert (each.max_concurrency, each.timeout_s) == (2, 9)
    assert (wait.type, wait.event, wait.timeout_s, wait.into) == (NodeType.WAIT, "go", 1.5, "went")
    assert (timer.event, timer.timeout_s, timer.max_concurrency) == (None, 1, 8)
    assert (sub.graph_id, sub.inputs, sub.outputs) == (inner.graph_id, (("x", "y"),), (("k", "k"),))
    assert (known.graph_id, known.inputs, known.outputs) == ("graph_1", (), (("a", "a"), ("b", "b")))
    assert list(outer.subgraphs()) == [("nodes[3].graph_id", inner)]


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ({"name": ""}, "nodes[1].name", "too_short"),
        ({"name": 5}, "nodes[1].name", "wrong_type"),
        ({"name": "first"}, "nodes[1].name", "duplicate_node"),
        ({"func": "process"}, "nodes[1].function", "wrong_type"),
        ({"func": process, "function": "other"}, "nodes[1].function", "two_functions"),
        ({"node_type": "nope"}, "nodes[1].type", "unknown_node_type"),
        ({"func": process, "node_type": NodeType.START}, "nodes[1].function", "function_not_allowed"),
        ({"func": process, "node_type": NodeType.LOOP}, "nodes[1].max_iterations", "unbounded_loop"),
        ({"node_type": NodeType.LOOP, "max_iterations": 3}, "nodes[1].function", "function_required"),
        ({"func": process, "max_iterations": 3}, "nodes[1].max_iterations", "max_iterations_not_allowed"),
        ({"func": process, "condition": "True"}, "nodes[1].condition", "condition_not_allowed"),
        ({"func": process, "condition": 5}, "nodes[1].condition", "wrong_type"),
        ({"join": "first"}, "nodes[1].join", "unknown_value"),
        ({"join": 0}, "nodes[1].join", "out_of_range"),
        ({"func": process, "on_max": "stop"}, "nodes[1].on_max", "unknown_value"),
        ({"func": process, "limits": {"memory": 5}}, "nodes[1].limits.memory", "unknown_field"),
        ({"func": process, "limits": {"memory_mb": 1}}, "nodes[1].limits.memory_mb", "limit_below_floor"),
        ({"func": process, "retry": {"max_attempts": 0}}, "nodes[1].retry.max_attempts", "out_of_range"),
        ({"func": process, "node_type": "map", "items": ""}, "nodes[1].items", "too_short"),
        ({"func": process, "node_type": "map", "into": 5}, "nodes[1].into", "wrong_type"),
        ({"func": process, "node_type": "map", "max_concurrency": 0}, "nodes[1].max_concurrency", "out_of_range"),
        ({"node_type": NodeType.WAIT, "event": ""}, "nodes[1].event", "too_short"),
        ({"node_type": NodeType.WAIT, "timeout_s": 0}, "nodes[1].timeout_s", "out_of_range"),
        ({"node_type": NodeType.SUBGRAPH, "graph_id": 5}, "nodes[1].graph_id", "wrong_type"),
        ({"node_type": NodeType.SUBGRAPH, "graph": "g"}, "nodes[1].graph_id", "wrong_type"),
        (
            {"node_type": NodeType.SUBGRAPH, "graph": WorkflowGraph("g"), "graph_id": "g"},
            "nodes[1].graph_id",
            "two_graphs",
        ),
        ({"node_type": NodeType.SUBGRAPH, "graph_id": "g", "inputs": "ab"}, "nodes[1].inputs", "wrong_type"),
        ({"node_type": NodeType.SUBGRAPH, "graph_id": "g", "inputs": 5}, "nodes[1].inputs", "wrong_type"),
        ({"node_type": NodeType.SUBGRAPH, "graph_id": "g", "outputs": {"a": 5}}, "nodes[1].outputs.a", "wrong_type"),
        (
            {"node_type": NodeType.SUBGRAPH, "graph_id": "g", "outputs": ["a", "a"]},
            "nodes[1].outputs",
            "duplicate_name",
        ),
    ],
)
def test_a_wrong_node_is_told_at_once(arguments: dict[str, Any], path: str, code: str) -> None:
    graph = WorkflowGraph("g").add_node("first")
    assert problem(lambda: graph.add_node(**{"name": "second", **arguments})) == (path, code)
    graph.add_node("second", process)


def test_a_wrong_edge_is_told_at_once() -> None:
    graph = WorkflowGraph("g").add_edge("a", "b")
    assert problem(lambda: graph.add_edge("a", 5)) == ("edges[1].target", "wrong_type")  # type: ignore[arg-type]
    both = problem(lambda: graph.add_edge("a", "c", "True", default=True))
    assert both == ("edges[1].default", "default_with_condition")
    assert problem(lambda: graph.add_edge("a", "c", {"functoin": "x"})) == (
        "edges[1].condition.function",
        "missing_field",
    )
    assert problem(lambda: graph.add_edge("a", "c", "True", on=["failed"])) == ("edges[1].on", "on_with_condition")
    assert problem(lambda: graph.add_edge("a", "c", on=["broken"])) == ("edges[1].on[0]", "unknown_value")
    assert problem(lambda: graph.add_edge("a", "c", on="failed")) == ("edges[1].on", "wrong_type")
    assert problem(lambda: graph.add_edge("a", "c", on=5)) == ("edges[1].on", "wrong_type")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ({"name": ""}, "name", "too_short"),
        ({"name": None}, "name", "wrong_type"),
        ({"name": "g", "max_steps": 0}, "max_steps", "out_of_range"),
        ({"name": "g", "timeout_s": -1}, "timeout_s", "out_of_range"),
        ({"name": "g", "isolation": "graph"}, "isolation", "unknown_value"),
        ({"name": "g", "on_error": "ignore"}, "on_error", "unknown_value"),
        ({"name": "g", "runtime": 5}, "runtime", "wrong_type"),
        ({"name": "g", "state": ["n"]}, "state", "wrong_type"),
        ({"name": "g", "state": {"n": "average"}}, "state.n.reducer", "unknown_value"),
        ({"name": "g", "state": {"n": {"reduce": "add"}}}, "state.n.reducer", "missing_field"),
        ({"name": "g", "state": {"n": 5}}, "state.n", "wrong_type"),
        ({"name": "g", "state": {5: "add"}}, "state.5", "wrong_type"),
        ({"name": "g", "max_concurrent_runs": 0}, "max_concurrent_runs", "out_of_range"),
    ],
)
def test_a_wrong_graph_is_told_at_once(arguments: dict[str, Any], path: str, code: str) -> None:
    assert problem(lambda: WorkflowGraph(**arguments)) == (path, code)


def test_ceilings_are_the_engines_to_know() -> None:
    WorkflowGraph("g", max_steps=10**9, timeout_s=10**9).add_node("a", process, limits={"memory_mb": 10**6})


@pytest.mark.parametrize(
    ("words", "name"),
    [("two words", "two_words"), ("3rd", "_3rd"), ("class", "_class"), ("größe", "gr_e"), ("!", "function")],
)
def test_lambdas_get_names_from_where_they_are(words: str, name: str) -> None:
    assert wish(lambda _: None, words) == name
    assert wish(process, words) == "process"
