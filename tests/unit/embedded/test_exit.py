"""Programs that end without closing their engine end cleanly all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BEGIN = """
import asyncio, os, signal, sys, threading, time
from sandgraph import WorkflowEngine, WorkflowGraph

graph = WorkflowGraph("g", start_node="n")
engine = WorkflowEngine(sandbox="inprocess")
"""

WAIT = """
def wait(state):
    time.sleep(30)

engine.register_graph(graph.add_node("n", wait))
"""

ENDS = {
    "used": """
engines = [engine, *(WorkflowEngine(sandbox="inprocess") for _ in range(2)), WorkflowEngine()]
graph.add_node("n", lambda state: {"a": 1})
for each in engines[:3]:
    each.register_graph(graph)
for _ in range(2):
    print(asyncio.run(engine.run(graph.graph_id))["status"])
""",
    "running": WAIT + "print(asyncio.run(engine.start_run(graph.graph_id))[:4]); sys.exit()",
    "thread": """
def use():
    engine.register_graph(graph.add_node("n", lambda state: None))
    print(asyncio.run(engine.run(graph.graph_id))["status"])
thread = threading.Thread(target=use)
thread.start()
thread.join()
""",
    "interrupted": WAIT
    + """
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    asyncio.run(engine.run(graph.graph_id))
except KeyboardInterrupt:
    print("interrupted")
""",
}
PRINTED = {
    "used": "completed\ncompleted\n",
    "running": "run_\n",
    "thread": "completed\n",
    "interrupted": "interrupted\n",
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[subprocess.Popen[str], Path]]]:
    """All of them, started at one time."""
    started = {}
    for name, end in ENDS.items():
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-W", "error", "-c", BEGIN + end]
        pipe, environment = subprocess.PIPE, {"TMPDIR": str(folder)}
        started[name] = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment), folder
    yield started
    for program, _ in started.values():
        program.kill()
        program.wait()


@pytest.mark.parametrize("name", ENDS)
def test_a_program_that_forgets_its_engine(name: str, programs: dict[str, tuple[subprocess.Popen[str], Path]]) -> None:
    program, folder = programs[name]
    printed, errors = program.communicate(timeout=30)
    assert (program.returncode, printed) == (0, PRINTED[name]), errors
    assert [line for line in errors.splitlines() if "trusted code" not in line] == []
    assert list(folder.iterdir()) == []
