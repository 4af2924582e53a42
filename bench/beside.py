"""LangGraph with its SqliteSaver, in a process of its own: started by `bench.rival`, in an environment of its own.

The first line of the standard input holds the workloads and the database's file; each further line names a workload,
which is then run once. Every answer is a line of JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import uuid
from importlib.metadata import version
from typing import Any, TypedDict

# Installed only where this runs.
from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found]
from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]

#: Each checkpoint is stored before the next step begins.
_DURABILITY = "sync"


def _graph(workload: dict[str, Any]) -> Any:  # noqa: ANN401 - a class that is known only where this runs
    names: dict[str, Any] = {}
    for code in workload["functions"].values():
        exec(code, names)  # noqa: S102 - the benchmark's own code
    state = TypedDict("state", dict.fromkeys(workload["keys"], int), total=False)  # type: ignore[misc]
    graph = StateGraph(state)
    for node, function in workload["nodes"].items():
        graph.add_node(node, names[function])
    for node in workload["first"]:
        graph.add_edge(START, node)
    sources: dict[str, list[str]] = {}
    for source, target in workload["edges"]:
        sources.setdefault(target, []).append(source)
    for target, each in sources.items():
        # A list makes it wait for all of them.
        graph.add_edge(each if len(each) > 1 else each[0], target)
    for node in workload["last"]:
        graph.add_edge(node, END)
    return graph


def _answer(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until the input ends."""
    orders = json.loads(sys.stdin.readline())
    connection = sqlite3.connect(orders["database"], check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    connection.execute("PRAGMA synchronous = FULL")
    graphs = {name: _graph(workload).compile(checkpointer=saver) for name, workload in orders["workloads"].items()}
    _answer(
        {
            "langgraph": version("langgraph"),
            "saver": version("langgraph-checkpoint-sqlite"),
            "durability": _DURABILITY,
            "synchronous": connection.execute("PRAGMA synchronous").fetchone()[0],
            "journal_mode": connection.execute("PRAGMA journal_mode").fetchone()[0],
        }
    )
    for line in sys.stdin:
        graph = graphs[line.strip()]
        config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": orders["most_steps"]}
        began = time.perf_counter()
        state = graph.invoke({"counter": 0}, config, durability=_DURABILITY)
        _answer({"seconds": time.perf_counter() - began, "counter": state["counter"]})


if __name__ == "__main__":
    main()
