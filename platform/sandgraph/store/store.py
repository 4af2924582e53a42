"""The store: everything Sandgraph keeps, behind one asyncio face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sandgraph.model.commands import Command, RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, LogLine, NodeRunKey, RunStatus, Usage
from sandgraph.model.state import Json
from sandgraph.store import code as code_versions
from sandgraph.store import graphs, journal, recovery, run_events, runs, steps
from sandgraph.store.database import Database
from sandgraph.store.records import (
    CodeKind,
    CodeVersion,
    CommitRecord,
    GraphVersion,
    JournalRecord,
    NodeRunRecord,
    Page,
    RunEvent,
    RunRecord,
    RunSummary,
    StoredEvent,
)
from sandgraph.store.runs import NewRun


class Store:
    """Everything Sandgraph keeps; make it with `open`.

    Each method is one transaction. Those that write happen in the order they were called in, and happen even if their
    caller is cancelled. All of them raise `Unavailable` where the database does not answer, and `InvalidInput` for a
    ``cursor`` that is none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, data_dir: Path) -> Store:
        """Open the store of a data folder; both are made if they are not there.

        Raises:
            ConfigurationError: The folder cannot be used, or another process uses it.
        """
        return cls(await Database.open(data_dir))

    async def close(self) -> None:
        """Finish what was begun, and let go of the folder; calls after the first do nothing."""
        await self._database.close()

    # Functions and tools

    async def save_code(self, kind: CodeKind, name: str, code: str, description: str = "") -> tuple[CodeVersion, bool]:
        """Return the version of this code, and whether it was made now.

        It was not where the latest version has this very code, and this description or none was given.
        """
        return await self._database.write(code_versions.save, kind, name, code, description)

    async def has_code(self, kind: CodeKind, name: str, code: str) -> bool:
        """Tell whether any version of the name, not only the latest, has this very code."""
        return await self._database.read(code_versions.has, kind, name, code)

    async def latest_code(self, kind: CodeKind, names: Iterable[str]) -> dict[str, CodeVersion]:
        """Return the latest version of each name; names that are not known are absent."""
        return await self._database.read(code_versions.latest_of, kind, list(names))

    async def list_code(self, kind: CodeKind, *, cursor: str | None = None, limit: int = 100) -> Page[CodeVersion]:
        """Return the latest version of each name, in the order of names."""
        return await self._database.read(code_versions.latest_page, kind, cursor, limit)

    async def all_tools(self) -> dict[str, CodeVersion]:
        """Return the latest version of every tool."""
        return await self._database.read(code_versions.all_latest, CodeKind.TOOL)

    # Graphs

    async def save_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        """Return the version of this graph, and whether it was made now.

        It was not where the latest version of its name is the same.
        """
        return await self._database.write(graphs.save, graph)

    async def graph(self, graph_id: str) -> GraphVersion:
        """Return a version of a graph.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._database.read(graphs.get, graph_id)

    async def list_graphs(
        self, *, name: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[GraphVersion]:
        """Return versions of graphs, newest first."""
        return await self._database.read(graphs.page, name, cursor, limit)

    # Runs

    async def create_run(
        self,
        graph: GraphVersion,
        initial_state: Mapping[str, Json],
        *,
        functions: Mapping[str, CodeVersion],
        tools: Mapping[str, CodeVersion],
        image: str,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
    ) -> tuple[RunRecord, bool]:
        """Accept a run, pending, and return it and whether it was made now.

        Args:
            graph: The version it executes.
            initial_state: Commit 0.
            functions: The versions it pins, by name.
            tools: The versions it pins, by name.
            image: The sandbox image it pins.
            idempotency_key: A second call with it returns the run that the first one made.
            fingerprint: Of the request that the key stands for.

        Raises:
            Conflict: The key stands for a request of another fingerprint (``idempotency_key_reused``).
        """
        new = NewRun(graph, initial_state, functions, tools, image, idempotency_key, fingerprint)
        return await self._database.write(runs.create, new)

    async def run(self, run_id: str) -> RunRecord:
        """Return a run with its states.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._database.read(runs.get, run_id)

    async def run_summary(self, run_id: str) -> RunSummary:
        """Return a run without its states, at a cost that does not depend on their size.

        Raises:
            NotFound: There is none of that id.
        """
        return await self._database.read(runs.summary, run_id)

    async def run_code(self, run_id: str) -> tuple[dict[str, CodeVersion], dict[str, CodeVersion]]:
        """Return the functions and the tools that a run pinned, by name.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(runs.pinned_code, run_id)

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        graph_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[RunSummary]:
        """Return runs, newest first."""
        return await self._database.read(runs.page, status, graph_id, cursor, limit)

    async def count_runs(self, *statuses: RunStatus) -> int:
        """Count the runs of these statuses; without any, all."""
        return await self._database.read(runs.count, *statuses)

    async def pending_runs(self, limit: int) -> list[str]:
        """Return the ids of pending runs, oldest first."""
        return await self._database.read(runs.pending, limit)

    async def apply(
        self, run_id: str, commands: Sequence[Command], *, usage: Usage | None = None, told: RunEvent | None = None
    ) -> int:
        """Store a step of the scheduler, all or nothing, and return the number of the run's last record.

        Args:
            run_id: The run.
            commands: Of one step, in its order; those that record nothing are passed over.
            usage: Of the first attempt that ends in this step.
            told: What the step follows from. With it, a step that is stored already is not stored again: whoever did
                not hear whether it was can call this again.

        Raises:
            NotFound: There is no run of that id.
            Conflict: The run has ended (``run_ended``), or was told something else under the event's number
                (``event_conflict``); nothing was stored.
        """
        return await self._database.write(steps.apply, run_id, tuple(commands), usage, told)

    async def run_events(self, run_id: str, *, after: int = 0, limit: int = 64) -> list[StoredEvent]:
        """Return what a run was told after event ``after``, at most ``limit``."""
        return await self._database.read(run_events.read, run_id, after, limit)

    async def record_usage(self, run_id: str, key: NodeRunKey, attempt: int, usage: Usage) -> None:
        """Store what an attempt used that was stopped, or came too late to count; what is known of it already stays."""
        await self._database.write(steps.record_usage, run_id, key, attempt, usage)

    async def interrupt_runs(self) -> list[str]:
        """End every run that has not ended as interrupted, and return their ids.

        For the start, before any run begins, and for the end, once nobody works on one.
        """
        # Among the writes: those that were called before may end runs.
        found = await self._database.write(recovery.in_flight)
        return [run_id for run_id in found if await self._database.write(recovery.interrupt, run_id)]

    async def hand_back_runs(self) -> list[str]:
        """Mark every run in progress as interrupted until `resume_run`, and return those and the pending ones.

        For the start and the end, as `interrupt_runs`. Runs whose events were not stored are interrupted for good.

        Returns:
            The ids of the runs that wait for their turn, oldest first.
        """
        for run_id in await self._database.write(recovery.in_progress):
            await self._database.write(recovery.hand_back, run_id)
        return await self._database.write(recovery.in_line)

    async def resume_run(self, run_id: str, limit: int, image: str) -> bool:
        """Count one more recovery of an interrupted run, call it running, and tell whether it goes on.

        Args:
            run_id: The run.
            limit: Recoveries that it may have; with more it fails (``too_many_recoveries``).
            image: The sandbox image it goes on with; the journal tells where it is not the one that it pinned.
        """
        return await self._database.write(recovery.resume, run_id, limit, image)

    async def give_up_run(self, run_id: str, failure: Failure) -> bool:
        """Fail a run that nobody works on, with all that was in progress in it; tell whether it had not ended."""
        return await self._database.write(recovery.end, run_id, RecordRun(RunStatus.FAILED, failure))

    # What a run did

    async def append_logs(self, run_id: str, key: NodeRunKey, attempt: int, lines: Sequence[LogLine]) -> int:
        """Store lines that an attempt printed, and return the number of the run's last record.

        Lines that come once the run has ended are dropped: the record of its end is the last.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.write(journal.append_logs, run_id, key, attempt, tuple(lines))

    async def journal(self, run_id: str, *, after: int = 0, limit: int = 500) -> list[JournalRecord]:
        """Return the events and log lines that follow number ``after``, at most ``limit``; none once there are no more.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(journal.read, run_id, after, limit)

    async def node_runs(self, run_id: str) -> list[NodeRunRecord]:
        """Return a run's node runs in order of start, with their attempts.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(runs.node_runs, run_id)

    async def commits(self, run_id: str, *, upto: int | None = None) -> list[CommitRecord]:
        """Return a run's commits by number, up to ``upto`` and with it.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(runs.commits, run_id, upto)
