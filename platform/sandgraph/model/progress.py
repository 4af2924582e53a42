"""How far a run has come: what the scheduler keeps between two events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, NodeRunKey, RunStatus
from sandgraph.model.state import Parents, State, View
from sandgraph.model.topology import Topology


@dataclass(frozen=True, slots=True)
class Active:
    """A node run in progress: its present attempt runs, or its next one is waited for.

    Attributes:
        view: What its attempts see.
        attempt: The present or next attempt.
        lost: How many of those before it were lost.
        lap: A loop node's iteration since it was entered; 1 elsewhere.
        is_waiting: Whether the wait before ``attempt`` is not over yet.
    """

    view: View
    attempt: int = 1
    lost: int = 0
    lap: int = 1
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """What came along an edge.

    Attributes:
        is_taken: Whether the edge was taken.
        views: What it carries. One view where it was taken; where it was skipped, those of the nodes that decided so,
            if some edge of the graph may ask for them.
        broken_by: Where the edge's source failed or could not start, the node whose failure it was.
    """

    is_taken: bool
    views: tuple[View, ...] = ()
    broken_by: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Everything the scheduler needs to know of a run.

    Attributes:
        graph: A valid graph.
        topology: Its shape.
        status: Of the run.
        active: Node runs in progress.
        resolved: Index of each edge that resolved in the present iteration, and its token until a node takes it.
        held: Tokens on back edges and on edges that leave a loop, until the loop's iteration, or the loop, ends.
        passed: Nodes that are through with the present iteration.
        open_loops: Headers of loops that were entered and have not ended.
        iterations: Node name to the number of its node runs so far, skipped ones among them.
        ended: Views that reached an end, by node.
        stopped: Nodes other than ends that were left by no edge.
        started: Joins that started in the present iteration before all their inputs were decided.
        unneeded: Nodes that can only lead to those.
        broken: Nodes that failed, or could not start as another did, and that one; the run goes on without them.
        failure: The first of those failures.
        parents: Of the commits since the live branches parted, as far as a merge may ask about them.
        authors: Of the same commits, the nodes that made them.
        latest: The initial state with every commit applied in turn; None before the run began.
        commits: Number of the last commit.
        steps: Node runs so far, start and end not counted, nor skipped ones.
    """

    graph: Graph
    topology: Topology
    status: RunStatus = RunStatus.PENDING
    active: Mapping[NodeRunKey, Active] = field(default_factory=dict)
    resolved: Mapping[int, Token | None] = field(default_factory=dict)
    held: Mapping[int, Token] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    open_loops: frozenset[str] = frozenset()
    iterations: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, View] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()
    started: frozenset[str] = frozenset()
    unneeded: frozenset[str] = frozenset()
    broken: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    parents: Parents = field(default_factory=dict)
    authors: Mapping[int, str] = field(default_factory=dict)
    latest: State | None = None
    commits: int = 0
    steps: int = 0
