"""Lists of runs: whatever they are filtered by, right, in pages, and read through an index at a bounded cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import Connection, insert

from sandgraph.errors import InvalidInput
from sandgraph.model.annotations import Annotations
from sandgraph.model.graph import Graph
from sandgraph.model.run import RunStatus
from sandgraph.store import annotations as noted
from sandgraph.store import scans, tables
from sandgraph.store.filters import ALL_RUNS, RunFilter, RunSort
from sandgraph.store.ids import first_id
from sandgraph.store.records import RunSummary
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

BEGIN = datetime(2026, 11, 23, 12, tzinfo=UTC)
STATUSES = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.RUNNING, RunStatus.PENDING)
COUNT = 96


def fill(connection: Connection, graph_ids: Sequence[str]) -> None:
    """Store runs of all kinds, one a second, each of the same as the one 24 before."""
    for number in range(COUNT):
        created = BEGIN + timedelta(seconds=number)
        status = STATUSES[number % 4]
        has_failed, has_ended = status is RunStatus.FAILED, status.is_final
        run_id = f"{first_id('run', created)[:-4]}{number:04}"
        connection.execute(
            insert(tables.run),
            {
                "id": run_id,
                "tenant": "a" if number % 3 else "b",
                "graph_id": graph_ids[number % 2],
                "graph_name": f"g{number % 2}",
                "status": status.value,
                "failure": {"code": "error", "message": "", "node": None} if has_failed else None,
                "failure_code": "error" if has_failed else None,
                "image": "image",
                "idempotency_key": None,
                "fingerprint": None,
                "last_seq": 0,
                "last_commit": 0,
                "owner": None,
                "paused": number % 8 == 2,
                "wake_at": None,
                "forked_from": "run_old" if number % 6 == 1 else None,
                "forked_at": None,
                "created_at": created,
                "started_at": None,
                # Runs end in another order than they begin, and two at a time.
                "finished_at": BEGIN + timedelta(hours=1, seconds=(COUNT - number) // 8) if has_ended else None,
            },
        )
        tags = tuple(tag for tag, every in (("often", 2), ("seldom", 12)) if number % every == 1)
        noted.add(connection, "a" if number % 3 else "b", run_id, Annotations(tags))


@pytest.fixture
async def full(store: Store, graph: Graph) -> Store:
    versions = [await store.save_graph(graph, tenant=tenant) for tenant in ("a", "b")]
    await store._database.write(fill, [version.graph_id for version, _ in versions])
    return store


FILTERS = {
    "all": ALL_RUNS,
    "a status": RunFilter(frozenset({RunStatus.FAILED})),
    "two statuses": RunFilter(frozenset({RunStatus.FAILED, RunStatus.RUNNING})),
    "every status": RunFilter(frozenset(RunStatus)),
    "a name": RunFilter(graph_name="g1"),
    "a name and a status": RunFilter(frozenset({RunStatus.COMPLETED}), graph_name="g0"),
    "a tag": RunFilter(tags=("often",)),
    "two tags": RunFilter(tags=("often", "seldom")),
    "a tag that none has": RunFilter(tags=("often", "never")),
    "a tag and a status": RunFilter(frozenset({RunStatus.FAILED}), tags=("seldom",)),
    "a failure": RunFilter(failure="error"),
    "a failure of a name": RunFilter(failure="error", graph_name="g1"),
    "paused": RunFilter(paused=True),
    "not paused": RunFilter(paused=False),
    "forks": RunFilter(forked_from="run_old"),
    "forks with a tag": RunFilter(forked_from="run_old", tags=("often",)),
    "since": RunFilter(created_after=BEGIN + timedelta(seconds=40)),
    "until": RunFilter(created_before=BEGIN + timedelta(seconds=40)),
    "between": RunFilter(
        created_after=BEGIN + timedelta(seconds=30, microseconds=1), created_before=BEGIN + timedelta(seconds=60)
    ),
    "ended since": RunFilter(finished_after=BEGIN + timedelta(hours=1, seconds=6)),
    "ended until": RunFilter(finished_before=BEGIN + timedelta(hours=1, seconds=6)),
    "all of it": RunFilter(
        frozenset({RunStatus.FAILED}),
        graph_name="g1",
        tags=("often",),
        failure="error",
        paused=False,
        created_after=BEGIN,
    ),
}


def fits(run: RunSummary, where: RunFilter) -> bool:
    """Tell the same in other words than SQL's."""
    at, end = run.created_at, run.finished_at
    return all(
        (
            not where.statuses or run.status in where.statuses,
            where.graph_name in {None, run.graph_name},
            {*where.tags} <= {*run.annotations.tags},
            where.failure is None or (run.failure is not None and run.failure.code == where.failure),
            where.paused in {None, run.paused},
            where.forked_from in {None, run.forked_from},
            where.created_after is None or at >= where.created_after,
            where.created_before is None or at < where.created_before,
            where.finished_after is None or (end is not None and end >= where.finished_after),
            where.finished_before is None or (end is not None and end < where.finished_before),
        )
    )


def place(sort: RunSort) -> Callable[[RunSummary], tuple[object, ...]]:
    return lambda run: (run.finished_at, run.run_id) if sort.is_by_end else (run.run_id,)


async def pages(store: Store, where: RunFilter, sort: RunSort, limit: int) -> list[RunSummary]:
    found: list[RunSummary] = []
    cursor = None
    for _ in range(COUNT * 2):
        page = await store.list_runs(where, sort=sort, cursor=cursor, limit=limit, tenant="a")
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("sort", RunSort)
async def test_a_list_has_those_that_fit_in_their_order_in_pages(
    full: Store, sort: RunSort, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = (await full.list_runs(tenant="a", limit=COUNT)).items
    assert len(everything) == COUNT * 2 // 3
    for (name, where), window in product(FILTERS.items(), (7, 5_000)):
        monkeypatch.setattr(scans, "WINDOW", window)
        monkeypatch.setattr(scans, "_AT_ONCE", 5)
        wanted = sorted(
            (run for run in everything if fits(run, where) and (run.finished_at or not sort.is_by_end)),
            key=place(sort),
            reverse=sort.is_descending,
        )
        assert [run.run_id for run in await pages(full, where, sort, 4)] == [run.run_id for run in wanted], name
        assert wanted or sort.is_by_end or name == "a tag that none has", name


async def test_a_page_ends_where_too_much_was_looked_at(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "WINDOW", 10)
    monkeypatch.setattr(scans, "_AT_ONCE", 5)
    page = await full.list_runs(RunFilter(tags=("never", "often")), limit=3, tenant="a")
    assert page.items == ()
    assert page.next_cursor is not None


async def test_a_cursor_holds_to_its_order(full: Store) -> None:
    for given, other in product(RunSort, RunSort):
        cursor = (await full.list_runs(sort=given, limit=2, tenant="a")).next_cursor
        assert cursor is not None
        if given is other:
            assert (await full.list_runs(sort=other, cursor=cursor, limit=2, tenant="a")).items
        else:
            with pytest.raises(InvalidInput, match="in this order"):
                await full.list_runs(sort=other, cursor=cursor, limit=2, tenant="a")
