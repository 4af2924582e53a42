"""The engine, with functions called in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandgraph import (
    ConfigurationError,
    Conflict,
    EngineUnavailable,
    InvalidInput,
    NodeType,
    NotFound,
    Unavailable,
    WorkflowEngine,
    WorkflowGraph,
    WorkflowState,
    get_global_registry,
    tool,
    tools,
)
from sandgraph.settings import load_settings

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_own", {})


@pytest.fixture(scope="module")
def engine() -> Iterator[WorkflowEngine]:
    with WorkflowEngine(sandbox="inprocess") as shared:
        yield shared
    assert not [thread for thread in threading.enumerate() if thread.name == "sandgraph"]


def chain(name: str, *functions: Function, **of_first: Any) -> WorkflowGraph:  # noqa: ANN401 - a node's fields
    """Return a graph that runs functions one after another."""
    graph = WorkflowGraph(name).add_node("start", node_type=NodeType.START)
    before = "start"
    for index, function in enumerate(functions):
        graph.add_node(f"n{index}", function, **(of_first if index == 0 else {}))
        graph.add_edge(before, f"n{index}")
        before = f"n{index}"
    return graph.add_node("end", node_type=NodeType.END).add_edge(before, "end")


def run(engine: WorkflowEngine, graph: WorkflowGraph, state: dict[str, object] | None = None) -> dict[str, Any]:
    engine.register_graph(graph)
    return asyncio.run(engine.run(graph.graph_id, state))


def data(engine: WorkflowEngine, graph: WorkflowGraph, state: dict[str, object] | None = None) -> dict[str, Any]:
    result = run(engine, graph, state)
    assert result["status"] == "completed", result["error"]
    found: dict[str, Any] = result["final_state"]["data"]
    return found


# Graphs


def test_a_graph_may_name_a_runtime_that_the_settings_allow() -> None:
    with WorkflowEngine(sandbox="inprocess", runtimes="runsc") as own:
        allowed = WorkflowGraph("g", start_node="a", runtime="runsc", isolation="run").add_node("a", lambda _: {"n": 1})
        assert data(own, allowed) == {"n": 1}
        with pytest.raises(InvalidInput) as refused:
            own.register_graph(WorkflowGraph("g", start_node="a", runtime="kata").add_node("a", lambda _: None))
        assert [(each.path, each.code) for each in refused.value.problems] == [("runtime", "runtime_not_allowed")]


def test_a_failure_may_be_handled(engine: WorkflowEngine) -> None:
    def broken(_: WorkflowState) -> None:
        raise ValueError("Not today.")

    graph = WorkflowGraph("handled", start_node="broken").add_node("broken", broken)
    graph.add_node("use", lambda _: {"used": True}).add_edge("broken", "use")
    graph.add_node("alarm", lambda _: {"rang": True}).add_edge("broken", "alarm", on=["failed"])
    graph.add_node("end", node_type=NodeType.END).add_edge("use", "end").add_edge("alarm", "end")
    result = run(engine, graph)
    assert (result["status"], result["error"]) == ("completed", None)
    assert result["final_state"]["data"] == {"rang": True}
    log = {entry["node"]: entry for entry in result["final_state"]["execution_log"]}
    assert (log["broken"]["error"]["message"], log["use"]["status"]) == ("Not today.", "skipped")


def test_a_run_may_finish_what_does_not_depend_on_a_failure(engine: WorkflowEngine) -> None:
    def broken(_: WorkflowState) -> None:
        raise ValueError("Not today.")

    graph = WorkflowGraph("finish", start_node="start", on_error="finish").add_node("start").add_node("broken", broken)
    graph.add_node("other", lambda _: {"other": 1}).add_node("more", lambda _: {"more": 1})
    graph.add_edge("start", "broken").add_edge("start", "other").add_edge("other", "more")
    result = run(engine, graph)
    assert (result["status"], result["error"]["node"]) == ("failed", "broken")
    assert result["final_state"]["data"] == {"other": 1, "more": 1}


def test_a_join_may_start_with_the_first_and_the_run_goes_on_without_the_other(engine: WorkflowEngine) -> None:
    is_over = threading.Event()

    def slow(_: WorkflowState) -> dict[str, object]:
        is_over.wait(20)
        return {"slow": True}

    graph = WorkflowGraph("race", start_node="start").add_node("start").add_node("slow", slow)
    graph.add_node("fast", lambda _: {"fast": True}).add_node("use", lambda _: {"used": True}, join="any")
    graph.add_edge("start", "slow").add_edge("start", "fast").add_edge("slow", "use").add_edge("fast", "use")
    try:
        result = run(engine, graph)
    finally:
        is_over.set()
    assert (result["status"], result["final_state"]["data"]) == ("completed", {"fast": True, "used": True})
    log = {entry["node"]: entry["status"] for entry in result["final_state"]["execution_log"]}
    assert log == {"start": "succeeded", "slow": "cancelled", "fast": "succeeded", "use": "succeeded"}


def test_the_first_example() -> None:
    def process(state: WorkflowState) -> None:
        state.set("output", state.get("input") * 2)

    graph = WorkflowGraph(name="double")
    graph.add_node("start", node_type=NodeType.START)
    graph.add_node("process", func=process)
    graph.add_node("end", node_type=NodeType.END)
    graph.add_edge("start", "process")
    graph.add_edge("process", "end")
    engine = WorkflowEngine(sandbox="inprocess")
    engine.register_graph(graph)
    result = asyncio.run(engine.run(graph_id=graph.graph_id, initial_state={"input": 5}))
    assert result["final_state"]["data"]["output"] == 10
    assert (result["status"], result["graph_id"], result["error"]) == ("completed", graph.graph_id, None)
    assert result["final_state"]["run_id"] == result["run_id"]
    assert [entry["node"] for entry in result["final_state"]["execution_log"]] == ["start", "process", "end"]
    engine.close()


@pytest.mark.parametrize("condition", ["state.counter < 5", lambda state: state["counter"] < 5])
def test_loops(engine: WorkflowEngine, condition: str | Function) -> None:
    def count(state: WorkflowState) -> None:
        state["counter"] = state["counter"] + 1

    bounds: dict[str, Any] = {"node_type": NodeType.LOOP, "condition": condition}
    assert data(engine, chain("loop", count, max_iterations=10, **bounds), {"counter": 0}) == {"counter": 5}
    assert data(engine, chain("loop", count, max_iterations=10, **bounds), {"counter": 7}) == {"counter": 7}
    assert data(engine, chain("loop", count, max_iterations=2, **bounds), {"counter": 0}) == {"counter": 2}
    failed = run(engine, chain("loop", count, max_iterations=2, on_max="fail", **bounds), {"counter": 0})
    assert (failed["status"], failed["error"]["code"]) == ("failed", "max_iterations_reached")


def test_edges_may_ask_an_expression_a_function_or_a_lambda(engine: WorkflowEngine) -> None:
    def is_small(state: WorkflowState) -> bool:
        return bool(state["n"] < 10)

    graph = (
        chain("routes", lambda state: {"n": state["n"] + 0})
        .add_node("negative", lambda _: {"is": "negative"})
        .add_node("small", lambda _: {"is": "small"})
        .add_node("round", lambda _: {"round": True})
        .add_node("other", lambda _: {"is": "other"})
    )
    graph._edges.pop()
    graph.add_edge("n0", "negative", "state.n < 0")
    graph.add_edge("n0", "small", is_small).add_edge("n0", "round", lambda state: state["n"] % 10 == 0)
    graph.add_edge("n0", "other", default=True)
    for node in ("negative", "small", "round", "other"):
        graph.add_edge(node, "end")
    assert data(engine, graph, {"n": 3}) == {"n": 3, "is": "small"}
    assert data(engine, graph, {"n": 20}) == {"n": 20, "round": True}
    assert data(engine, graph, {"n": 21}) == {"n": 21, "is": "other"}
    assert data(engine, graph, {"n": 0}) == {"n": 0, "is": "small", "round": True}
    conflict = run(engine, graph, {"n": -1})
    assert (conflict["status"], conflict["error"]["code"]) == ("failed", "state_conflict")


def test_tools(engine: WorkflowEngine) -> None:
    @tool(name="shout", description="Loud.")
    def louder(text: str, times: int = 1) -> str:
        return text.upper() + "!" * times

    def process(state: WorkflowState) -> dict[str, object]:
        named = get_global_registry().invoke("shout", state["text"], times=2)
        return {"named": named, "direct": tools.invoke("shout", "hi"), "has": "shout" in tools.names()}

    assert louder("x") == "X!"
    assert data(engine, chain("tools", process), {"text": "a"}) == {
        "text": "a",
        "named": "A!!",
        "direct": "HI!",
        "has": True,
    }


def test_functions_of_what_is_registered_already(engine: WorkflowEngine) -> None:
    graph = (
        WorkflowGraph("known").add_node("only", function="review_extract_functions").add_node("end", node_type="end")
    )
    graph._head["start_node"] = "only"
    found = data(engine, graph.add_edge("only", "end"), {"code": "def f(): pass\n"})
    assert [each["name"] for each in found["functions"]] == ["f"]


def test_functions_of_one_name(engine: WorkflowEngine) -> None:
    def make(amount: int) -> Function:
        def add(state: WorkflowState) -> None:
            state["sum"] = state.get("sum", 0) + amount

        return add

    first, second = chain("sum", make(1), make(10), make(100)), chain("sum", make(1000))
    engine.register_graph(first)
    engine.register_graph(second)
    assert data(engine, first) == {"sum": 111}
    assert data(engine, second) == {"sum": 1000}
    both = make(5)
    assert data(engine, chain("twice", both, both)) == {"sum": 10}


def test_async_functions(engine: WorkflowEngine) -> None:
    async def process(state: WorkflowState) -> None:
        await asyncio.sleep(0)
        state["done"] = True

    assert data(engine, chain("async", process)) == {"done": True}


def test_a_graph_may_grow_and_be_registered_again(engine: WorkflowEngine) -> None:
    graph = WorkflowGraph("grows", start_node="one").add_node("one", lambda _: {"one": 1})
    assert data(engine, graph) == {"one": 1}
    graph.add_node("two", lambda _: {"two": 2}).add_edge("one", "two")
    assert data(engine, graph) == {"one": 1, "two": 2}


def test_a_failing_node_fails_the_run(engine: WorkflowEngine) -> None:
    def fails(state: WorkflowState) -> None:
        raise ValueError(state["why"])

    result = run(engine, chain("fails", fails), {"why": "because"})
    assert (result["status"], result["error"]["code"], result["error"]["node"]) == ("failed", "error", "n0")
    assert (result["error"]["type"], result["error"]["message"]) == ("ValueError", "because")
    assert result["final_state"]["data"] == {"why": "because"}


def test_wrong_graphs_are_told_when_they_are_registered(engine: WorkflowEngine) -> None:
    def told(graph: WorkflowGraph) -> list[tuple[str, str]]:
        with pytest.raises(InvalidInput) as wrong:
            engine.register_graph(graph)
        return [(each.path, each.code) for each in wrong.value.problems]

    assert told(WorkflowGraph("g")) == [("nodes", "no_nodes")]
    assert told(chain("g").add_edge("end", "nowhere")) == [
        ("edges[1].target", "unknown_node"),
        ("edges[1].source", "edge_from_end"),
    ]
    assert told(chain("g").add_node("island")) == [("nodes[2]", "unreachable_node")]
    assert told(chain("g", print, limits={"memory_mb": 10**6})) == [
        ("nodes[1].limits.memory_mb", "limit_above_ceiling")
    ]
    assert told(chain("g").add_node("x", function="no_such").add_edge("start", "x")) == [
        ("nodes[2].function", "unknown_function")
    ]
    broken = chain("g", print).add_node("x").add_edge("n0", "x", "state.a <")
    assert told(broken) == [("edges[2].condition", "syntax_error")]
    with pytest.raises(InvalidInput):
        engine.register_graph("graph")  # type: ignore[arg-type]


# Runs


def test_runs_from_several_event_loops_and_at_one_time(engine: WorkflowEngine) -> None:
    graph = chain("square", lambda state: {"out": state["in"] ** 2})
    assert data(engine, graph, {"in": 2})["out"] == 4
    assert data(engine, graph, {"in": 3})["out"] == 9

    async def several() -> list[int]:
        results = await asyncio.gather(*(engine.run(graph.graph_id, {"in": number}) for number in range(8)))
        return [result["final_state"]["data"]["out"] for result in results]

    assert asyncio.run(several()) == [number**2 for number in range(8)]


def test_starting_watching_and_waiting(engine: WorkflowEngine) -> None:
    def process(state: WorkflowState) -> None:
        print("hello", state["name"])  # noqa: T201 - what is followed
        state["done"] = True

    graph = chain("hello", process)

    async def main() -> None:
        await asyncio.to_thread(engine.register_graph, graph)
        run_id = await engine.start_run(graph.graph_id, {"name": "you"})
        records = [record async for record in engine.follow(run_id)]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert [(record["node"], record["message"]) for record in records if record["kind"] == "log"] == [
            ("n0", "hello you")
        ]
        assert records[-1]["final"]
        result = await engine.wait(run_id)
        assert result["final_state"]["data"] == {"name": "you", "done": True}
        status = await engine.status(run_id)
        assert status["status"] == "completed"
        assert status["graph_id"] == result["graph_id"] == graph.graph_id
        assert [each["node"] for each in status["node_runs"]] == ["start", "n0", "end"]
        async for record in engine.follow(run_id, after=2):
            assert record["seq"] == 3
            break
        with pytest.raises(Conflict):
            await engine.cancel(run_id)

    asyncio.run(main())


class Gate:
    """A node that waits, and tells that it does."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, _state: WorkflowState) -> None:
        self.entered.set()
        self.opened.wait(20)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def test_cancelling_the_task_cancels_the_run(engine: WorkflowEngine, gate: Gate) -> None:
    graph = chain("waits", gate)
    engine.register_graph(graph)

    async def main() -> str:
        task = asyncio.create_task(engine.run(graph.graph_id))
        await gate.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await last_status(engine)

    assert asyncio.run(main()) == "cancelled"


async def last_status(engine: WorkflowEngine) -> str:
    async def latest(host: Any) -> str:  # noqa: ANN401 - the platform
        page = await host.store.list_runs(limit=1)
        return str(page.items[0].status)

    return await engine._background.result(latest)


def test_a_run_that_takes_too_long_is_cancelled(engine: WorkflowEngine, gate: Gate) -> None:
    graph = chain("waits", gate)
    engine.register_graph(graph)

    async def main() -> str:
        with pytest.raises(TimeoutError, match=r"took longer than 0\.2 s and was cancelled"):
            await engine.run(graph.graph_id, timeout_s=0.2)
        return await last_status(engine)

    assert asyncio.run(main()) == "cancelled"


def test_giving_up_to_wait_leaves_the_run_alone(engine: WorkflowEngine, gate: Gate) -> None:
    graph = chain("waits", gate)
    engine.register_graph(graph)

    async def main() -> None:
        run_id = await engine.start_run(graph.graph_id)
        with pytest.raises(TimeoutError, match=r"goes on after 0\.1 s"):
            await engine.wait(run_id, timeout_s=0.1)
        assert (await engine.status(run_id))["status"] == "running"
        assert (await engine.cancel(run_id))["status"] == "cancelled"
        assert (await engine.wait(run_id))["status"] == "cancelled"

    asyncio.run(main())


def test_what_does_not_exist(engine: WorkflowEngine) -> None:
    async def main() -> None:
        with pytest.raises(NotFound) as graph:
            await engine.run("nothing")
        assert graph.value.code == "graph_not_found"
        for ask in (engine.status, engine.wait, engine.cancel):
            with pytest.raises(NotFound) as missing:
                await ask("run_0")
            assert missing.value.code == "run_not_found"
        with pytest.raises(NotFound):
            _ = [record async for record in engine.follow("run_0")]

    asyncio.run(main())


# States to start with


def test_a_state_is_copied_as_json(engine: WorkflowEngine) -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    given = {"t": (1, Text("x")), "n": Number(3), "d": {"a": [None, True, 1.5]}}
    assert data(engine, chain("as is"), {**given}) == {"t": [1, "x"], "n": 3, "d": {"a": [None, True, 1.5]}}
    assert asyncio.run(engine.run(engine.register_graph(chain("as is")), WorkflowState({"a": 1})))["final_state"][
        "data"
    ] == {"a": 1}


endless: list[object] = []
endless.append(endless)


@pytest.mark.parametrize(
    ("state", "path", "code"),
    [
        ([1], "initial_state", "wrong_type"),
        ("text", "initial_state", "wrong_type"),
        ({"a": {"b": [0, {1, 2}]}}, "initial_state.a.b[1]", "not_json"),
        ({"a": {5: 1}}, "initial_state.a", "not_json"),
        ({"a": endless}, "initial_state.a" + "[0]" * 64, "state_too_deep"),
        ({"a": 2**63}, "initial_state.a", "integer_out_of_range"),
        ({"a": float("nan")}, "initial_state.a", "number_not_finite"),
        ({"a": "\ud800"}, "initial_state.a", "invalid_text"),
        ({str(number): 0 for number in range(10_001)}, "initial_state", "too_many_keys"),
        ({"a": "x" * 5_000_000}, "initial_state", "state_too_large"),
    ],
)
def test_wrong_states_are_told(engine: WorkflowEngine, state: Any, path: str, code: str) -> None:  # noqa: ANN401
    graph_id = engine.register_graph(chain("as is"))
    with pytest.raises(InvalidInput) as wrong:
        asyncio.run(engine.run(graph_id, state))
    assert (wrong.value.problems[0].path, wrong.value.problems[0].code) == (path, code)


# An engine's life


def test_an_engine_closes_what_it_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    graph = chain("waits", gate)

    async def main() -> None:
        async with WorkflowEngine(sandbox="inprocess") as engine:
            await asyncio.to_thread(engine.register_graph, graph)
            assert len(list(tmp_path.iterdir())) == 1  # noqa: ASYNC240
            running = asyncio.create_task(engine.run(graph.graph_id))
            await gate.reached()
        with pytest.raises(Unavailable) as closed:
            await running
        assert closed.value.code == "engine_closed"
        with pytest.raises(Unavailable):
            await engine.run(graph.graph_id)
        with pytest.raises(Unavailable):
            engine.register_graph(graph)
        engine.close()

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_was_never_used_starts_nothing() -> None:
    with WorkflowEngine() as engine:
        assert engine._background._thread is None


def test_a_folder_keeps_runs(tmp_path: Path) -> None:
    with WorkflowEngine(sandbox="inprocess", data_dir=tmp_path) as engine:
        result = run(engine, chain("kept", lambda _: {"a": 1}))
        with WorkflowEngine(sandbox="inprocess", data_dir=str(tmp_path)) as second, pytest.raises(ConfigurationError):
            second.register_graph(chain("other"))
    with WorkflowEngine(sandbox="inprocess", settings=load_settings(data_dir=tmp_path)) as later:
        assert asyncio.run(later.wait(result["run_id"]))["final_state"]["data"] == {"a": 1}
        with pytest.raises(NotFound):
            asyncio.run(later.run(result["graph_id"]))


def test_an_engine_has_a_deployment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDGRAPH_DEPLOYMENT", "server")
    monkeypatch.setenv("SANDGRAPH_WORKER_SLOTS", "7")
    assert WorkflowEngine()._settings.deployment == ""
    assert WorkflowEngine()._settings.worker_slots == 7
    assert WorkflowEngine(deployment="mine")._settings.deployment == "mine"
    assert WorkflowEngine(settings=load_settings(deployment="mine"))._settings.deployment == "mine"


def test_arguments_that_make_no_engine() -> None:
    with pytest.raises(InvalidInput, match="'docker' or 'inprocess', not 'none'"):
        WorkflowEngine(sandbox="none")
    with pytest.raises(ConfigurationError, match="worker_slot"):
        WorkflowEngine(worker_slot=3)
    with pytest.raises(ConfigurationError, match="either settings or"):
        WorkflowEngine(settings=load_settings(), worker_slots=3)


def test_without_docker_every_use_says_so() -> None:
    with WorkflowEngine(docker_host="tcp://127.0.0.1:1") as engine:
        for _ in range(2):
            with pytest.raises(EngineUnavailable):
                engine.register_graph(chain("g"))
        with pytest.raises(EngineUnavailable):
            asyncio.run(engine.status("run_0"))


def test_functions_without_source_are_told_where_docker_needs_it() -> None:
    names: dict[str, Any] = {}
    exec("def process(state): state['a'] = 1\ndef helper(): pass", names)
    tool(name="not a name")(names["helper"])
    tool(names["helper"])
    graph = chain("g", names["process"]).add_node("x", print).add_edge("start", "x")
    with WorkflowEngine() as engine, pytest.raises(InvalidInput) as wrong:
        engine.register_graph(graph)
    assert [(each.path, each.code) for each in wrong.value.problems] == [
        ("nodes[1].function", "source_not_capturable"),
        ("nodes[3].function", "source_not_capturable"),
        ("tools.helper", "source_not_capturable"),
        ("tools.not a name", "invalid_name"),
    ]
    assert "The function 'process' cannot be taken to a sandbox: it was defined in <string>" in wrong.value.message
    graph = chain("g", names["process"])
    with WorkflowEngine(sandbox="inprocess") as trusting:
        assert data(trusting, graph) == {"a": 1}


def test_it_says_that_there_are_no_sandboxes(caplog: pytest.LogCaptureFixture) -> None:
    from sandgraph.embedded.host import say_that_there_are_no_sandboxes  # noqa: PLC0415

    say_that_there_are_no_sandboxes.cache_clear()
    for _ in range(2):
        WorkflowEngine(sandbox="inprocess")
    assert sum("trusted code" in record.message for record in caplog.records) == 1


def test_an_engine_that_is_forgotten_stops() -> None:
    engine = WorkflowEngine(sandbox="inprocess")
    engine.register_graph(chain("g"))
    thread = engine._background._thread
    assert thread is not None
    del engine
    deadline = time.monotonic() + 10
    while not thread.has_ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert thread.has_ended
