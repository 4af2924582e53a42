"""Pages of a list of 100,000 runs (in a hurry 25,000), on both databases."""

from __future__ import annotations

import time

import pytest
from effort import part_of
from sqlalchemy import Connection, insert, select

from sandgraph.model.run import RunStatus
from sandgraph.store import tables
from sandgraph.store.filters import RunFilter
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

RUNS = part_of(100_000)
STATUSES = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.PENDING, RunStatus.RUNNING)


def fill(connection: Connection) -> None:
    row = dict(connection.execute(select(tables.run)).mappings().one()) | {"idempotency_key": None}
    for first in range(0, RUNS, 5_000):
        rows = []
        for number in range(first, first + 5_000):
            status = STATUSES[number % len(STATUSES)]
            code = "error" if status is RunStatus.FAILED else None
            rows.append(row | {"id": f"run_0{number:025}", "status": status.value, "failure_code": code})
        connection.execute(insert(tables.run), rows)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE run")


async def test_a_page_takes_less_than_50_ms_whatever_is_asked(store: Store, run_id: str) -> None:
    graph_id = (await store.run_summary(run_id)).graph_id
    await store._database.write(fill)
    times = []
    for where in (
        RunFilter(),
        RunFilter(statuses=frozenset({RunStatus.FAILED})),
        RunFilter(graph_id=graph_id),
        RunFilter(graph_id=graph_id, statuses=frozenset({RunStatus.RUNNING})),
        RunFilter(failure="error"),
        RunFilter(graph_name="g"),
    ):
        cursor = None
        for _ in range(40):
            began = time.perf_counter()
            page = await store.list_runs(where, tenant="default", limit=100, cursor=cursor)
            times.append(time.perf_counter() - began)
            assert len(page.items) == 100
            cursor = page.next_cursor
    assert sorted(times)[round(len(times) * 0.99)] < 0.05
