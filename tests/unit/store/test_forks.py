from __future__ import annotations

import time
from dataclasses import replace

import pytest
from effort import part_of

from sandgraph.errors import Conflict, NotFound
from sandgraph.model import events, topology
from sandgraph.model.commands import Command, RecordAttempt, RecordCommit, RecordNodeRun, RecordRun, StartAttempt
from sandgraph.model.event_document import to_document
from sandgraph.model.graph import Graph
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus
from sandgraph.model.scheduler import Run, step
from sandgraph.model.state import SetKey, StateDiff, View
from sandgraph.store import forks
from sandgraph.store.records import CodeKind, RunEvent
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

WORK = NodeRunKey("work")


async def new(store: Store, graph: Graph, **more: str) -> NewRun:
    version, _ = await store.save_graph(graph)
    work, _ = await store.save_code(CodeKind.FUNCTION, "work", "…")
    return NewRun(version, {"n": 0}, {"work": work}, {}, "image", more.get("idempotency_key"), more.get("fingerprint"))


def told(*happened: events.Event) -> list[RunEvent]:
    return [RunEvent(number, to_document(event)) for number, event in enumerate(happened, 1)]


@pytest.mark.parametrize("at_once", [1, 3, 500])
async def test_a_fork_is_as_if_it_had_been_told_all_of_it_itself(
    store: Store, graph: Graph, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(forks, "_AT_ONCE", at_once)
    kind = await new(store, graph)
    shape = topology.analyse(graph)
    assert isinstance(shape, topology.Topology)
    failed = events.AttemptFailed(WORK, 1, AttemptStatus.LOST, Failure("lost", "It was lost."))
    received = events.EventReceived("go", {"x": 1}, "id")
    happened: list[events.Event] = [events.RunStarted({"n": 0}), received, failed, events.RetryDue(WORK, 2)]
    original, _ = await store.create_run(kind.graph, {"n": 0}, functions=kind.functions, tools={}, image="image")
    run, every = Run(graph, shape), list[Command]()
    for event, each in zip(happened, told(*happened), strict=True):
        run, commands = step(run, event)
        every += commands
        await store.apply(original.run_id, commands, told=each)

    fork, created = await store.fork_run(
        kind, every, told(*happened), forked_from=original.run_id, forked_at=len(happened)
    )
    assert created
    assert fork.run_id > original.run_id
    assert await store.run(fork.run_id) == fork
    assert (fork.forked_from, fork.forked_at, fork.owner, fork.recoveries) == (original.run_id, 4, None, 0)
    source = await store.run(original.run_id)
    for name in ("status", "last_seq", "last_commit", "initial_state", "final_state", "image", "failure", "paused"):
        assert getattr(fork, name) == getattr(source, name), name
    assert fork.status is RunStatus.RUNNING
    assert fork.started_at == fork.created_at
    assert await store.run_code(fork.run_id) == await store.run_code(original.run_id)

    made, meant = await store.journal(fork.run_id), await store.journal(original.run_id)
    assert [replace(record, ts=fork.created_at) for record in meant] == made
    node_runs = await store.node_runs(fork.run_id)
    assert [(each.node, each.status, each.first_seq) for each in node_runs] == [
        (each.node, each.status, each.first_seq) for each in await store.node_runs(original.run_id)
    ]
    # What runs at the end of the history is still to be told as lost.
    assert [(each.attempt, each.status) for each in node_runs[-1].attempts] == [
        (1, AttemptStatus.LOST),
        (2, AttemptStatus.RUNNING),
    ]
    again = await store.run_events(fork.run_id)
    assert [(each.number, each.document) for each in again] == [
        (each.number, each.document) for each in await store.run_events(original.run_id)
    ]
    # An event that is part of the history is known, and told.
    assert await store.untold_events(fork.run_id) == []
    known, is_new = await store.receive_event(fork.run_id, "go", {"x": 1}, "id", limit=9)
    assert (known.told, is_new) == (2, False)

    lease = await store.claim_run(fork.run_id, "me")
    diff = StateDiff((SetKey("n", 1),))
    succeeded = events.AttemptSucceeded(WORK, 2, diff)
    _, commands = step(run, succeeded)
    await store.apply(fork.run_id, commands, told=RunEvent(5, to_document(succeeded)), lease=lease)
    ended = await store.run(fork.run_id)
    assert (ended.status, ended.final_state) == (RunStatus.COMPLETED, {"n": 1})
    assert (await store.run(original.run_id)) == source


async def original_of(store: Store, kind: NewRun) -> str:
    """Return the id of a run to be forked."""
    made, _ = await store.create_run(kind.graph, {"n": 0}, functions=kind.functions, tools={}, image="image")
    return made.run_id


async def test_a_forks_key_makes_one_run(store: Store, graph: Graph) -> None:
    kind = await new(store, graph, idempotency_key="key", fingerprint="same")
    original = await original_of(store, kind)
    begun = [RecordRun(RunStatus.RUNNING)]
    history = told(events.RunStarted({"n": 0}))
    first, created = await store.fork_run(kind, begun, history, forked_from=original, forked_at=1)
    assert created
    assert await store.fork_run(kind, begun, history, forked_from=original, forked_at=1) == (first, False)
    other = replace(kind, fingerprint="other")
    with pytest.raises(Conflict) as refused:
        await store.fork_run(other, begun, history, forked_from=original, forked_at=1)
    assert refused.value.code == "idempotency_key_reused"
    with pytest.raises(Conflict):
        await store.create_run(
            kind.graph, {}, functions={}, tools={}, image="i", idempotency_key="key", fingerprint="other"
        )
    assert await store.count_runs() == 2


async def test_a_run_that_has_ended_is_no_history(store: Store, graph: Graph) -> None:
    kind = await new(store, graph)
    original = await original_of(store, kind)
    ended: list[Command] = [RecordRun(RunStatus.RUNNING), RecordRun(RunStatus.COMPLETED, state={})]
    with pytest.raises(ValueError, match="ended"):
        await store.fork_run(kind, ended, [], forked_from=original, forked_at=1)
    assert await store.count_runs() == 1


async def test_ten_thousand_steps_are_stored_at_once(store: Store, graph: Graph) -> None:
    count = part_of(10_000)
    commands: list[Command] = [RecordRun(RunStatus.RUNNING)]
    view = View.initial({"n": 0})
    happened: list[events.Event] = [events.RunStarted({"n": 0})]
    for number in range(1, count + 1):
        key, diff = NodeRunKey("work", number), StateDiff((SetKey("n", number),))
        after = view.after(number, diff, alone=True)
        commands += [
            RecordNodeRun(key, NodeRunStatus.RUNNING),
            StartAttempt(key, 1, view),
            RecordAttempt(key, 1, AttemptStatus.SUCCEEDED),
            RecordCommit(number, (number - 1,), diff, key, 1, number - 1, before=view, after=after),
            RecordNodeRun(key, NodeRunStatus.SUCCEEDED),
        ]
        view = after
        happened.append(events.AttemptSucceeded(key, 1, diff))
    kind, history = await new(store, graph), told(*happened)
    original = await original_of(store, kind)
    began = time.perf_counter()
    fork, _ = await store.fork_run(kind, commands, history, forked_from=original, forked_at=count + 1)
    took = time.perf_counter() - began
    assert (fork.last_commit, fork.last_seq) == (count, 5 * count + 2)
    assert (await store.checkpoint(fork.run_id, count - 1)).state == {"n": count - 1}
    last = await store.run_events(fork.run_id, after=count)
    assert [(each.number, each.commit, each.diff) for each in last] == [
        (count + 1, count, StateDiff((SetKey("n", count),)))
    ]
    assert len((await store.standing(fork.run_id, after=5 * count - 7, limit=5)).node_runs) == 1
    # It takes a good second here, and the machine may be busy.
    assert took < 20


async def test_a_run_that_is_not_there_is_not_forked(store: Store, graph: Graph) -> None:
    kind = await new(store, graph)
    with pytest.raises(NotFound):
        await store.fork_run(kind, [RecordRun(RunStatus.RUNNING)], [], forked_from="run_a", forked_at=1)
    assert await store.count_runs() == 0
