"""How the databases find what lists ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest
from places import Place
from sqlalchemy import Connection, event

from sandgraph.model.annotations import AnnotationChange
from sandgraph.model.commands import RecordCommit, RecordNodeRun, StartAttempt
from sandgraph.model.run import LogLine, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import StateDiff, View
from sandgraph.store import cursors
from sandgraph.store.columns import now
from sandgraph.store.filters import ALL_GRAPHS, ALL_RUNS, GraphFilter, NameSort, RunFilter, RunSort
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

MOMENT = datetime(2026, 11, 23, tzinfo=UTC)


async def _ask_for_everything(store: Store, run_id: str) -> None:
    graph_id = (await store.run(run_id)).graph_id
    assert len(await store.journal(run_id, after=9_000)) == 500
    for kind in CodeKind:
        await store.list_code(kind, limit=10)
        await store.latest_code(kind, ["a", "b"])
    await store.all_tools()
    await _ask_for_lists(store, graph_id)
    await store.list_runs(RunFilter(frozenset({RunStatus.WAITING})), limit=1)
    await store.count_runs(RunStatus.PENDING, RunStatus.RUNNING)
    await store.graph_load("default", "g")
    await store.due_runs(now())
    await store.next_wake()
    await store.untold_events(run_id)
    await store.run_summary(run_id)
    await store.interrupt_runs()
    await store.node_runs(run_id)
    await store.standing(run_id, after=3, limit=5)
    for at in (None, 0, 1):
        await store.state(run_id, at)
    await store.commits(run_id, upto=3)
    await store.commit(run_id, 1)
    await store.checkpoint(run_id, 1)
    for scope in (None, "", "sub#1"):
        for node in (None, "work"):
            await store.history(run_id, scope=scope, node=node, limit=5)
    await store.run_events(run_id, after=3)
    await store.run_code(run_id)


FILTERS = (
    ALL_RUNS,
    RunFilter(frozenset({RunStatus.RUNNING})),
    RunFilter(frozenset({RunStatus.RUNNING, RunStatus.FAILED})),
    RunFilter(graph_name="g"),
    RunFilter(frozenset({RunStatus.RUNNING}), graph_name="g"),
    RunFilter(tags=("a",)),
    RunFilter(frozenset({RunStatus.RUNNING}), tags=("a", "b")),
    RunFilter(failure="too_many_recoveries"),
    RunFilter(frozenset({RunStatus.FAILED}), failure="too_many_recoveries"),
    RunFilter(paused=True),
    RunFilter(paused=False),
    RunFilter(forked_from="run_old"),
    RunFilter(created_after=MOMENT, created_before=now()),
    RunFilter(finished_after=MOMENT, finished_before=now()),
)


async def _ask_for_lists(store: Store, graph_id: str) -> None:
    """Ask for every list in every order, and for what follows something in it."""
    await store.annotate_run((await store.list_runs()).items[0].run_id, AnnotationChange(("a", "b")))
    of_graph = RunFilter(graph_id=graph_id), RunFilter(frozenset({RunStatus.RUNNING}), graph_id=graph_id)
    for where, sort in product((*FILTERS, *of_graph), RunSort):
        place = f" {MOMENT.isoformat()}" if sort.is_by_end else ""
        for cursor in (None, cursors.encode(f"runs {sort}", f"run_5{place}")):
            await store.list_runs(where, sort=sort, cursor=cursor, limit=1, tenant="default")
    graphs = ALL_GRAPHS, GraphFilter("g"), GraphFilter(prefix="g"), GraphFilter(prefix="g", latest=True)
    for graph, order in product(graphs, NameSort):
        place = " g" if order is NameSort.NAME else ""
        for cursor in (None, cursors.encode(f"graphs {order}", f"graph_5{place}")):
            await store.list_graphs(graph, sort=order, cursor=cursor, limit=1)
    for kind, prefix, order in product(CodeKind, ("", "n"), NameSort):
        is_by_name = order is NameSort.NAME
        of_list, key = (kind.value, "a") if is_by_name else (f"{kind} {order}", f"1 {MOMENT.isoformat()} a")
        for cursor in (None, cursors.encode(of_list, key)):
            await store.list_code(kind, prefix=prefix, sort=order, cursor=cursor, limit=1)
    for version in (None, 1):
        await store.code_versions(CodeKind.FUNCTION, "n", version=version)
        await store.code_versions(CodeKind.FUNCTION, "n", cursor=cursors.encode("function versions", "1"))


async def test_every_list_is_read_through_an_index(store: Store, run_id: str, place: Place) -> None:
    key = NodeRunKey("work")
    began = RecordNodeRun(key, NodeRunStatus.RUNNING), StartAttempt(key, 1, View.initial({}))
    await store.apply(run_id, [*began, RecordCommit(1, (0,), StateDiff(), key, 1, before=View.initial({}))])
    for kind in CodeKind:
        await store.save_code(kind, "n", "…")
    for _ in range(20):
        await store.append_logs(run_id, key, 1, [LogLine("stdout", 0.0, "line")] * 500)
    statements: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(store._database._backend.reader, "before_cursor_execute")
    def record(
        _connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    await _ask_for_everything(store, run_id)
    event.remove(store._database._backend.reader, "before_cursor_execute", record)

    assert len(statements) > 150
    for statement, parameters in statements:
        plan = await store._database.read(plan_of, statement, parameters)
        trouble = (wrong_on_sqlite if place.url is None else wrong_on_postgres)(plan)
        assert not trouble, f"{trouble} in {statement}:\n" + "\n".join(plan)


def plan_of(connection: Connection, statement: str, parameters: tuple[object, ...]) -> list[str]:
    """Return what a database does for a statement, a line each."""
    if connection.dialect.name == "sqlite":
        return [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    # There are few rows: it would read them all and sort them, unless an index made it needless and that were dear.
    for setting in ("enable_seqscan", "enable_sort", "enable_bitmapscan"):
        connection.exec_driver_sql(f"SET LOCAL {setting} = off")
    return [line for (line,) in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]


def wrong_on_sqlite(plan: list[str]) -> list[str]:
    # A walk along a trunk, whose length is bounded.
    of_walk = {"CO-ROUTINE chain", "MATERIALIZE chain", "SETUP", "RECURSIVE STEP", "SCAN chain"}
    found = [line for line in plan if line not in of_walk and not line.startswith("CORRELATED")]
    return [line for line in found if "TEMP B-TREE" in line or not ("INDEX" in line or "PRIMARY KEY" in line)]


def wrong_on_postgres(plan: list[str]) -> list[str]:
    return [line for line in plan if "Seq Scan" in line or "Sort" in line]
