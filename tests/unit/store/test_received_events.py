from __future__ import annotations

from datetime import timedelta

import pytest

from sandgraph.errors import Conflict, NotFound
from sandgraph.model import events
from sandgraph.model.commands import RecordRun
from sandgraph.model.event_document import to_document
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json
from sandgraph.store.columns import now
from sandgraph.store.records import RunEvent
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def refusal(store: Store, run_id: str, name: str, payload: Json, event_id: str | None, limit: int = 100) -> str:
    with pytest.raises(Conflict) as refused:
        await store.receive_event(run_id, name, payload, event_id, limit=limit)
    return refused.value.code


async def test_events_wait_in_order_until_the_run_is_told(store: Store, run_id: str) -> None:
    payloads: list[Json] = [None, {"by": "\x00\udc80", "n": 1.0}, [1]]
    sent = [await store.receive_event(run_id, "approved", payload, limit=100) for payload in payloads]
    assert [(event.number, event.payload, event.told, is_new) for event, is_new in sent] == [
        (1, None, None, True),
        (2, payloads[1], None, True),
        (3, [1], None, True),
    ]
    assert len({event.event_id for event, _ in sent}) == 3
    assert await store.untold_events(run_id) == [event for event, _ in sent]

    second = sent[1][0]
    told = to_document(events.EventReceived("approved", second.payload, second.event_id))
    await store.apply(run_id, [RecordRun(RunStatus.WAITING)], told=RunEvent(1, told))
    assert [event.number for event in await store.untold_events(run_id)] == [1, 3]
    again, is_new = await store.receive_event(run_id, "approved", second.payload, second.event_id, limit=100)
    assert (again.told, is_new) == (1, False)


async def test_an_id_is_of_one_event(store: Store, run_id: str) -> None:
    first, is_new = await store.receive_event(run_id, "go\x00", {"n": 1}, "id \udc80", limit=100)
    assert is_new
    assert await store.receive_event(run_id, "go\x00", {"n": 1}, "id \udc80", limit=100) == (first, False)
    # To Python these payloads are the same.
    others: list[tuple[str, Json]] = [("go\x00", {"n": 1.0}), ("go\x00", {"n": True}), ("stop", {"n": 1})]
    for name, payload in others:
        assert await refusal(store, run_id, name, payload, "id \udc80") == "event_id_reused"
    await store.apply(run_id, [RecordRun(RunStatus.COMPLETED, state={})])
    # Who did not hear of it may ask still.
    assert await store.receive_event(run_id, "go\x00", {"n": 1}, "id \udc80", limit=100) == (first, False)


async def test_events_that_cannot_be_taken_are_refused(store: Store, run_id: str) -> None:
    for number in range(3):
        await store.receive_event(run_id, "go", None, str(number), limit=3)
    assert await refusal(store, run_id, "go", None, None, limit=3) == "too_many_events"
    assert not (await store.receive_event(run_id, "go", None, "2", limit=3))[1]
    await store.apply(run_id, [RecordRun(RunStatus.FAILED, state={})])
    assert await refusal(store, run_id, "go", None, None) == "run_ended"
    for asked in (store.receive_event("run_nothing", "go", None, limit=3), store.untold_events("run_nothing")):
        with pytest.raises(NotFound) as missing:
            await asked
        assert missing.value.code == "run_not_found"


async def test_an_event_makes_a_parked_run_due(store: Store, run_id: str) -> None:
    lease = await store.claim_run(run_id, "me")
    await store.apply(run_id, [RecordRun(RunStatus.WAITING)])
    await store.receive_event(run_id, "go", None, "1", limit=9)
    # It came in just before.
    assert not await store.park_run(run_id, lease, None)
    assert await store.due_runs(now() + timedelta(days=1)) == []
    told = to_document(events.EventReceived("go", None, "1"))
    await store.apply(run_id, [RecordRun(RunStatus.WAITING)], told=RunEvent(1, told), lease=lease)
    assert await store.park_run(run_id, lease, None)
    assert (await store.due_runs(now() + timedelta(days=1)), await store.next_wake()) == ([], None)
    event, _ = await store.receive_event(run_id, "go", None, "2", limit=9)
    assert await store.due_runs(now()) == [run_id]
    assert await store.next_wake() == event.created_at
    await store.claim_run(run_id, "me")
    assert await store.due_runs(now()) == []
