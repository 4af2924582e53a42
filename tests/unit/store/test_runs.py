from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sandgraph.errors import Conflict, InvalidInput, NotFound
from sandgraph.model.commands import RecordRun
from sandgraph.model.graph import Graph
from sandgraph.model.run import Failure, RunStatus
from sandgraph.model.state import Json
from sandgraph.store.filters import RunFilter
from sandgraph.store.records import CodeKind, RunEvent, RunRecord, RunSummary
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def accept(store: Store, graph: Graph, key: str | None = None, fingerprint: str | None = None) -> RunRecord:
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(
        version, {"n": 1}, functions={}, tools={}, image="image", idempotency_key=key, fingerprint=fingerprint
    )
    return run


async def test_an_accepted_run_is_pending_and_says_so(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)
    run, created = await store.create_run(version, {"n": 1}, functions={}, tools={}, image="sha256:0")
    assert created
    assert run.run_id.startswith("run_")
    assert (run.graph_id, run.graph_name, run.image) == (version.graph_id, "g", "sha256:0")
    assert (run.status, run.failure, run.last_seq, run.last_commit) == (RunStatus.PENDING, None, 1, 0)
    assert (run.initial_state, run.final_state, run.started_at, run.finished_at) == ({"n": 1}, None, None, None)
    assert await store.run(run.run_id) == run
    [record] = await store.journal(run.run_id)
    assert (record.seq, record.kind, record.type, record.status, record.node) == (1, "event", "run", "pending", None)
    assert record.ts == run.created_at


async def test_a_run_pins_the_versions_of_its_code(store: Store, graph: Graph) -> None:
    work, _ = await store.save_code(CodeKind.FUNCTION, "work", "old")
    helper, _ = await store.save_code(CodeKind.TOOL, "work", "a tool of the same name")
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={"work": work}, tools={"work": helper}, image="image")
    await store.save_code(CodeKind.FUNCTION, "work", "new")
    assert await store.run_code(run.run_id) == ({"work": work}, {"work": helper})


async def test_an_unknown_run_is_not_found_by_anything(store: Store) -> None:
    for run_id in ("run_nothing", "\ud800"):
        for asked in (
            store.run(run_id),
            store.run_summary(run_id),
            store.run_code(run_id),
            store.node_runs(run_id),
            store.commits(run_id),
            store.journal(run_id),
            store.apply(run_id, [RecordRun(RunStatus.RUNNING)]),
            store.apply(run_id, []),
        ):
            with pytest.raises(NotFound) as missing:
                await asked
            assert missing.value.code == "run_not_found"


async def test_a_run_goes_through_its_life(store: Store, graph: Graph) -> None:
    run = await accept(store, graph)
    assert await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)]) == 2
    running = await store.run(run.run_id)
    assert running.status is RunStatus.RUNNING
    assert running.started_at is not None
    assert running.finished_at is None
    failure = Failure("error", "It broke.", type="ValueError", node="work")
    assert await store.apply(run.run_id, [RecordRun(RunStatus.FAILED, failure, {"n": 2})]) == 3
    failed = await store.run(run.run_id)
    assert (failed.status, failed.failure, failed.final_state) == (RunStatus.FAILED, failure, {"n": 2})
    assert failed.started_at == running.started_at
    assert failed.finished_at is not None
    assert failed.finished_at >= running.started_at
    assert (await store.journal(run.run_id))[-1].data == {
        "error": {"code": "error", "message": "It broke.", "type": "ValueError", "node": "work"}
    }


async def test_nothing_happens_to_a_run_that_has_ended(store: Store, graph: Graph) -> None:
    run = await accept(store, graph)
    await store.apply(run.run_id, [RecordRun(RunStatus.CANCELLED, state={})])
    ended = await store.run(run.run_id)
    with pytest.raises(Conflict) as refused:
        await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])
    assert refused.value.code == "run_ended"
    assert await store.run(run.run_id) == ended


async def test_an_idempotency_key_makes_one_run(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)
    made = await asyncio.gather(
        *(
            store.create_run(
                version, {"n": i}, functions={}, tools={}, image="image", idempotency_key="key", fingerprint="same"
            )
            for i in range(5)
        )
    )
    assert len({run.run_id for run, _ in made}) == 1
    assert sum(created for _, created in made) == 1
    with pytest.raises(Conflict) as refused:
        await accept(store, graph, "key", "other")
    assert refused.value.code == "idempotency_key_reused"
    assert await store.count_runs() == 1
    other = await accept(store, graph, "other key", "same")
    assert other.run_id != made[0][0].run_id


async def test_runs_without_a_key_are_always_new(store: Store, graph: Graph) -> None:
    assert (await accept(store, graph)).run_id != (await accept(store, graph)).run_id


async def test_lists_are_newest_first_filtered_and_stable_under_inserts(store: Store, graph: Graph) -> None:
    made = [await accept(store, graph) for _ in range(5)]
    other = await accept(store, replace(graph, name="other"))
    for run in made[1], made[3], other:
        await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)])

    first = await store.list_runs(limit=2)
    assert [run.run_id for run in first.items] == [other.run_id, made[4].run_id]
    assert all(type(run) is RunSummary for run in first.items)
    await accept(store, graph)
    second = await store.list_runs(cursor=first.next_cursor, limit=10)
    assert [run.run_id for run in second.items] == [run.run_id for run in made[3::-1]]
    assert second.next_cursor is None

    running = await store.list_runs(RunFilter(statuses=frozenset({RunStatus.RUNNING})), limit=2)
    assert [run.run_id for run in running.items] == [other.run_id, made[3].run_id]
    of_graph = await store.list_runs(RunFilter(graph_id=made[0].graph_id, statuses=frozenset({RunStatus.RUNNING})))
    assert [run.run_id for run in of_graph.items] == [made[3].run_id, made[1].run_id]
    assert (await store.list_runs(RunFilter(statuses=frozenset({RunStatus.FAILED})))).items == ()
    with pytest.raises(InvalidInput):
        await store.list_runs(cursor="bm9uc2Vuc2U")


async def test_runs_are_counted(store: Store, graph: Graph) -> None:
    made = [await accept(store, graph) for _ in range(3)]
    await store.apply(made[1].run_id, [RecordRun(RunStatus.RUNNING)])
    assert await store.count_runs() == 3
    assert await store.count_runs(RunStatus.PENDING) == 2
    assert await store.count_runs(RunStatus.PENDING, RunStatus.RUNNING) == 3
    assert await store.count_runs(RunStatus.WAITING) == 0


async def test_a_summary_is_the_run_without_its_states(store: Store, graph: Graph) -> None:
    run = await accept(store, graph)
    summary = await store.run_summary(run.run_id)
    assert summary == RunSummary(**{name: getattr(run, name) for name in RunSummary.__slots__})


async def test_states_may_hold_any_json_and_be_large(store: Store, graph: Graph) -> None:
    state: dict[str, Json] = {
        "nul \x00": "\x00",
        "lone \ud800": ["\udfff"],
        "emoji": "🐍",
        "int": 2**63 - 1,
        "float": 1.0,
        "none": None,
        "big": "x" * (4 * 1024 * 1024),
    }
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, state, functions={}, tools={}, image="image")
    assert (await store.run(run.run_id)).initial_state == state
    await store.apply(run.run_id, [RecordRun(RunStatus.COMPLETED, state=state)])
    assert (await store.run(run.run_id)).final_state == state


async def test_the_load_of_a_graph_is_what_was_begun_and_has_not_ended(store: Store, graph: Graph) -> None:
    made = [await accept(store, graph) for _ in range(6)]
    other = await accept(store, replace(graph, name="other"))
    assert await store.graph_load("default", "g") == 0
    told = RunEvent(1, {"type": "started"})
    for run in (*made[:5], other):
        await store.apply(run.run_id, [RecordRun(RunStatus.RUNNING)], told=told)
    await store.apply(made[0].run_id, [RecordRun(RunStatus.WAITING)])
    await store.apply(made[1].run_id, [RecordRun(RunStatus.COMPLETED, state={})])
    assert await store.graph_load("default", "g") == 4
    await store.hand_back_runs()
    assert await store.graph_load("default", "g") == 4
    await store.interrupt_runs()
    assert (await store.graph_load("default", "g"), await store.graph_load("default", "nothing")) == (0, 0)


async def test_runs_are_found_by_what_they_failed_of(store: Store, graph: Graph) -> None:
    made = [await accept(store, graph) for _ in range(6)]
    failures = {0: "error", 2: "too_many_recoveries", 3: "too_many_recoveries", 5: "cancelled"}
    for which, code in failures.items():
        status = RunStatus.CANCELLED if code == "cancelled" else RunStatus.FAILED
        await store.apply(made[which].run_id, [RecordRun(status, Failure(code, "No."), {})])
    dead = await store.list_runs(RunFilter(failure="too_many_recoveries"), limit=1)
    assert [run.run_id for run in dead.items] == [made[3].run_id]
    dead = await store.list_runs(RunFilter(failure="too_many_recoveries"), cursor=dead.next_cursor)
    assert [run.run_id for run in dead.items] == [made[2].run_id]
    assert (await store.list_runs(RunFilter(failure="cancelled", statuses=frozenset({RunStatus.FAILED})))).items == ()
    assert len((await store.list_runs(RunFilter(failure="error", graph_id=made[0].graph_id))).items) == 1
