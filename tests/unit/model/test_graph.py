"""What is wrong with graphs piece by piece: each code, each path."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.unit.model.graphs import graph_of, loop, plain

from sandgraph.model.graph import (
    MAX_ATTEMPTS,
    MAX_CONCURRENCY,
    Condition,
    Edge,
    Graph,
    Node,
    NodeType,
    Outcome,
)
from sandgraph.model.limits import FLOOR, Limits
from sandgraph.model.retry import RETRYABLE, Retry
from sandgraph.model.run import AttemptStatus
from sandgraph.model.validity import problems

CHAIN = graph_of("start>a a>end")
START, A, END = CHAIN.nodes
CEILING = Limits(2, 1024, 600, 256, 256, 16_384)


def with_node(**changes: object) -> Graph:
    return replace(CHAIN, nodes=(START, replace(A, **changes), END))  # type: ignore[arg-type]


def with_edges(*edges: Edge) -> Graph:
    return replace(CHAIN, edges=(*CHAIN.edges, *edges))


def with_retry(**changes: object) -> Graph:
    return with_node(retry=Retry(**changes))  # type: ignore[arg-type]


LOOP = Node("a", NodeType.LOOP, function="a", max_iterations=1)
GO = Condition("go")

MAP = Node("a", NodeType.MAP, function="a", items="items", into="results")
WAIT = Node("a", NodeType.WAIT, event="go")
SUB = Node("a", NodeType.SUBGRAPH, graph_id="g")
SPECIAL = {
    "function": "f",
    "condition": GO,
    "max_iterations": 3,
    "items": "items",
    "into": "into",
    "max_concurrency": 2,
    "event": "go",
    "timeout_s": 5.0,
    "graph_id": "g",
    "inputs": (("a", "b"),),
    "outputs": (),
}
#: By type: a node with what it needs, and what it may have beside that.
TYPES = [
    (START, set[str]()),
    (END, set[str]()),
    (A, {"function"}),
    (LOOP, {"function", "condition", "max_iterations"}),
    (MAP, {"function", "items", "into", "max_concurrency", "timeout_s"}),
    (WAIT, {"event", "into", "timeout_s"}),
    (SUB, {"graph_id", "inputs", "outputs", "timeout_s"}),
]


def around(node: Node) -> Graph:
    """A graph with this node in it."""
    if node.type is NodeType.START:
        return Graph("g", (node,))
    edges = (Edge(START.name, node.name),)
    return Graph("g", (START, node), edges)


@pytest.mark.parametrize("field", SPECIAL)
@pytest.mark.parametrize(("node", "allowed"), TYPES, ids=lambda each: getattr(each, "type", ""))
def test_each_type_has_fields_of_its_own(node: Node, allowed: set[str], field: str) -> None:
    assert problems(around(node), CEILING) == []
    found = problems(around(replace(node, **{field: SPECIAL[field]})), CEILING)  # type: ignore[arg-type]
    if field in allowed:
        assert found == []
        return
    (problem,) = found
    index = 0 if node.type is NodeType.START else 1
    assert (problem.path, problem.code) == (f"nodes[{index}].{field}", f"{field}_not_allowed")
    assert problem.message


@pytest.mark.parametrize(
    ("node", "field", "code"),
    [
        (LOOP, "function", "function_required"),
        (LOOP, "max_iterations", "unbounded_loop"),
        (MAP, "function", "function_required"),
        (MAP, "items", "items_required"),
        (MAP, "into", "into_required"),
        (WAIT, "event", "event_required"),
        (SUB, "graph_id", "graph_id_required"),
    ],
)
def test_each_type_needs_fields(node: Node, field: str, code: str) -> None:
    (problem,) = problems(around(replace(node, **{field: None})), CEILING)  # type: ignore[arg-type]
    assert (problem.path, problem.code) == (f"nodes[1].{field}", code)


def test_every_type_is_in_the_tables() -> None:
    assert {node.type for node, _ in TYPES} == set(NodeType)
    plain_node = Node("a")
    fields = set(plain_node.__dataclass_fields__)
    assert fields - SPECIAL.keys() == {"name", "type", "on_max", "limits", "retry", "join"}


@pytest.mark.parametrize(
    ("node", "found"),
    [
        (replace(MAP, max_concurrency=0), ("max_concurrency", "out_of_range")),
        (replace(MAP, max_concurrency=MAX_CONCURRENCY), None),
        (replace(MAP, max_concurrency=MAX_CONCURRENCY + 1), ("max_concurrency", "out_of_range")),
        (replace(MAP, timeout_s=-1), ("timeout_s", "out_of_range")),
        (replace(MAP, timeout_s=math.inf), ("timeout_s", "out_of_range")),
        (replace(WAIT, timeout_s=math.nan), ("timeout_s", "out_of_range")),
        (replace(WAIT, timeout_s=0), None),
        (replace(WAIT, event=None, timeout_s=5), None),
        (replace(WAIT, event=None, timeout_s=5, into="x"), ("into", "into_not_allowed")),
        (replace(SUB, inputs=(), outputs=()), None),
        (replace(A, timeout_s=5), ("timeout_s", "timeout_s_not_allowed")),
    ],
)
def test_fields_of_maps_waits_and_subgraphs(node: Node, found: tuple[str, str] | None) -> None:
    expected = [(f"nodes[1].{found[0]}", found[1])] if found else []
    assert [(problem.path, problem.code) for problem in problems(around(node), CEILING)] == expected


def test_who_may_have_a_field_is_told() -> None:
    (problem,) = problems(around(replace(A, timeout_s=5)), CEILING)
    assert problem.message == (
        "Only a map or a wait or a subgraph has timeout_s; the time of an attempt is limits.timeout_s."
    )
    (problem,) = problems(around(replace(A, into="x")), CEILING)
    assert problem.message == "Only a map or a wait has into."


@pytest.mark.parametrize("most", [0, -1])
def test_how_many_runs_may_be_under_way_is_at_least_one(most: int) -> None:
    (problem,) = problems(replace(CHAIN, max_concurrent_runs=most), CEILING)
    assert (problem.path, problem.code) == ("max_concurrent_runs", "out_of_range")
    assert problems(replace(CHAIN, max_concurrent_runs=1), CEILING) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        (Graph("g", ()), [("nodes", "no_nodes")]),
        (replace(CHAIN, nodes=(*CHAIN.nodes, A)), [("nodes[3].name", "duplicate_node")]),
        (replace(CHAIN, nodes=(START, A, END, A, A)), [(f"nodes[{i}].name", "duplicate_node") for i in (3, 4)]),
        (replace(CHAIN, nodes=(*CHAIN.nodes, Node("b", NodeType.START))), [("nodes[3].type", "two_starts")]),
        (replace(CHAIN, start_node="b"), [("start_node", "unknown_node")]),
        (replace(CHAIN, start_node=""), [("start_node", "unknown_node")]),
        (replace(CHAIN, start_node="a"), [("start_node", "two_starts")]),
        (replace(CHAIN, start_node="start"), []),
        (graph_of("a>end", start_node="a"), []),
        (graph_of("a>end"), [("nodes", "no_start")]),
        (replace(CHAIN, max_steps=0), [("max_steps", "out_of_range")]),
        (replace(CHAIN, timeout_s=0), [("timeout_s", "out_of_range")]),
        (replace(CHAIN, timeout_s=math.nan), [("timeout_s", "out_of_range")]),
        (replace(CHAIN, timeout_s=math.inf), [("timeout_s", "out_of_range")]),
        (replace(CHAIN, timeout_s=1), []),
        (
            with_node(type=NodeType.END),
            [("nodes[1].function", "function_not_allowed"), ("edges[1].source", "edge_from_end")],
        ),
        (with_node(type=NodeType.LOOP), [("nodes[1].max_iterations", "unbounded_loop")]),
        (replace(CHAIN, nodes=(START, LOOP, END)), []),
        (
            replace(CHAIN, nodes=(START, replace(LOOP, function=None), END)),
            [("nodes[1].function", "function_required")],
        ),
        (
            replace(CHAIN, nodes=(START, replace(LOOP, max_iterations=0), END)),
            [("nodes[1].max_iterations", "out_of_range")],
        ),
        (with_node(condition=GO), [("nodes[1].condition", "condition_not_allowed")]),
        (with_node(max_iterations=3), [("nodes[1].max_iterations", "max_iterations_not_allowed")]),
        (with_node(join=0), [("nodes[1].join", "out_of_range")]),
        (with_retry(max_attempts=0), [("nodes[1].retry.max_attempts", "out_of_range")]),
        (with_retry(max_attempts=MAX_ATTEMPTS), []),
        (with_retry(max_attempts=MAX_ATTEMPTS + 1), [("nodes[1].retry.max_attempts", "out_of_range")]),
        (with_retry(initial_s=-1), [("nodes[1].retry.initial_s", "out_of_range")]),
        (with_retry(factor=0.5), [("nodes[1].retry.factor", "out_of_range")]),
        (with_retry(max_s=math.inf), [("nodes[1].retry.max_s", "out_of_range")]),
        (with_retry(on=frozenset({AttemptStatus.CANCELLED})), [("nodes[1].retry.on", "not_retryable")]),
        (with_retry(on=RETRYABLE), []),
        (with_edges(Edge("x", "a")), [("edges[2].source", "unknown_node")]),
        (with_edges(Edge("a", "x")), [("edges[2].target", "unknown_node")]),
        (with_edges(Edge("x", "y")), [("edges[2].source", "unknown_node"), ("edges[2].target", "unknown_node")]),
        (with_edges(Edge("end", "a")), [("edges[2].source", "edge_from_end")]),
        (with_edges(Edge("a", "start")), [("edges[2].target", "edge_to_start")]),
        (with_edges(Edge("a", "end", GO)), [("edges[2]", "duplicate_edge")]),
        (with_edges(Edge("a", "a", GO, default=True)), [("edges[2].default", "default_with_condition")]),
        (
            with_edges(Edge("a", "b", on=frozenset())),
            [("edges[2].target", "unknown_node"), ("edges[2].on", "too_short")],
        ),
        (with_edges(Edge("a", "a", GO, on=frozenset({Outcome.FAILED}))), [("edges[2].on", "on_with_condition")]),
        (with_edges(Edge("a", "a", default=True, on=frozenset(Outcome))), [("edges[2].on", "on_with_default")]),
        (with_edges(Edge("a", "a", GO, on=frozenset({Outcome.SUCCEEDED}))), []),
        (graph_of("start>a a>b! a>c!"), [("edges[1].default", "two_defaults"), ("edges[2].default", "two_defaults")]),
    ],
)
def test_problems(graph: Graph, found: list[tuple[str, str]]) -> None:
    assert [(problem.path, problem.code) for problem in problems(graph, CEILING)] == found


@pytest.mark.parametrize("name", ["cpus", "memory_mb", "timeout_s", "pids", "tmp_mb", "output_kb"])
def test_limits_are_between_floor_and_ceiling(name: str) -> None:
    for bound, step, code in [(CEILING, 1, "limit_above_ceiling"), (FLOOR, -0.01, "limit_below_floor")]:
        at = getattr(bound, name)
        assert problems(with_node(limits=replace(Limits(), **{name: at})), CEILING) == []
        (problem,) = problems(with_node(limits=replace(Limits(), **{name: at + step})), CEILING)
        assert (problem.path, problem.code) == (f"nodes[1].limits.{name}", code)
        assert str(at) in problem.message


def test_a_limit_that_is_no_number_is_above_every_ceiling() -> None:
    (problem,) = problems(with_node(limits=Limits(cpus=math.nan)), CEILING)
    assert (problem.path, problem.code) == ("nodes[1].limits.cpus", "limit_above_ceiling")


def test_messages_say_what_to_do() -> None:
    (problem,) = problems(with_retry(max_attempts=0), CEILING)
    assert problem.message == "It must be a number, at least 1 and at most 100."
    (problem,) = problems(with_retry(on=frozenset({AttemptStatus.CANCELLED, AttemptStatus.SUCCEEDED})), CEILING)
    assert problem.message == "What ended as 'cancelled' and 'succeeded' is never tried again."


def test_the_entry_is_the_start_node_or_the_node_of_type_start() -> None:
    assert CHAIN.entry == "start"
    assert graph_of("a>end", start_node="a").entry == "a"
    assert replace(CHAIN, start_node="").entry == ""


def test_conditions_and_functions_are_found_with_their_paths() -> None:
    graph = graph_of("start>a a>b? b>end", loop("a", 3), plain("b"))
    named = replace(graph, edges=(*graph.edges, Edge("a", "end", Condition(function="check"))))
    assert list(named.conditions()) == [
        ("nodes[1].condition", GO),
        ("edges[1].condition", Condition("a_b")),
        ("edges[3].condition", Condition(function="check")),
    ]
    assert list(named.functions()) == [("nodes[1].function", "a"), ("edges[3].condition.function", "check")]


def test_a_condition_reads_as_it_was_written() -> None:
    assert str(Condition("state.n < 3")) == "state.n < 3"
    assert str(Condition(function="check")) == "check()"
