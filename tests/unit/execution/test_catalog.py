"""The catalog over a real store, with a sandbox that finds what the test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sandgraph.errors import EngineUnavailable, InvalidInput, Problem
from sandgraph.execution.catalog import Catalog
from sandgraph.execution.runtimes import refusal, runtimes_of
from sandgraph.model.graph import Condition, Edge, Graph, Node, NodeType
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, Failure, Usage
from sandgraph.sandbox.spec import Broken, CheckProblem, OnLog, Outcome, Owner, Sandbox
from sandgraph.settings import Settings, load_settings
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store
from sandgraph_runner.protocol import Check, Job

pytestmark = pytest.mark.anyio

Answer = Sequence[CheckProblem] | Broken


class Checking:
    """Sandboxes that only check; they remember what, and answer as told."""

    def __init__(self, answer: Answer = ()) -> None:
        self.answer = answer
        self.checked: list[Check] = []
        self.sandbox_id = "checking"

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def facts(self) -> Mapping[str, object]:
        return {"runtime": "runc"}

    @asynccontextmanager
    async def lease(
        self, limits: Limits, owner: Owner, *, runtime: str | None = None, isolation: Isolation = Isolation.NODE
    ) -> AsyncIterator[Sandbox]:
        assert (runtime, isolation) == (None, Isolation.NODE)
        assert owner.run_id == ""
        assert limits == Limits()
        yield self

    async def end_run(self, run_id: str) -> None: ...

    async def ping(self) -> None: ...

    def usage(self) -> Usage:
        raise NotImplementedError

    async def execute(self, job: Job, state: bytes, *, timeout_s: float, on_log: OnLog) -> Outcome:
        raise NotImplementedError

    async def check(self, check: Check, *, timeout_s: float) -> Answer:
        assert timeout_s > 0
        self.checked.append(check)
        return self.answer


@asynccontextmanager
async def catalog_of(
    folder: Path, answer: Answer = (), **options: object
) -> AsyncIterator[tuple[Catalog, Store, Checking]]:
    store, sandboxes = await Store.open(folder), Checking(answer)
    settings = Settings(data_dir=folder, **options)  # type: ignore[arg-type]
    try:
        yield Catalog(store, sandboxes, settings, runtimes_of(settings, sandboxes.facts())), store, sandboxes
    finally:
        await store.close()


def graph(*edges: Edge, **options: object) -> Graph:
    nodes = (Node("s", NodeType.START), Node("a", function="f"), Node("e", NodeType.END))
    return Graph("g", nodes, edges or (Edge("s", "a"), Edge("a", "e")), **options)  # type: ignore[arg-type]


async def codes(catalog: Catalog, submitted: Graph) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        await catalog.create_graph(submitted)
    return [(problem.path, problem.code) for problem in refused.value.problems]


async def test_code_is_checked_once_and_kept(tmp_path: Path) -> None:
    async with catalog_of(tmp_path) as (catalog, store, sandboxes):
        for created in (True, False):
            version, is_new = await catalog.register_function("f", "def f(state): pass")
            assert (version.version, is_new) == (1, created)
        assert len(sandboxes.checked) == 1
        assert (await store.latest_code(CodeKind.FUNCTION, ["f"]))["f"].code == "def f(state): pass"
        tool, _ = await catalog.register_tool("t", "def t(): pass", "helps")
        assert tool.description == "helps"


async def test_what_the_sandbox_finds_is_refused_and_not_kept(tmp_path: Path) -> None:
    found = [CheckProblem(0, "syntax_error", "invalid syntax", 3, 7)]
    async with catalog_of(tmp_path, found) as (catalog, store, _):
        with pytest.raises(InvalidInput) as refused:
            await catalog.register_function("f", "def f(:")
        (problem,) = refused.value.problems
        assert (problem.path, problem.code, problem.line, problem.column) == ("code", "syntax_error", 3, 7)
        assert (await store.list_code(CodeKind.FUNCTION)).items == ()


@pytest.mark.parametrize("status", [AttemptStatus.TIMEOUT, AttemptStatus.OOM, AttemptStatus.NO_RESULT])
async def test_a_check_that_does_not_end_well_is_the_codes_fault(tmp_path: Path, status: AttemptStatus) -> None:
    broken = Broken(status, Failure(status, "it broke"), Usage())
    async with catalog_of(tmp_path, broken) as (catalog, _, __):
        with pytest.raises(InvalidInput) as refused:
            await catalog.register_function("f", "while True: pass")
        assert refused.value.code == f"check_{status}"


async def test_a_lost_sandbox_is_not_the_codes_fault(tmp_path: Path) -> None:
    broken = Broken(AttemptStatus.LOST, Failure("lost", "the engine restarted"), Usage())
    async with catalog_of(tmp_path, broken) as (catalog, _, __):
        with pytest.raises(EngineUnavailable):
            await catalog.register_function("f", "def f(state): pass")


@pytest.mark.parametrize(("code", "expected"), [("x" * 2000, "code_too_large"), ("\ud800", "invalid_text")])
async def test_code_that_cannot_be_kept_never_reaches_a_sandbox(tmp_path: Path, code: str, expected: str) -> None:
    async with catalog_of(tmp_path, max_code_kb=1) as (catalog, _, sandboxes):
        with pytest.raises(InvalidInput) as refused:
            await catalog.register_function("f", code)
        assert refused.value.code == expected
        assert sandboxes.checked == []


async def test_a_graph_is_kept_with_its_equal_conditions_compiled_once(tmp_path: Path) -> None:
    condition = Condition("state.x > 1")
    nodes = (*graph().nodes, Node("b", function="f"))
    edges = (Edge("s", "a", condition), Edge("s", "b", condition), Edge("a", "e"), Edge("b", "e"))
    async with catalog_of(tmp_path) as (catalog, store, sandboxes):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        _, created = await catalog.create_graph(Graph("g", nodes, edges))
        assert created
        assert [check.expressions for check in sandboxes.checked] == [("state.x > 1",)]
        _, created = await catalog.create_graph(graph())
        assert created
        assert len(sandboxes.checked) == 1


async def test_a_condition_that_does_not_compile_is_named_wherever_it_stands(tmp_path: Path) -> None:
    found = [CheckProblem(0, "syntax_error", "invalid syntax", 1, 5)]
    async with catalog_of(tmp_path, found) as (catalog, store, _):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        bad = Condition("state.")
        submitted = graph(Edge("s", "a", bad), Edge("a", "e", bad))
        expected = [("edges[0].condition", "syntax_error"), ("edges[1].condition", "syntax_error")]
        assert await codes(catalog, submitted) == expected


async def test_everything_wrong_with_a_graph_is_said_at_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_nodes": 2, "max_steps": 5, "run_timeout_s": 10}
    async with catalog_of(tmp_path, **options) as (catalog, store, sandboxes):
        submitted = graph(Edge("s", "a"), Edge("a", "nowhere"), max_steps=6, timeout_s=11.0)
        assert await codes(catalog, submitted) == [
            ("nodes", "too_many_nodes"),
            ("max_steps", "limit_above_ceiling"),
            ("timeout_s", "limit_above_ceiling"),
            ("edges[1].target", "unknown_node"),
            ("nodes[1].function", "unknown_function"),
        ]
        assert sandboxes.checked == []
        assert (await store.list_graphs()).items == ()


async def test_a_graph_may_name_the_deployments_runtime_and_those_it_allows(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, runtimes="runsc,kata") as (catalog, store, _):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        for runtime in ("runc", "runsc", "kata", None):
            version, created = await catalog.create_graph(graph(runtime=runtime))
            assert created
            assert version.graph.runtime == runtime
        with pytest.raises(InvalidInput) as refused:
            await catalog.create_graph(graph(runtime="crun"))
        message = "This deployment does not run 'crun': a graph may name 'runc' or 'runsc' or 'kata'."
        assert [*refused.value.problems] == [Problem("runtime", "runtime_not_allowed", message)]


@pytest.mark.parametrize(
    ("settings", "facts", "allowed"),
    [
        ({}, {}, ()),
        ({}, {"runtime": "runc"}, ("runc",)),
        ({"runtime": "runsc"}, {"runtime": "runsc"}, ("runsc",)),
        ({"runtimes": "runsc, runc"}, {"runtime": "runc"}, ("runc", "runsc")),
        ({"runtimes": "runsc"}, {}, ("runsc",)),
    ],
)
def test_the_runtimes_of_a_deployment(
    settings: dict[str, str], facts: dict[str, str], allowed: tuple[str, ...]
) -> None:
    assert runtimes_of(load_settings(**settings), facts) == allowed


def test_without_any_runtime_a_graph_may_name_none() -> None:
    assert refusal(graph(runtime="runc"), ()) == "This deployment does not run 'runc': a graph may name none."


async def test_all_tools_together_have_a_limit(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, max_tools_kb=4) as (catalog, store, _):
        for name in ("a", "b"):
            await catalog.register_tool(name, "#" * 1400, "")
        with pytest.raises(InvalidInput) as refused:
            await catalog.register_tool("c", "#" * 1400, "")
        assert refused.value.code == "too_much_tool_code"
        # One may be replaced all the same.
        await catalog.register_tool("b", "#" * 1500, "")
        assert sorted(await store.all_tools()) == ["a", "b"]


# Graphs inside graphs


def around(graph_id: str, **options: object) -> Graph:
    nodes = (Node("s", NodeType.START), Node("sub", NodeType.SUBGRAPH, graph_id=graph_id), Node("e", NodeType.END))
    return Graph("around", nodes, (Edge("s", "sub"), Edge("sub", "e")), **options)  # type: ignore[arg-type]


async def test_a_graph_may_run_one_that_was_made_before(tmp_path: Path) -> None:
    async with catalog_of(tmp_path) as (catalog, store, _):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        inner, _ = await catalog.create_graph(graph())
        version, created = await catalog.create_graph(around(inner.graph_id))
        assert created
        assert version.graph.nodes[1].graph_id == inner.graph_id
        _, created = await catalog.create_graph(around(version.graph_id))
        assert created


async def test_a_graph_may_not_run_one_that_there_is_not(tmp_path: Path) -> None:
    async with catalog_of(tmp_path) as (catalog, store, _):
        assert await codes(catalog, around("graph_0")) == [("nodes[1].graph_id", "unknown_graph")]
        assert (await store.list_graphs()).items == ()


async def test_graphs_are_not_inside_each_other_without_end(tmp_path: Path) -> None:
    async with catalog_of(tmp_path) as (catalog, store, _):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        graph_id = (await catalog.create_graph(graph()))[0].graph_id
        for _ in range(7):
            graph_id = (await catalog.create_graph(around(graph_id)))[0].graph_id
        assert await codes(catalog, around(graph_id)) == [("nodes[1].graph_id", "subgraphs_too_deep")]


async def test_the_nodes_of_all_graphs_inside_each_other_are_bounded(tmp_path: Path) -> None:
    async with catalog_of(tmp_path, max_nodes=3) as (catalog, store, _):
        await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
        count = 1
        graph_id = (await catalog.create_graph(graph()))[0].graph_id
        for _ in range(6):
            graph_id = (await catalog.create_graph(around(graph_id)))[0].graph_id
            count += 1
        # Seven graphs of three nodes each are in it, and its own three.
        assert 3 * (count + 1) <= 30
        assert (await catalog.create_graph(around(graph_id)))[1]
        big = Graph("big", tuple(Node(f"n{n}") for n in range(28)), start_node="n0")
        version, _ = await store.save_graph(big)
        assert await codes(catalog, around(version.graph_id)) == [("nodes", "too_many_nodes")]
