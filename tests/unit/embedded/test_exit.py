"""Programs that end without closing their engine end cleanly all the same."""

from __future__ import annotations

import subprocess
import sys
import time
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
engine.register_graph(graph.add_node("n", lambda state: {"a": 1}))
for _ in range(2):
    print(asyncio.run(engine.run(graph.graph_id))["status"])
""",
    "unused": "",
    "running": WAIT + "print(asyncio.run(engine.start_run(graph.graph_id))[:4])",
    "exit": WAIT + "asyncio.run(engine.start_run(graph.graph_id)); sys.exit(0)",
    "several": """
others = [WorkflowEngine(sandbox="inprocess") for _ in range(3)]
for each in others:
    each.register_graph(WorkflowGraph("g", start_node="n").add_node("n"))
""",
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


@pytest.mark.parametrize("name", ENDS)
def test_a_program_that_forgets_its_engine(name: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + ENDS[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (0, PRINTED.get(name, ""))
    assert [line for line in done.stderr.splitlines() if "trusted code" not in line] == []
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == []
