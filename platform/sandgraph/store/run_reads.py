"""The store's methods that read runs and what they did."""

from __future__ import annotations

from datetime import datetime

from sandgraph.model.run import RunStatus
from sandgraph.store import (
    checkpoints,
    commits,
    journal,
    leases,
    logs,
    node_runs,
    received_events,
    run_events,
    run_lists,
    run_states,
    runs,
)
from sandgraph.store.database import Database
from sandgraph.store.filters import ALL_RUNS, RunFilter, RunSort
from sandgraph.store.known import Known
from sandgraph.store.records import (
    Checkpoint,
    CodeVersion,
    CommitRecord,
    JournalRecord,
    LogPage,
    LogQuery,
    NodeRunRecord,
    Page,
    ReceivedEvent,
    RunRecord,
    RunState,
    RunSummary,
    Standing,
    StoredEvent,
    TailPage,
)


class RunReads:
    """What reads runs; part of `Store`."""

    def __init__(self, database: Database, known: Known) -> None:
        self._database = database
        self._known = known

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

    async def standing(self, run_id: str, *, after: int = 0, limit: int, tenant: str | None = None) -> Standing:
        """Return a run, a page of its node runs in order of their start, and those in progress.

        Args:
            run_id: The run.
            after: The ``first_seq`` of the last node run that was seen.
            limit: The most of the page.
            tenant: Whose it is to be; without it, anybody's.

        Raises:
            NotFound: There is none of that id.
        """
        found = await self._database.read(run_states.standing, run_id, tenant, after, limit)
        self._known.tenants.keep(run_id, found.run.tenant)
        return found

    async def state(self, run_id: str, at: int | None, *, tenant: str | None = None) -> tuple[RunSummary, RunState]:
        """Return a run and its state by now, or that of checkpoint ``at``.

        Args:
            run_id: The run.
            at: The checkpoint; without it the final state, or in a run in flight what all branches did so far.
            tenant: Whose it is to be; without it, anybody's.

        Raises:
            NotFound: There is none of that id, or it has no such checkpoint.
        """
        return await self._database.read(run_states.state, run_id, tenant, at)

    async def tenant_of(self, run_id: str) -> str:
        """Return whose a run is.

        Raises:
            NotFound: There is none of that id.
        """
        tenant = self._known.tenants.get(run_id)
        if tenant is None:
            tenant = (await self.run_summary(run_id)).tenant
            self._known.tenants.keep(run_id, tenant)
        return tenant

    async def run_code(self, run_id: str) -> tuple[dict[str, CodeVersion], dict[str, CodeVersion]]:
        """Return the functions and the tools that a run pinned, by name.

        Raises:
            NotFound: There is no run of that id.
        """
        pinned = self._known.pinned.get(run_id)
        return await self._database.read(runs.pinned_code, run_id) if pinned is None else pinned

    async def list_runs(
        self,
        where: RunFilter = ALL_RUNS,
        *,
        sort: RunSort = RunSort.NEWEST,
        cursor: str | None = None,
        limit: int = 100,
        tenant: str | None = None,
    ) -> Page[RunSummary]:
        """Return runs, of one tenant or of all, in the order of ``sort``, which a cursor holds to.

        A page may be shorter than ``limit``, and even empty, before the list's end.
        """
        return await self._database.read(run_lists.page, tenant, where, sort, cursor, limit)

    async def count_runs(self, *statuses: RunStatus) -> int:
        """Count the runs of these statuses; without any, all."""
        return await self._database.read(runs.count, *statuses)

    async def graph_load(self, tenant: str, graph_name: str) -> int:
        """Count the runs of a graph, of any version, that were begun and have not ended."""
        return await self._database.read(runs.load, tenant, graph_name)

    async def due_runs(self, at: datetime) -> list[str]:
        """Return the ids of the parked runs that are to go on by then, first those that have been due for longest."""
        return await self._database.read(leases.due, at)

    async def next_wake(self) -> datetime | None:
        """Return when the next parked run is to go on; None where none waits for a time."""
        return await self._database.read(leases.next_wake)

    # What a run did

    async def run_events(self, run_id: str, *, after: int = 0, limit: int = 64) -> list[StoredEvent]:
        """Return what a run was told after event ``after``, at most ``limit``."""
        return await self._database.read(run_events.read, run_id, after, limit)

    async def untold_events(self, run_id: str) -> list[ReceivedEvent]:
        """Return the events that somebody sent a run and that it was not told yet, in the order they came in.

        Raises:
            NotFound: There is no run of that id.
        """
        if self._known.has_no_mail(run_id):
            return []
        return await self._database.read(received_events.untold, run_id)

    async def journal(self, run_id: str, *, after: int = 0, limit: int = 500) -> list[JournalRecord]:
        """Return the events and log lines that follow number ``after``, at most ``limit``.

        Where lines are kept no more, their numbers are missing, and a page may have none.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(journal.read, run_id, after, limit)

    async def tail(self, run_id: str, *, after: int, limit: int) -> TailPage:
        """Return the records among the ``limit`` numbers that follow ``after``, and where the run stands.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(logs.tail, run_id, after, limit)

    async def log(self, run_id: str, query: LogQuery) -> LogPage:
        """Return a page of what a run printed; the work for one page is bounded, so that it may be empty.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(logs.page, run_id, query)

    async def node_runs(self, run_id: str) -> list[NodeRunRecord]:
        """Return a run's node runs in order of start, with their attempts.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(node_runs.read, run_id)

    async def commits(self, run_id: str, *, upto: int | None = None) -> list[CommitRecord]:
        """Return a run's commits by number, up to ``upto`` and with it.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(commits.upto, run_id, upto)

    async def commit(self, run_id: str, number: int) -> CommitRecord:
        """Return a commit.

        Raises:
            NotFound: There is no run of that id, or it has no such commit.
        """
        return await self._database.read(commits.get, run_id, number)

    async def history(
        self,
        run_id: str,
        *,
        scope: str | None = None,
        node: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[CommitRecord]:
        """Return a run's commits by number, of one scope or node or of all.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.read(commits.page, run_id, scope, node, cursor, limit)

    async def checkpoint(self, run_id: str, at: int) -> Checkpoint:
        """Return the state after commit ``at``, 0 for the initial one, and who wrote what; its cost is bounded.

        Raises:
            NotFound: There is no run of that id, or it has no such commit.
        """
        return await self._database.read(checkpoints.read, run_id, at)
