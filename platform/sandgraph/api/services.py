"""What the API needs from the rest of the house: ports, implemented in `execution` and `store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandgraph.model.graph import Graph
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json
from sandgraph.settings import Settings
from sandgraph.store.records import (
    CodeKind,
    CodeVersion,
    GraphVersion,
    JournalRecord,
    NodeRunRecord,
    Page,
    RunRecord,
    RunSummary,
)


class Catalog(Protocol):
    """Takes in functions, tools and graphs; each is checked before anything of it is stored."""

    async def register_function(self, name: str, code: str) -> tuple[CodeVersion, bool]:
        """Return the version, and whether it is new.

        Raises:
            InvalidInput: At ``name`` or ``code``.
        """

    async def register_tool(self, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        """Return the version, and whether it is new; raises as `register_function`."""

    async def create_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        """Return the version, and whether it is new.

        Raises:
            InvalidInput: At the paths of the graph's document.
        """


class RunState(Protocol):
    """A state, and where it stands in the run's history."""

    @property
    def data(self) -> Mapping[str, Json]:
        """The state."""

    @property
    def commit(self) -> int:
        """Number of the checkpoint, or of the last commit so far."""

    @property
    def conflicts(self) -> Sequence[str]:
        """Keys that branches in flight have both set."""


class Runs(Protocol):
    """Starts, watches and stops runs."""

    async def submit(
        self, graph_id: str, initial_state: Mapping[str, Json], *, idempotency_key: str | None = None
    ) -> tuple[RunRecord, bool]:
        """Accept a run and return it, and whether it is new.

        Raises:
            NotFound: There is no such graph.
            InvalidInput: At ``initial_state``.
            QueueFull: No more runs may wait.
            Conflict: The key was used for another graph or state.
        """

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        """Return the run once it ended, or as it is after that time."""

    async def cancel(self, run_id: str) -> RunRecord:
        """Cancel a run and return it; one that is cancelled already, as it is.

        Raises:
            NotFound: There is no such run.
            Conflict: It ended otherwise (``run_already_finished``).
        """

    async def state(self, run_id: str, at: int | None) -> RunState:
        """Return the state by now, or that of checkpoint ``at``.

        Raises:
            NotFound: There is no such run, or ``checkpoint``.
        """

    def follow(self, run_id: str, after: int) -> AsyncIterator[list[JournalRecord]]:
        """Yield stored records after that number in order, then live ones, up to the run's end.

        Raises:
            NotFound: There is no such run; on the first iteration.
        """


class Reader(Protocol):
    """The store, reading. Lists are newest first."""

    async def list_code(self, kind: CodeKind, *, cursor: str | None, limit: int) -> Page[CodeVersion]:
        """Return the latest version of each function or tool."""

    async def graph(self, graph_id: str) -> GraphVersion:
        """Return a graph version, or raise NotFound."""

    async def list_graphs(self, *, name: str | None, cursor: str | None, limit: int) -> Page[GraphVersion]:
        """Return graph versions, of one name or of all."""

    async def run_summary(self, run_id: str) -> RunSummary:
        """Return a run without its states, or raise NotFound."""

    async def list_runs(
        self, *, status: RunStatus | None, graph_id: str | None, cursor: str | None, limit: int
    ) -> Page[RunSummary]:
        """Return runs without their states, of one status, graph or of all."""

    async def node_runs(self, run_id: str) -> Sequence[NodeRunRecord]:
        """Return a run's node runs in order of their start."""

    async def journal(self, run_id: str, *, after: int, limit: int) -> Sequence[JournalRecord]:
        """Return records after that number, in order."""


class Health(Protocol):
    """Whether the platform can do its work."""

    async def check(self) -> Mapping[str, object]:
        """Return facts for operators.

        Raises:
            Unavailable: Something that is needed does not answer.
        """


@dataclass(frozen=True, slots=True)
class Services:
    """All that the API works with."""

    catalog: Catalog
    runs: Runs
    reader: Reader
    health: Health
    settings: Settings
