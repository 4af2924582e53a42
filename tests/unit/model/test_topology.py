"""The shape of graphs, against the definitions."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.graphs import graph_of, loop_nodes, mapped, plain, shape, subgraph, waiting
from tests.unit.model.oracle import cycles, dominators, reachable
from tests.unit.model.profile import IS_LONG, examples, part_of
from tests.unit.model.programs import program

from sandgraph.errors import Problem
from sandgraph.model.graph import Edge, Graph, Node
from sandgraph.model.topology import MAX_NESTING, Topology, analyse


def refused(graph: Graph) -> list[Problem]:
    found = analyse(graph)
    assert isinstance(found, list)
    return found


def of_pairs(pairs: set[tuple[int, int]], size: int) -> Graph:
    edges = tuple(Edge(f"n{i}", f"n{j}") for i, j in sorted(pairs))
    return Graph("", tuple(Node(f"n{i}", function="f") for i in range(size)), edges, "n0")


def drawn_graphs() -> st.SearchStrategy[Graph]:
    pairs = st.tuples(st.integers(0, 5), st.integers(0, 5))
    return st.builds(of_pairs, st.sets(pairs, max_size=14), st.just(6))


def rings(graph: Graph, without: frozenset[int]) -> bool:
    """Whether there is a cycle that has none of these edges."""
    left = [edge for i, edge in enumerate(graph.edges) if i not in without]
    while left:
        targets = {edge.target for edge in left}
        further = [edge for edge in left if edge.source in targets]
        if len(further) == len(left):
            return True
        left = further
    return False


def agrees_with_the_definitions(graph: Graph) -> None:
    names = {node.name for node in graph.nodes}
    found = analyse(graph)
    if names != reachable(graph):
        assert isinstance(found, list)
        assert {problem.code for problem in found} == {"unreachable_node"}
        missing = {graph.nodes[int(problem.path[6:-1])].name for problem in found}
        assert missing == names - reachable(graph)
        return
    above = dominators(graph)
    back = frozenset(i for i, edge in enumerate(graph.edges) if edge.target in above[edge.source])
    if rings(graph, back):
        assert isinstance(found, list)
        assert [problem.code for problem in found] == ["irreducible_cycle"]
        return
    expected = {header: cycle.nodes for header, cycle in cycles(graph).items()}
    ways_out = {
        header: [i for i, e in enumerate(graph.edges) if e.source in nodes and e.target not in nodes]
        for header, nodes in expected.items()
    }
    if not all(ways_out.values()):
        assert isinstance(found, list)
        assert {problem.code for problem in found} == {"unbounded_loop"}
        assert len(found) == sum(not ways for ways in ways_out.values())
        return
    assert isinstance(found, Topology)
    assert loop_nodes(found) == expected
    assert found.back_edges == back
    order = list(found.loops)
    assert all(order.index(a) < order.index(b) for a in order for b in order if expected[a] < expected[b])
    for header, nodes in expected.items():
        loop = found.loops[header]
        assert loop.back_edges == tuple(i for i in sorted(back) if graph.edges[i].target == header)
        assert loop.inside == {i for i, e in enumerate(graph.edges) if {e.source, e.target} <= nodes}
        wider = [ways_out[other] for other in expected if nodes < expected[other]]
        assert loop.exits == tuple(i for i in ways_out[header] if not any(i in ways for ways in wider))
    assert found.exits == {i for ways in ways_out.values() for i in ways}
    for name in names:
        assert found.outgoing[name] == tuple(i for i, e in enumerate(graph.edges) if e.source == name)
        assert found.joins[name] == tuple(i for i, e in enumerate(graph.edges) if e.target == name and i not in back)


@examples(150)
@given(drawn_graphs())
def test_any_small_graph_agrees_with_the_definitions(graph: Graph) -> None:
    agrees_with_the_definitions(graph)


def test_many_small_graphs_agree_with_the_definitions() -> None:
    random = Random(0)
    for _ in range(100_000 if IS_LONG else part_of(500)):
        size = random.randint(1, 7)
        pairs = {(random.randrange(size), random.randrange(size)) for _ in range(random.randint(0, 2 * size))}
        pairs |= {(random.randrange(i), i) for i in range(1, size) if random.random() < 0.9}
        agrees_with_the_definitions(of_pairs(pairs, size))


def test_many_graphs_of_cycles_agree_with_the_definitions() -> None:
    random = Random(0)
    for _ in range(20_000 if IS_LONG else part_of(200)):
        agrees_with_the_definitions(program(random.choice).graph)


def test_nodes_that_no_path_leads_to_are_named() -> None:
    found = refused(graph_of("start>a a>end b>c c>b c>end"))
    assert [(problem.path, problem.code) for problem in found] == [
        ("nodes[3]", "unreachable_node"),
        ("nodes[4]", "unreachable_node"),
    ]
    assert "'b'" in found[0].message


def test_a_cycle_with_two_entries_is_refused_and_its_nodes_are_named() -> None:
    (problem,) = refused(graph_of("start>a start>b a>x b>y x>y y>x x>end y>end"))
    assert (problem.path, problem.code) == ("edges", "irreducible_cycle")
    assert set(re.findall(r"'(\w+)'", problem.message)) == {"x", "y"}


@examples(100)
@given(drawn_graphs())
def test_what_is_named_of_a_cycle_with_two_entries_is_a_cycle(graph: Graph) -> None:
    found = analyse(graph)
    if isinstance(found, list) and found[0].code == "irreducible_cycle":
        named = re.findall(r"'(\w+)'", found[0].message)
        pairs = {(edge.source, edge.target) for edge in graph.edges}
        assert all(step in pairs for step in zip(named, named[1:] + named[:1], strict=True))


def test_an_entry_into_the_middle_of_a_cycle_is_refused() -> None:
    (problem,) = refused(graph_of("start>a start>c a>b b>c c>a c>end"))
    assert problem.code == "irreducible_cycle"


def test_a_cycle_that_no_edge_leaves_is_refused() -> None:
    (problem,) = refused(graph_of("start>a start>end a>b b>c c>b?"))
    assert (problem.path, problem.code) == ("edges[4]", "unbounded_loop")
    assert "'b', 'c'" in problem.message


def test_an_inner_cycle_needs_a_way_out_too() -> None:
    (problem,) = refused(graph_of("start>a a>b? b>b a>a? a>end!"))
    assert problem.code == "unbounded_loop"


@pytest.mark.parametrize(
    ("edges", "is_refused"),
    [
        ("start>a a>b b>a b>end", True),
        ("start>a a>b b>a b>end!", True),
        ("start>a a>a a>end", True),
        ("start>a a>b b>a? b>end!", False),
        ("start>a a>b b>a! b>end", False),
        ("start>a a>b a>end b>f f>a", False),
        ("start>a a>b b>a b>f a>end f>a", True),
    ],
)
def test_a_cycle_in_which_nothing_runs_and_nothing_is_asked_is_refused(edges: str, *, is_refused: bool) -> None:
    found = analyse(graph_of(edges, plain("a"), plain("b")))
    assert isinstance(found, list) is is_refused
    if isinstance(found, list):
        assert [(problem.path, problem.code) for problem in found] == [("edges", "unbounded_loop")]


@pytest.mark.parametrize(
    ("node", "is_refused"),
    [(waiting("b"), False), (waiting("b", None, 0), False), (mapped("b"), True), (subgraph("b"), True)],
    ids=["event", "time", "map", "subgraph"],
)
def test_a_cycle_of_what_may_do_nothing_is_refused_unless_something_is_asked_in_it(
    node: Node, *, is_refused: bool
) -> None:
    # A list may be empty, and so may a subgraph be; of waits each takes an event, or time.
    found = analyse(graph_of("start>a a>b b>a b>end", plain("a"), node))
    assert isinstance(found, list) is is_refused
    shape(graph_of("start>a a>b b>a? b>end!", plain("a"), node))
    shape(graph_of("start>a a>b b>c c>a b>end", plain("a"), node))


def test_a_long_list_of_names_is_cut() -> None:
    (problem,) = refused(graph_of("start>n0 " + " ".join(f"n{i}>n{(i + 1) % 30}" for i in range(30))))
    assert "'n9' and 20 more" in problem.message


def nested(depth: int) -> Graph:
    inwards = [f"n{i}>n{i + 1}" for i in range(depth)]
    outwards = [f"n{depth}>n{i}?" for i in range(1, depth + 1)]
    return graph_of(" ".join([*inwards, *outwards, f"n{depth}>end!"]), start_node="n0")


def test_cycles_may_be_nested_only_so_deep() -> None:
    assert len(shape(nested(MAX_NESTING)).loops) == MAX_NESTING
    (problem,) = refused(nested(MAX_NESTING + 1))
    assert (problem.path, problem.code) == (f"edges[{MAX_NESTING + 1}]", "loops_too_deep")
    assert "'n1'" in problem.message


def test_an_edge_of_a_cycle_back_to_the_start_node() -> None:
    topology = shape(graph_of("a>b b>a? b>c! c>c? c>end!", start_node="a"))
    assert loop_nodes(topology) == {"a": {"a", "b"}, "c": {"c"}}
    assert topology.joins["a"] == ()


@pytest.mark.parametrize(
    ("edges", "ends"),
    [("start>a start>b", ("a", "b")), ("start>end2 start>end1 start>a", ("end2", "end1")), ("start", ("start",))],
)
def test_the_ends_are_the_end_nodes_or_else_those_that_no_edge_leaves(edges: str, ends: tuple[str, ...]) -> None:
    assert shape(graph_of(edges)).ends == ends


@pytest.mark.parametrize("extra", ["", "n9999>n0?", "n9999>n5000?"])
def test_a_long_chain_is_no_deep_recursion(extra: str) -> None:
    chain = " ".join(f"n{i}>n{i + 1}" for i in range(9_999))
    topology = shape(graph_of(f"{chain} n9999>end! {extra}", *(plain(f"n{i}") for i in range(10_000)), start_node="n0"))
    assert len(topology.nodes) == 10_001
    assert len(topology.loops) == bool(extra)


def test_a_long_cycle_that_can_be_entered_twice_is_no_deep_recursion() -> None:
    ring = " ".join(f"n{i}>n{(i + 1) % 5_000}" for i in range(5_000))
    (problem,) = refused(graph_of(f"start>n0 start>n2500 {ring} n0>end"))
    assert problem.code == "irreducible_cycle"
    assert "and 4990 more" in problem.message
