from __future__ import annotations

import pytest

from sandgraph.errors import Conflict
from sandgraph.model.commands import Command, RecordAttempt, RecordCommit, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.run import AttemptStatus, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.state import Json, SetKey, StateDiff, View
from sandgraph.store.records import RunEvent
from sandgraph.store.steps import Taken
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

KEY = NodeRunKey("work")
DIFF = StateDiff((SetKey("x", "\x00\udc80"),))
OF: dict[str, Json] = {"node": "work", "iteration": 1, "attempt": 1}
BEGINS: list[Command] = [RecordNodeRun(KEY, NodeRunStatus.RUNNING), StartAttempt(KEY, 1, View.initial({}))]
SUCCEEDS: list[Command] = [
    RecordAttempt(KEY, 1, AttemptStatus.SUCCEEDED),
    RecordCommit(1, (0,), DIFF, KEY, 1),
    RecordNodeRun(KEY, NodeRunStatus.SUCCEEDED),
]


async def test_what_a_run_was_told_is_kept_and_its_commit_has_the_diff(store: Store, run_id: str) -> None:
    begun, done = RunEvent(1, {"type": "begins"}), RunEvent(2, {"type": "done", "list": [1.5, None], **OF})
    await store.apply(run_id, BEGINS, told=begun)
    await store.apply(run_id, SUCCEEDS, told=done)
    first, second = await store.run_events(run_id)
    assert (first.number, first.document, first.commit, first.diff) == (1, begun.document, None, StateDiff())
    assert (second.number, second.document, second.commit, second.diff) == (2, done.document, 1, DIFF)
    assert second.at == (await store.commits(run_id))[0].created_at or second.at >= first.at
    assert await store.run_events(run_id, after=1) == [second]
    assert await store.run_events(run_id, limit=1) == [first]
    assert await store.run_events("run_nowhere") == []


async def test_a_step_that_is_stored_is_not_stored_again(store: Store, run_id: str) -> None:
    last = await store.apply(run_id, BEGINS, told=RunEvent(1, {"type": "begins"}))
    for _ in range(2):
        assert await store.apply(run_id, BEGINS, told=RunEvent(1, {"type": "begins"})) == last
    ends: list[Command] = [*SUCCEEDS, RecordRun(RunStatus.COMPLETED, state={})]
    last = await store.apply(run_id, ends, told=RunEvent(2, {"type": "ends"}))
    # Also the last one, after which nothing can be stored.
    assert await store.apply(run_id, ends, told=RunEvent(2, {"type": "ends"})) == last
    assert len(await store.journal(run_id)) == last
    assert len(await store.commits(run_id)) == 1


async def test_of_steps_of_which_the_first_are_stored_the_others_are(store: Store, run_id: str) -> None:
    begun = Taken(BEGINS, RunEvent(1, {"type": "begins"}))
    told = [RunEvent(2, {"type": "done", **OF}), RunEvent(3, {"type": "ends"})]
    last = await store.apply_all(run_id, [begun])
    steps = [begun, Taken(SUCCEEDS, told[0]), Taken([RecordRun(RunStatus.COMPLETED, state={})], told[1])]
    assert await store.apply_all(run_id, steps) == last + 4
    assert [(each.number, each.commit) for each in await store.run_events(run_id)] == [(1, None), (2, 1), (3, None)]
    assert len(await store.journal(run_id)) == last + 4
    with pytest.raises(Conflict) as refused:
        await store.apply_all(run_id, [*steps[:2], Taken(BEGINS, RunEvent(3, {"type": "begins"}))])
    assert refused.value.code == "event_conflict"


async def test_who_tells_a_run_something_else_meanwhile_is_refused(store: Store, run_id: str) -> None:
    last = await store.apply(run_id, BEGINS, told=RunEvent(1, {"type": "begins"}))
    with pytest.raises(Conflict) as refused:
        await store.apply(run_id, SUCCEEDS, told=RunEvent(1, {"type": "done"}))
    assert refused.value.code == "event_conflict"
    assert (await store.run(run_id)).last_seq == last


async def test_a_step_that_cannot_be_stored_leaves_no_event(store: Store, run_id: str) -> None:
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})])
    with pytest.raises(Conflict) as refused:
        await store.apply(run_id, BEGINS, told=RunEvent(1, {"type": "begins"}))
    assert refused.value.code == "run_ended"
    assert await store.run_events(run_id) == []
