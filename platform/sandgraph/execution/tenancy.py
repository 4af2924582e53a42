"""The platform as one tenant sees it: what others have is not there.

Whoever serves tenants gets one of these and not the parts behind it, so that no route can forget to ask whose a thing
is. Ids of other tenants fail exactly as ids that never were.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from sandgraph.errors import NotFound
from sandgraph.execution.catalog import Catalog
from sandgraph.execution.dispatcher import Dispatcher, EventReceipt
from sandgraph.execution.plans import graph_of
from sandgraph.execution.queue import Place
from sandgraph.execution.replays import Replayed
from sandgraph.model.annotations import NO_ANNOTATIONS, UNCHANGED, AnnotationChange, Annotations
from sandgraph.model.graph import Graph
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import Json, StateDiff
from sandgraph.store.filters import GraphFilter, NameSort, RunFilter, RunSort
from sandgraph.store.records import (
    CodeKind,
    CodeVersion,
    CommitRecord,
    GraphVersion,
    JournalRecord,
    LogPage,
    LogQuery,
    NodeRunRecord,
    Page,
    RunRecord,
    RunState,
    RunSummary,
    Standing,
)
from sandgraph.store.store import Store


async def own(store: Store, run_id: str, tenant: str) -> None:
    """Do nothing, unless a run is not the tenant's.

    Raises:
        NotFound: It has none of that id.
    """
    if await store.tenant_of(run_id) != tenant:
        raise NotFound("run", run_id)


class TenantCatalog:
    """A tenant's functions, tools and graphs; see `Catalog`.

    Args:
        catalog: Of all tenants.
        tenant: Whose.
    """

    def __init__(self, catalog: Catalog, tenant: str) -> None:
        self._catalog = catalog
        self._tenant = tenant

    async def register_function(self, name: str, code: str) -> tuple[CodeVersion, bool]:
        """See `Catalog.register_function`."""
        return await self._catalog.register_function(name, code, tenant=self._tenant)

    async def register_tool(self, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        """See `Catalog.register_tool`."""
        return await self._catalog.register_tool(name, code, description, tenant=self._tenant)

    async def create_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        """See `Catalog.create_graph`."""
        return await self._catalog.create_graph(graph, tenant=self._tenant)


class TenantRuns:
    """A tenant's runs; see `Dispatcher`, whose methods these are.

    Args:
        runs: Of all tenants.
        store: Knows whose a run is.
        tenant: Whose.
    """

    def __init__(self, runs: Dispatcher, store: Store, tenant: str) -> None:
        self._runs = runs
        self._store = store
        self._tenant = tenant

    async def submit(
        self,
        graph_id: str,
        initial_state: Mapping[str, Json],
        *,
        idempotency_key: str | None = None,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        """See `Dispatcher.submit`."""
        return await self._runs.submit(
            graph_id, initial_state, idempotency_key=idempotency_key, tenant=self._tenant, annotations=annotations
        )

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        """See `Dispatcher.wait`."""
        await self._own(run_id)
        return await self._runs.wait(run_id, timeout_s)

    async def annotate(self, run_id: str, change: AnnotationChange, expected: frozenset[int] | None) -> Annotations:
        """See `Dispatcher.annotate`."""
        await self._own(run_id)
        return await self._runs.annotate(run_id, change, expected)

    async def cancel(self, run_id: str) -> RunRecord:
        """See `Dispatcher.cancel`."""
        await self._own(run_id)
        return await self._runs.cancel(run_id)

    async def delete(self, run_id: str) -> None:
        """See `Dispatcher.delete`."""
        await self._own(run_id)
        await self._runs.delete(run_id)

    async def send_event(self, run_id: str, name: str, payload: Json, event_id: str | None) -> EventReceipt:
        """See `Dispatcher.send_event`."""
        await self._own(run_id)
        return await self._runs.send_event(run_id, name, payload, event_id)

    async def pause(self, run_id: str) -> RunSummary:
        """See `Dispatcher.pause`."""
        await self._own(run_id)
        return await self._runs.pause(run_id)

    async def unpause(self, run_id: str) -> RunSummary:
        """See `Dispatcher.unpause`."""
        await self._own(run_id)
        return await self._runs.unpause(run_id)

    async def fork(
        self,
        run_id: str,
        at: int,
        changes: StateDiff,
        *,
        latest: bool,
        idempotency_key: str | None,
        annotated: AnnotationChange = UNCHANGED,
    ) -> tuple[RunRecord, bool]:
        """See `Dispatcher.fork`."""
        await self._own(run_id)
        return await self._runs.fork(
            run_id,
            at,
            changes,
            latest=latest,
            idempotency_key=idempotency_key,
            tenant=self._tenant,
            annotated=annotated,
        )

    async def resume(
        self, run_id: str, *, latest: bool, idempotency_key: str | None, annotated: AnnotationChange = UNCHANGED
    ) -> tuple[RunRecord, bool]:
        """See `Dispatcher.resume`."""
        await self._own(run_id)
        return await self._runs.resume(
            run_id, latest=latest, idempotency_key=idempotency_key, tenant=self._tenant, annotated=annotated
        )

    async def replay(self, run_id: str, key: NodeRunKey, attempt: int | None) -> Replayed:
        """See `Dispatcher.replay`."""
        await self._own(run_id)
        return await self._runs.replay(run_id, key, attempt)

    async def place(self, run_id: str) -> Place | None:
        """See `Dispatcher.place`."""
        await self._own(run_id)
        return await self._runs.place(run_id)

    async def follow(self, run_id: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
        """See `Dispatcher.follow`."""
        await self._own(run_id)
        async with aclosing(self._runs.follow(run_id, after)) as batches:
            async for records in batches:
                yield records

    async def _own(self, run_id: str) -> None:
        await own(self._store, run_id, self._tenant)


class TenantReader:
    """What a tenant has stored; see `Store`, whose methods these are.

    Args:
        store: Of all tenants.
        tenant: Whose.
    """

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    async def list_code(
        self, kind: CodeKind, *, prefix: str, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        """See `Store.list_code`."""
        return await self._store.list_code(
            kind, prefix=prefix, sort=sort, cursor=cursor, limit=limit, tenant=self._tenant
        )

    async def code_versions(
        self, kind: CodeKind, name: str, *, version: int | None, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        """See `Store.code_versions`."""
        return await self._store.code_versions(
            kind, name, version=version, cursor=cursor, limit=limit, tenant=self._tenant
        )

    async def graph(self, graph_id: str) -> GraphVersion:
        """See `Store.graph`."""
        return await graph_of(self._store, graph_id, self._tenant)

    async def list_graphs(
        self, where: GraphFilter, *, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[GraphVersion]:
        """See `Store.list_graphs`."""
        return await self._store.list_graphs(where, sort=sort, cursor=cursor, limit=limit, tenant=self._tenant)

    async def run_summary(self, run_id: str) -> RunSummary:
        """See `Store.run_summary`."""
        run = await self._store.run_summary(run_id)
        if run.tenant != self._tenant:
            raise NotFound("run", run_id)
        return run

    async def list_runs(self, where: RunFilter, *, sort: RunSort, cursor: str | None, limit: int) -> Page[RunSummary]:
        """See `Store.list_runs`."""
        return await self._store.list_runs(where, sort=sort, cursor=cursor, limit=limit, tenant=self._tenant)

    async def standing(self, run_id: str, *, after: int, limit: int) -> Standing:
        """See `Store.standing`."""
        return await self._store.standing(run_id, after=after, limit=limit, tenant=self._tenant)

    async def state(self, run_id: str, at: int | None) -> tuple[RunSummary, RunState]:
        """See `Store.state`."""
        return await self._store.state(run_id, at, tenant=self._tenant)

    async def node_runs(self, run_id: str) -> Sequence[NodeRunRecord]:
        """See `Store.node_runs`."""
        await self._own(run_id)
        return await self._store.node_runs(run_id)

    async def history(
        self, run_id: str, *, scope: str | None, node: str | None, cursor: str | None, limit: int
    ) -> Page[CommitRecord]:
        """See `Store.history`."""
        await self._own(run_id)
        return await self._store.history(run_id, scope=scope, node=node, cursor=cursor, limit=limit)

    async def journal(self, run_id: str, *, after: int, limit: int) -> Sequence[JournalRecord]:
        """See `Store.journal`."""
        await self._own(run_id)
        return await self._store.journal(run_id, after=after, limit=limit)

    async def log(self, run_id: str, query: LogQuery) -> LogPage:
        """See `Store.log`."""
        await self._own(run_id)
        return await self._store.log(run_id, query)

    async def _own(self, run_id: str) -> None:
        await own(self._store, run_id, self._tenant)
