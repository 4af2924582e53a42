"""The Python API on the real engine: live functions, their source taken, run in containers."""

from __future__ import annotations

import asyncio
import functools
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandgraph import (
    InvalidInput,
    NodeType,
    WorkflowEngine,
    WorkflowGraph,
    WorkflowState,
    get_global_registry,
    tool,
    tools,
)
from sandgraph.settings import Settings

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("nothing_left")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python-api.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

STEP = 2
WORDS = re.compile("[a-z]+")


@dataclass
class Total:
    amount: int = 0

    def add(self, more: int) -> Total:
        return Total(self.amount + more * STEP)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(state: WorkflowState) -> object:
        print("into", function.__name__)  # noqa: T201 - what is followed
        return function(state)

    return wrapper


@logged
async def begin(state: WorkflowState) -> None:
    await asyncio.sleep(0)
    state["total"] = Total().add(state["input"]).amount
    state["words"] = WORDS.findall(state["text"])


def adds(amount: int) -> Callable[[WorkflowState], None]:
    def add(state: WorkflowState) -> None:
        state["counter"] = get_global_registry().invoke("plus", state.get("counter", 0), amount)

    return add


@pytest.fixture(params=["docker", "inprocess"])
def engine(
    request: pytest.FixtureRequest, engine_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkflowEngine]:
    monkeypatch.setattr(tools, "_own", {})
    own = engine_settings.model_copy(update={"data_dir": tmp_path})
    with WorkflowEngine(sandbox=request.param, settings=own) as engine:
        yield engine


def test_one_graph_with_everything_in_it(engine: WorkflowEngine) -> None:
    @tool
    def plus(one: int, other: int) -> int:
        """Add."""
        return one + other

    graph = (
        WorkflowGraph("everything", start_node="begin")
        .add_node("begin", begin)
        .add_node(
            "count", adds(3), NodeType.LOOP, condition=lambda state: state.get("counter", 0) < 5, max_iterations=9
        )
        .add_node("more", lambda state: {"doubled": state["total"] * 2})
        .add_node("never", lambda _: {"never": True})
        .add_node("end", adds(100))
        .add_edge("begin", "count")
        .add_edge("begin", "more", condition="len(state.words) == 2")
        .add_edge("begin", "never", condition=lambda state: state["total"] == 0)
        .add_edge("count", "end")
        .add_edge("more", "end")
        .add_edge("never", "end")
    )

    async def main() -> dict[str, Any]:
        await asyncio.to_thread(engine.register_graph, graph)
        run_id = await engine.start_run(graph.graph_id, {"input": 5, "text": "two words"})
        lines = [each["message"] async for each in engine.follow(run_id) if each["kind"] == "log"]
        assert lines == ["into begin"]
        return await engine.wait(run_id)

    result = asyncio.run(main())
    assert (result["status"], result["error"]) == ("completed", None)
    assert result["final_state"]["data"] == {
        "input": 5,
        "text": "two words",
        "total": 10,
        "words": ["two", "words"],
        "counter": 106,
        "doubled": 20,
    }


def test_maps_waits_subgraphs_reducers_and_what_is_done_with_runs(engine: WorkflowEngine) -> None:
    def measure(word: str, state: WorkflowState) -> int:
        return len(word) * int(state["factor"])

    def total(state: WorkflowState) -> None:
        state["total"] = sum(state["numbers"])

    def notes(text: str) -> Callable[[WorkflowState], None]:
        def note(state: WorkflowState) -> None:
            state["notes"] = [*state.get("notes", []), text]

        return note

    inner = WorkflowGraph("inner", start_node="total").add_node("total", total)
    graph = (
        WorkflowGraph("outer", start_node="measure", state={"notes": "append"}, max_concurrent_runs=5)
        .add_node("measure", measure, NodeType.MAP, items="words", into="lengths", max_concurrency=2)
        .add_node("approval", node_type=NodeType.WAIT, event="approved", into="by", timeout_s=60)
        .add_node(
            "sum",
            node_type=NodeType.SUBGRAPH,
            graph=inner,
            inputs={"numbers": "lengths"},
            outputs={"letters": "total"},
        )
        .add_node("left", notes("left"))
        .add_node("right", notes("right"))
        .add_node("end", node_type=NodeType.END)
        .add_edge("measure", "approval")
        .add_edge("approval", "sum")
        .add_edge("sum", "left")
        .add_edge("sum", "right")
        .add_edge("left", "end")
        .add_edge("right", "end")
    )

    async def main() -> None:
        await asyncio.to_thread(engine.register_graph, graph)
        run_id = await engine.start_run(graph.graph_id, {"words": ["one", "three"], "factor": 2})
        assert (await engine.pause(run_id))["paused"]
        assert (await engine.send_event(run_id, "approved", {"who": ("Ada",)}))["status"] == "accepted"
        assert not (await engine.unpause(run_id))["paused"]
        done = await engine.wait(run_id, timeout_s=60)
        assert (done["status"], done["error"]) == ("completed", None)
        assert done["final_state"]["data"] == {
            "words": ["one", "three"],
            "factor": 2,
            "lengths": [6, 10],
            "by": {"who": ["Ada"]},
            "letters": 16,
            "notes": ["left", "right"],
        }
        assert (await engine.state(run_id))["writers"]["lengths"]["node"] == "measure"
        commits = (await engine.history(run_id))["commits"]
        (left,) = (each for each in commits if each["node"] == "left")
        assert left["diff"] == [{"op": "append", "key": "notes", "value": ["left"]}]
        # Whichever of the two comes last ends the run, and nothing is left to go on with.
        first = min(each["number"] for each in commits if each["node"] in {"left", "right"})
        forked = await engine.fork(run_id, first, state={"notes": ["changed"]})
        again = await engine.wait(forked, timeout_s=60)
        assert again["status"] == "completed", again["error"]
        assert (await engine.status(forked))["forked_from"] == {"run_id": run_id, "at": first}
        assert (await engine.replay(run_id, "left"))["drift"] == []

    asyncio.run(main())


def test_cancelling_kills_the_container(engine: WorkflowEngine) -> None:
    def sleeps(_state: WorkflowState) -> None:
        print("asleep")  # noqa: T201 - what is waited for
        time.sleep(100)

    graph = WorkflowGraph("sleeps", start_node="n").add_node("n", sleeps)

    async def main() -> str:
        await asyncio.to_thread(engine.register_graph, graph)
        run_id = await engine.start_run(graph.graph_id)
        async for record in engine.follow(run_id):
            if record["message"] == "asleep":
                break
        began = time.monotonic()
        cancelled = await engine.cancel(run_id)
        assert time.monotonic() - began < 10
        return str(cancelled["status"])

    assert asyncio.run(main()) == "cancelled"


def test_a_package_that_the_image_lacks_is_told_at_registration(engine_settings: Settings, tmp_path: Path) -> None:
    def uses(state: WorkflowState) -> None:
        state["pytest"] = pytest.__version__

    own = engine_settings.model_copy(update={"data_dir": tmp_path})
    with WorkflowEngine(settings=own) as engine, pytest.raises(InvalidInput) as wrong:
        engine.register_graph(WorkflowGraph("g", start_node="n").add_node("n", uses))
    assert (wrong.value.problems[0].path, wrong.value.code) == ("nodes[0].function", "import_failed")
    assert "pytest" in wrong.value.message


def program(code: str, folder: Path, deployment: str) -> str:
    """Return what a program prints that has this code."""
    text = code.replace("WorkflowEngine()", f"WorkflowEngine(deployment={deployment!r})")
    assert text != code
    (folder / "program.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_the_pages_examples(
    code: str,
    printed: str,
    tmp_path: Path,
    deployment: Callable[[], str],
    containers_of: Callable[[str], list[object]],
) -> None:
    name = deployment()
    assert program(code, tmp_path, name) == printed
    assert containers_of(name) == []


FORGETFUL = """
import asyncio, time
from sandgraph import WorkflowEngine, WorkflowGraph

def sleeps(state):
    print("asleep")
    time.sleep(100)

async def main():
    run_id = await engine.start_run(graph.graph_id)
    async for record in engine.follow(run_id):
        if record["message"] == "asleep":
            print(record["message"])
            break

graph = WorkflowGraph("sleeps", start_node="n").add_node("n", sleeps)
engine = WorkflowEngine()
engine.register_graph(graph)
asyncio.run(main())
"""


def test_a_program_that_forgets_its_engine_leaves_no_container(
    tmp_path: Path, deployment: Callable[[], str], containers_of: Callable[[str], list[object]]
) -> None:
    name = deployment()
    began = time.monotonic()
    assert program(FORGETFUL, tmp_path, name) == "asleep\n"
    assert time.monotonic() - began < 60
    assert containers_of(name) == []
