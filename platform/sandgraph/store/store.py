"""The store: everything Sandgraph keeps, behind one asyncio face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.graph import Graph
from sandgraph.store import code as code_versions
from sandgraph.store import graphs, processes
from sandgraph.store.api_keys import ApiKeys
from sandgraph.store.database import Database, Watcher
from sandgraph.store.filters import ALL_GRAPHS, GraphFilter, NameSort
from sandgraph.store.kept_answers import KeptAnswers
from sandgraph.store.known import Known
from sandgraph.store.records import CodeKind, CodeSource, CodeVersion, GraphVersion, Page
from sandgraph.store.retention_work import RetentionWork
from sandgraph.store.run_reads import RunReads
from sandgraph.store.run_writes import RunWrites
from sandgraph.store.tenants import Tenants
from sandgraph.store.webhook_store import WebhookStore


class Store(RunWrites, RunReads, RetentionWork):
    """Everything Sandgraph keeps; make it with `open`.

    Each method is one transaction. Those that write happen in the order they were called in, and happen even if their
    caller is cancelled. All of them raise `Unavailable` where the database does not answer, and `InvalidInput` for a
    ``cursor`` that is none; those that write raise `Conflict` (``lease_lost``) once another process took the place of
    this one, which was not heard of for too long.
    """

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        database_url: str | None = None,
        process_id: str | None = None,
        takeover_after_s: float | None = None,
    ) -> Store:
        """Open the store of a data folder; both are made if they are not there.

        Args:
            data_dir: The folder.
            database_url: Of a PostgreSQL database, in the place of the folder's.
            process_id: Names this process, and no other start of it; made up without it.
            takeover_after_s: Take the folder from a process that holds it but was not heard of (see `heartbeat`) for so
                many seconds: all that it still writes is refused. Whoever gives it has to be heard of too. Without it,
                another process has to be stopped before, and nobody takes the place of this one while it lives, unless
                it begins with heartbeats.

        Raises:
            ConfigurationError: The folder cannot be used, or another process uses it.
        """
        opened = await Database.open(
            data_dir, database_url=database_url, process_id=process_id, takeover_after_s=takeover_after_s
        )
        return cls(opened, Known())

    @property
    def process_id(self) -> str:
        """What names this process in the store."""
        return self._database.process_id

    @property
    def tenants(self) -> Tenants:
        """The tenants."""
        return Tenants(self._database)

    @property
    def keys(self) -> ApiKeys:
        """The API keys of all tenants."""
        return ApiKeys(self._database)

    @property
    def answers(self) -> KeptAnswers:
        """What requests with an Idempotency-Key were answered."""
        return KeptAnswers(self._database)

    def watch(self, watcher: Watcher) -> None:
        """Have this told of each transaction, on the database's thread: kind, seconds it waited, seconds it took."""
        self._database.watcher = watcher

    @property
    def webhooks(self) -> WebhookStore:
        """The webhooks of all tenants."""
        return WebhookStore(self._database)

    async def heartbeat(self) -> None:
        """Say that this process is there still; to be called several times in the length of ``takeover_after_s``.

        Raises:
            Conflict: Another process took its place (``lease_lost``): it has to stop.
        """
        await self._database.write(processes.beat, self.process_id)

    async def close(self) -> None:
        """Finish what was begun, and let go of the folder; calls after the first do nothing."""
        await self._database.close()

    # Functions and tools

    async def save_code(
        self, kind: CodeKind, name: str, code: str, description: str = "", *, tenant: str = DEFAULT_TENANT
    ) -> tuple[CodeVersion, bool]:
        """Return the version of this code, and whether it was made now.

        It was not where the latest version has this very code, and this description or none was given.
        """
        try:
            return await self._database.write(code_versions.save, tenant, kind, name, code, description)
        finally:
            # Also where nobody knows whether it was stored.
            self._known.forget_latest()

    async def latest_code(
        self, kind: CodeKind, names: Iterable[str], *, tenant: str = DEFAULT_TENANT
    ) -> dict[str, CodeVersion]:
        """Return the latest version of each name; names that are not known are absent."""
        wanted = list(dict.fromkeys(names))
        found = self._known.latest(tenant, kind, wanted)
        if found is None:
            age = self._known.age
            found = await self._database.read(code_versions.latest_of, tenant, kind, wanted)
            self._known.keep_latest(tenant, kind, found, age)
        return found

    async def list_code(
        self,
        kind: CodeKind,
        *,
        prefix: str = "",
        sort: NameSort = NameSort.NAME,
        cursor: str | None = None,
        limit: int = 100,
        tenant: str = DEFAULT_TENANT,
    ) -> Page[CodeVersion]:
        """Return the latest version of each name that begins with ``prefix``, in the order of ``sort``.

        By time, a page may be shorter than ``limit``, and even empty, before the list's end.
        """
        return await self._database.read(code_versions.latest_page, tenant, kind, prefix, sort, cursor, limit)

    async def code_versions(
        self,
        kind: CodeKind,
        name: str,
        *,
        version: int | None = None,
        cursor: str | None = None,
        limit: int = 10,
        tenant: str = DEFAULT_TENANT,
    ) -> Page[CodeVersion]:
        """Return the versions of a name, the latest first, or the one of that number.

        Raises:
            NotFound: There is none.
        """
        return await self._database.read(code_versions.versions_page, tenant, kind, name, version, cursor, limit)

    async def all_tools(self, *, tenant: str = DEFAULT_TENANT) -> dict[str, CodeVersion]:
        """Return the latest version of every tool."""
        found = self._known.tools(tenant)
        if found is None:
            age = self._known.age
            found = await self._database.read(code_versions.all_latest, tenant, CodeKind.TOOL)
            self._known.keep_tools(tenant, found, age)
        return found

    async def install(
        self, sources: Sequence[CodeSource], documents: Iterable[Graph], *, tenant: str = DEFAULT_TENANT
    ) -> None:
        """Store all this code and these graphs at once, but for what is there already; mostly nothing is to be done.

        Of code, any version of its name may be it, and not only the latest; graphs are as for `save_graph`.
        """

        def work(connection: Connection) -> None:
            code_versions.add_missing(connection, tenant, sources)
            for document in documents:
                graphs.save(connection, tenant, document)

        try:
            await self._database.write(work)
        finally:
            self._known.forget_latest()

    # Graphs

    async def save_graph(self, graph: Graph, *, tenant: str = DEFAULT_TENANT) -> tuple[GraphVersion, bool]:
        """Return the version of this graph, and whether it was made now.

        It was not where the latest version of its name is the same.
        """
        return await self._database.write(graphs.save, tenant, graph)

    async def graph(self, graph_id: str) -> GraphVersion:
        """Return a version of a graph, whosever it is.

        Raises:
            NotFound: There is none of that id.
        """
        found = self._known.graphs.get(graph_id)
        if found is None:
            found = await self._database.read(graphs.get, graph_id)
            self._known.graphs.keep(graph_id, found)
        return found

    async def list_graphs(
        self,
        where: GraphFilter = ALL_GRAPHS,
        *,
        sort: NameSort = NameSort.NEWEST,
        cursor: str | None = None,
        limit: int = 100,
        tenant: str = DEFAULT_TENANT,
    ) -> Page[GraphVersion]:
        """Return versions of graphs in the order of ``sort``.

        With a filter, a page may be shorter than ``limit``, and even empty, before the list's end.
        """
        return await self._database.read(graphs.page, tenant, where, sort, cursor, limit)
