"""What is registered for a graph, under which names, and what is told when that goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sandgraph import EngineUnavailable, InvalidInput, NodeType, WorkflowGraph, WorkflowState, tool, tools
from sandgraph.embedded.registration import Registrar, subgraphs_first, within
from sandgraph.errors import Problem
from sandgraph.model.graph import Graph
from sandgraph.settings import load_settings
from sandgraph.store.records import CodeVersion, GraphVersion

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class FakeCatalog:
    """Keeps what it gets; refuses code in which a word of `refused` is."""

    def __init__(self, **refused: Exception) -> None:
        self.refused = refused
        self.functions: list[tuple[str, str]] = []
        self.tools: list[tuple[str, str, str]] = []
        self.graphs: list[Graph] = []

    async def register_function(self, name: str, code: str) -> tuple[CodeVersion, bool]:
        await asyncio.sleep(0)
        for word, error in self.refused.items():
            if word in code:
                raise error
        self.functions.append((name, code))
        return CodeVersion(name, 1, "", code, "", NOW), True

    async def register_tool(self, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        self.tools.append((name, code, description))
        return CodeVersion(name, 1, "", code, description, NOW), True

    async def create_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        self.graphs.append(graph)
        return GraphVersion("gr_1", graph.name, 1, graph, NOW), True


@pytest.fixture(autouse=True)
def _own_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_own", {})


def one(name: str, *functions: Callable[..., Any]) -> WorkflowGraph:
    graph = WorkflowGraph(name, start_node="n0")
    for index, function in enumerate(functions):
        graph.add_node(f"n{index}", function)
    for index in range(1, len(functions)):
        graph.add_edge(f"n{index - 1}", f"n{index}")
    return graph


def register(registrar: Registrar, graph: WorkflowGraph, catalog: FakeCatalog) -> list[str]:
    """Return the names of the nodes' functions."""
    asyncio.run(registrar.perform(registrar.prepare(graph), catalog))
    return [str(node.function) for node in catalog.graphs[-1].nodes]


def make(amount: int) -> Callable[[WorkflowState], None]:
    def add(state: WorkflowState) -> None:
        state["sum"] = amount

    return add


def process(state: WorkflowState) -> None:
    state["done"] = True


@pytest.fixture
def registrar() -> Registrar:
    return Registrar(load_settings(), None)


def test_a_function_keeps_its_name_while_nobody_else_has_it(registrar: Registrar) -> None:
    catalog = FakeCatalog()
    assert register(registrar, one("a", process, make(1), make(2), make(1)), catalog) == [
        "process",
        "add",
        "add_2",
        "add",
    ]
    assert [name for name, _ in catalog.functions] == ["process", "add", "add_2"]
    assert register(registrar, one("b", make(1), process), catalog) == ["add", "process"]
    assert register(registrar, one("c", make(3)), catalog) == ["add_3"]


def test_names_that_mean_something_registered_are_left_alone(registrar: Registrar) -> None:
    graph = one("a", process).add_node("known", function="process").add_edge("n0", "known", {"function": "process_2"})
    assert register(registrar, graph, FakeCatalog()) == ["process_3", "process"]


def test_a_graph_that_is_registered_again_makes_new_versions(registrar: Registrar) -> None:
    values = [1]

    def reads(state: WorkflowState) -> None:
        state["values"] = values

    catalog, graph = FakeCatalog(), one("a", reads)
    assert register(registrar, graph, catalog) == ["reads"]
    values.append(2)
    assert register(registrar, graph, catalog) == ["reads"]
    assert [code.count("values = [1, 2]") for _, code in catalog.functions] == [0, 1]


def test_live_functions_are_told_apart_where_they_stay() -> None:
    live: dict[Any, Callable[..., Any]] = {}
    catalog = FakeCatalog()
    functions: list[Callable[..., Any]] = [make(1), make(1), print]
    assert register(Registrar(load_settings(), live), one("a", *functions, functions[0]), catalog) == [
        "add",
        "add_2",
        "print",
        "add",
    ]
    assert [live[source] for source in live if (source.name, source.code) in catalog.functions] == functions


def test_tools_are_registered_when_they_are_new(registrar: Registrar) -> None:
    @tool(description="Loud.")
    def shout(text: str) -> str:
        return text.upper()

    catalog = FakeCatalog()
    register(registrar, one("a", process), catalog)
    register(registrar, one("b", process), catalog)
    assert [(name, description) for name, _, description in catalog.tools] == [("shout", "Loud.")]
    tool(name="shout")(lambda text: text)
    tool(name="again", description="x" * 5000)(shout)
    register(registrar, one("c", process), catalog)
    assert [(name, len(description)) for name, _, description in catalog.tools[1:]] == [("again", 2000), ("shout", 0)]
    namespace: dict[str, Any] = {}
    exec(catalog.tools[1][1], namespace)
    assert namespace["again"]("a") == "A"


def test_all_that_does_not_work_in_a_sandbox_is_told_with_its_place(registrar: Registrar) -> None:
    def needs(_state: WorkflowState) -> None:
        import nothing  # type: ignore[import-not-found]  # noqa: F401, PLC0415

    missing = InvalidInput([Problem("code", "import_failed", "No module named 'nothing'.", 3, 1)])
    graph = one("a", process, needs).add_edge("n0", "n1x").add_node("n1x", reads_a_file)
    with pytest.raises(InvalidInput) as wrong:
        register(registrar, graph, FakeCatalog())
    assert [(each.path, each.code) for each in wrong.value.problems] == [("nodes[2].function", "source_not_capturable")]
    catalog = FakeCatalog(nothing=missing, done=InvalidInput.at("code", "code_too_large", "Too large."))
    with pytest.raises(InvalidInput) as wrong:
        register(registrar, one("a", process, needs), catalog)
    assert [(each.path, each.code, each.message) for each in wrong.value.problems] == [
        ("nodes[0].function", "code_too_large", "In the source taken of 'process': Too large."),
        (
            "nodes[1].function",
            "import_failed",
            "In the source taken of 'needs' at line 3: No module named 'nothing'.",
        ),
    ]
    assert catalog.graphs == []
    with pytest.raises(EngineUnavailable):
        register(registrar, one("a", process, needs), FakeCatalog(nothing=missing, done=EngineUnavailable("Gone.")))


def reads_a_file(state: WorkflowState) -> object:
    return OPEN_FILE, state


OPEN_FILE = (number for number in (1,))


def running(name: str, *graphs: WorkflowGraph) -> WorkflowGraph:
    """Return a graph that runs others."""
    made = WorkflowGraph(name, start_node="first").add_node("first")
    for index, graph in enumerate(graphs):
        made.add_node(f"run{index}", node_type=NodeType.SUBGRAPH, graph=graph).add_edge("first", f"run{index}")
    return made


def test_graphs_that_are_run_come_first_and_once() -> None:
    leaf = one("leaf", process)
    middle, other = running("middle", leaf), running("other", leaf)
    top = running("top", middle, other, leaf)
    assert subgraphs_first(top) == [
        ("nodes[1].graph_id.nodes[1].graph_id", leaf),
        ("nodes[1].graph_id", middle),
        ("nodes[2].graph_id", other),
        ("", top),
    ]


def test_a_graph_does_not_run_itself() -> None:
    graph = running("self")
    between = running("between", graph)
    graph.add_node("again", node_type=NodeType.SUBGRAPH, graph=between)
    with pytest.raises(InvalidInput) as wrong:
        subgraphs_first(graph)
    assert [(each.path, each.code) for each in wrong.value.problems] == [
        ("nodes[1].graph_id.nodes[1].graph_id", "recursive_graph")
    ]
    deep = one("leaf", process)
    for number in range(60):
        deep = running(f"g{number}", deep)
    with pytest.raises(InvalidInput, match="more than 50 deep") as wrong:
        subgraphs_first(deep)
    assert wrong.value.code == "graphs_too_deep"


def test_what_is_wrong_inside_is_told_from_outside() -> None:
    inside = InvalidInput([Problem("nodes[0].name", "too_short", "Short."), Problem("", "no_graph", "None.", 3, 4)])
    assert within("", inside) is inside
    told = within("nodes[1].graph_id", inside)
    assert [each.path for each in told.problems] == ["nodes[1].graph_id.nodes[0].name", "nodes[1].graph_id"]
    assert (told.code, told.problems[1].line, told.problems[1].column) == ("too_short", 3, 4)


def test_graphs_that_are_run_are_named_by_their_versions(registrar: Registrar) -> None:
    leaf = one("leaf", process)
    graph = running("top", leaf).add_node("known", node_type=NodeType.SUBGRAPH, graph_id="gr_0")
    graph.add_edge("first", "known")
    catalog = FakeCatalog()
    asyncio.run(registrar.perform(registrar.prepare(graph), catalog, {leaf.graph_id: "gr_7", "other": "gr_8"}))
    assert [node.graph_id for node in catalog.graphs[0].nodes] == [None, "gr_7", "gr_0"]
