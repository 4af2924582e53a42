"""The whole engine in this process, over sandboxes that are none: what a step costs beside what it runs."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandgraph.api.schemas import parse_graph
from sandgraph.bootstrap import Platform, open_platform
from sandgraph.model.run import RunStatus
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings
from sandgraph.store.records import CodeKind, GraphVersion, RunRecord
from sandgraph_runner.protocol import Source

_PATIENCE_S = 900.0


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph of functions that takes a counter from 0 to where it shall be in the end.

    Attributes:
        name: Of the graph.
        functions: Their sources by name; each takes the state and returns the keys that it sets.
        nodes: Nodes and their functions, in order.
        edges: Between them; where none comes in the run starts, where none goes out it ends.
        steps: Attempts of a run.
        counter: What the counter comes to.
        node: More of nodes by name, as Sandgraph's API takes it.
        graph: And of the graph.
    """

    name: str
    functions: Mapping[str, str]
    nodes: Mapping[str, str]
    edges: tuple[tuple[str, str], ...]
    steps: int
    counter: int
    node: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    graph: Mapping[str, object] = field(default_factory=dict)

    @property
    def first(self) -> list[str]:
        """Nodes that start the run."""
        return [name for name in self.nodes if name not in {target for _, target in self.edges}]

    @property
    def last(self) -> list[str]:
        """Nodes that end it."""
        return [name for name in self.nodes if name not in {source for source, _ in self.edges}]

    def document(self) -> dict[str, Any]:
        """Return it as Sandgraph's API takes it."""
        nodes = [
            {"name": name, "type": "standard", "function": function, **self.node.get(name, {})}
            for name, function in self.nodes.items()
        ]
        edges = [("start", name) for name in self.first] + list(self.edges) + [(name, "end") for name in self.last]
        return {
            "name": self.name,
            "nodes": [{"name": "start", "type": "start"}, *nodes, {"name": "end", "type": "end"}],
            "edges": [{"source": source, "target": target} for source, target in edges],
            **self.graph,
        }

    def live(self) -> dict[Source, Callable[..., Any]]:
        """Return the functions as Python has them: then no attempt has to compile them."""
        found = {}
        for name, code in self.functions.items():
            names: dict[str, Any] = {}
            exec(code, names)  # noqa: S102 - our own code
            found[Source(name, code)] = names[name]
        return found


@asynccontextmanager
async def platform_for(*workloads: Workload, **options: object) -> AsyncIterator[Platform]:
    """Open a platform without containers over a folder of its own; its database is as durable as anybody's."""
    live = {source: function for workload in workloads for source, function in workload.live().items()}
    with tempfile.TemporaryDirectory(prefix="sandgraph-bench-") as folder:
        settings = load_settings(deployment="bench", data_dir=Path(folder), **options)
        async with open_platform(settings, sandboxes=InProcessSandboxes(live)) as platform:
            yield platform


async def add(platform: Platform, workload: Workload) -> GraphVersion:
    """Store a workload's functions and its graph."""
    for name, code in workload.functions.items():
        await platform.store.save_code(CodeKind.FUNCTION, name, code)
    version, _ = await platform.store.save_graph(parse_graph(workload.document(), platform.settings))
    return version


async def run(platform: Platform, graph: GraphVersion, workload: Workload) -> RunRecord:
    """Run a graph to its end.

    Raises:
        SystemExit: It did not come to what it should; what was measured is something else.
    """
    submitted, _ = await platform.runs.submit(graph.graph_id, {"counter": 0})
    ended = await platform.runs.wait(submitted.run_id, _PATIENCE_S)
    state = ended.final_state or {}
    if ended.status is not RunStatus.COMPLETED or state.get("counter") != workload.counter:
        raise SystemExit(f"{workload.name} ended as {ended.status}: {ended.failure}, {str(state)[:200]}")
    return ended
