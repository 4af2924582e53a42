"""How far a run has come: what the scheduler keeps between two events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sandgraph.model.events import EventReceived
from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, NodeRunKey, RunStatus
from sandgraph.model.state import Json, Parents, State, View
from sandgraph.model.topology import Topology


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A valid graph, and its shape."""

    graph: Graph
    topology: Topology


@dataclass(frozen=True, slots=True)
class Active:
    """A node run in progress: its present attempt runs, or its next one is waited for.

    Attributes:
        view: What its attempts see.
        attempt: The present or next attempt.
        lost: How many of those before it were lost.
        earlier: How many of those before it do not count, as the run was reopened after them.
        lap: A loop node's iteration since it was entered; 1 elsewhere.
        is_waiting: Whether the wait before ``attempt`` is not over yet.
        is_held: Whether that wait is for the run to be unpaused.
        item: Which item of a map it is for, from 0; None elsewhere.
        asks_only: Whether the node run has made its commit, and only the conditions behind it are asked.
    """

    view: View
    attempt: int = 1
    lost: int = 0
    earlier: int = 0
    lap: int = 1
    is_waiting: bool = False
    is_held: bool = False
    item: int | None = None
    asks_only: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A node run that waits for an event, or for its time to be over.

    Attributes:
        view: What it passes on.
        event: The event's name; None where it waits for the time.
        place: Its place in the line of all waits of the run.
    """

    view: View
    event: str | None
    place: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """A map in progress; the attempts for its items are among the run's.

    Attributes:
        view: What the items' attempts see.
        size: Number of items.
        begun: How many of them were begun.
        results: Those that are done, by index.
        failures: Those that failed, by index.
    """

    view: View
    size: int
    begun: int = 0
    results: Mapping[int, Json] = field(default_factory=dict)
    failures: Mapping[int, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inner:
    """A subgraph in progress.

    Attributes:
        view: What its node saw outside.
        run: What goes on inside.
    """

    view: View
    run: Run


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
        steps: Node runs so far, start and end not counted, nor skipped ones; those inside subgraphs are.
        subgraphs: All graphs that subgraphs in it run, at any depth, by their ids.
        graph_id: Of a subgraph; None for the run's own graph.
        scope: Path of the node run that a subgraph is; empty for the run's own graph.
        waits: Node runs that wait.
        maps: Maps in progress.
        inside: Subgraphs in progress.
        mail: Events that no node run waited for yet, by name, in the order they came in.
        waited: How many waits were begun.
        is_paused: Whether nothing is to be started.
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
    subgraphs: Mapping[str, Blueprint] = field(default_factory=dict)
    graph_id: str | None = None
    scope: str = ""
    waits: Mapping[NodeRunKey, Wait] = field(default_factory=dict)
    maps: Mapping[NodeRunKey, Mapped] = field(default_factory=dict)
    inside: Mapping[NodeRunKey, Inner] = field(default_factory=dict)
    mail: Mapping[str, tuple[EventReceived, ...]] = field(default_factory=dict)
    waited: int = 0
    is_paused: bool = False

    def attempts(self) -> Iterator[tuple[NodeRunKey, Active]]:
        """Yield every node run with an attempt, or with one to come; those inside subgraphs too."""
        yield from self.active.items()
        for inner in self.inside.values():
            yield from inner.run.attempts()

    def waiting_for(self, name: str) -> Iterator[tuple[int, tuple[NodeRunKey, ...]]]:
        """Yield the place in line of each node run that waits for an event, and the way to it through subgraphs."""
        for key, wait in self.waits.items():
            if wait.event == name:
                yield wait.place, (key,)
        for key, inner in self.inside.items():
            for place, way in inner.run.waiting_for(name):
                yield place, (key, *way)
