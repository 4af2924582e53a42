"""Transactions, on both databases."""

from __future__ import annotations

import asyncio
import threading

import pytest
from places import Place
from sqlalchemy.exc import IntegrityError, ProgrammingError

from sandgraph.errors import ConfigurationError, Unavailable
from sandgraph.model.commands import RecordCommit, RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import LogLine, NodeRunKey, RunStatus
from sandgraph.model.state import StateDiff
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def test_foreign_keys_hold(store: Store, run_id: str) -> None:
    with pytest.raises(IntegrityError):
        await store.apply(run_id, [RecordCommit(1, (0,), StateDiff(), NodeRunKey("no attempt"), 1)])
    assert (await store.run(run_id)).last_seq == 2


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(Unavailable, match=r"read-?only"):
        await store._database.read(lambda connection: connection.exec_driver_sql("DELETE FROM run"))


async def test_what_was_stored_is_there_after_closing(place: Place, graph: Graph) -> None:
    store = await place.open()
    function, _ = await store.save_code(CodeKind.FUNCTION, "work", "…")
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {"n": 1}, functions={"work": function}, tools={}, image="image")
    await store.append_logs(run.run_id, NodeRunKey("work"), 1, [LogLine("stdout", 0.0, "hello")])
    seen = (await store.run(run.run_id), await store.journal(run.run_id), await store.run_code(run.run_id))
    await store.close()
    again = await place.open()
    try:
        assert await again.save_graph(graph) == (version, False)
        found = (await again.run(run.run_id), await again.journal(run.run_id), await again.run_code(run.run_id))
        assert found == seen
    finally:
        await again.close()


async def test_a_second_process_is_refused_until_the_first_is_gone(place: Place) -> None:
    first = await place.open("the first")
    with pytest.raises(ConfigurationError, match=r"in use by another Sandgraph process \((\d+|the first)\)"):
        await place.open()
    assert await first.count_runs() == 0
    await first.close()
    await (await place.open()).close()


async def test_closing_finishes_what_was_begun_and_can_be_repeated(place: Place, graph: Graph) -> None:
    store = await place.open()
    writes = [asyncio.create_task(store.save_code(CodeKind.FUNCTION, f"f{i}", "…")) for i in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert all(created for _, created in await asyncio.gather(*writes))
    for call in (store.save_graph(graph), store.count_runs()):
        with pytest.raises(Unavailable) as closed:
            await call
        assert closed.value.code == "store_unavailable"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandgraph-store")]


async def test_a_caller_that_is_cancelled_leaves_no_half_of_a_step(store: Store, run_id: str) -> None:
    release = threading.Event()
    blocking = asyncio.create_task(store._database.write(lambda _: release.wait(10)))
    step = asyncio.create_task(store.apply(run_id, [RecordRun(RunStatus.WAITING), RecordRun(RunStatus.RUNNING)]))
    await asyncio.sleep(0.01)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert (await store.run_summary(run_id)).last_seq == 2
    release.set()
    assert await blocking
    # What was handed in happens, as a whole and in its turn.
    await store.apply(run_id, [RecordRun(RunStatus.WAITING)])
    assert [record.status for record in await store.journal(run_id, after=2)] == ["waiting", "running", "waiting"]


async def test_work_that_fails_leaves_the_connection_usable(store: Store) -> None:
    for _ in range(10):
        with pytest.raises((Unavailable, ProgrammingError), match="nothing"):
            await store._database.write(lambda connection: connection.exec_driver_sql("SELECT * FROM nothing"))
    assert (await store.save_code(CodeKind.TOOL, "t", "…"))[1]
