"""Runs that wait: for events, for times, for being unpaused, for their turn. Nobody works on them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.execution.forking import World, world
from tests.unit.model.graphs import graph_of, mapped, waiting

from sandgraph.errors import Conflict, InvalidInput, NotFound, Unavailable
from sandgraph.execution.queue import Place
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json

pytestmark = pytest.mark.anyio

WAITS = graph_of("start>a a>w w>b b>end", waiting("w"))
SLEEPS = graph_of("start>w w>end", waiting("w", None, 0.2))
CHAIN = graph_of("start>a a>b b>end")


async def begun(at: World, run_id: str) -> None:
    while (await at.store.run_summary(run_id)).status is RunStatus.PENDING:  # noqa: ASYNC110 - it is looked for there
        await asyncio.sleep(0.01)


async def parked(at: World, run_id: str) -> None:
    await at.waits(run_id)
    await left(at)


async def left(at: World) -> None:
    while at.runs.facts()["active_runs"]:  # noqa: ASYNC110 - the platform tells nobody
        await asyncio.sleep(0.01)


async def know(at: World) -> None:
    await at.knows(a="state['a'] = 1", b="state['b'] = 1")


# Events


async def test_a_run_that_waits_holds_nothing_until_its_event_comes(tmp_path: Path) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await know(at)
        one = await at.begun(WAITS)
        await parked(at, one)
        assert (await at.store.run_summary(one)).owner is None
        # Its turn is another's meanwhile.
        await at.ended(await at.begun(CHAIN))
        receipt = await at.runs.send_event(one, "go", {"by": "me"}, "e1")
        assert (receipt.run_id, receipt.event_id, receipt.name, receipt.is_new) == (one, "e1", "go", True)
        assert (await at.ended(one)).final_state == {"a": 1, "go": {"by": "me"}, "b": 1}
        assert not (await at.runs.send_event(one, "go", {"by": "me"}, "e1")).is_new
        with pytest.raises(Conflict) as refused:
            await at.runs.send_event(one, "go", None, "e2")
        assert refused.value.code == "run_ended"


async def test_events_are_kept_for_who_has_not_begun(tmp_path: Path) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="time.sleep(0.2); state['a'] = 1", b="state['b'] = 1")
        await at.begun(CHAIN)
        two = await at.begun(graph_of("start>v v>w w>end", waiting("v"), waiting("w", into="second")))
        for number in (1, 2):
            await at.runs.send_event(two, "go", number, None)
        assert (await at.store.run_summary(two)).status is RunStatus.PENDING
        assert (await at.ended(two)).final_state == {"go": 1, "second": 2}


@pytest.mark.parametrize("pauses", range(12))
async def test_an_event_that_comes_while_a_run_is_parked_is_taken_once(tmp_path: Path, pauses: int) -> None:
    async with world(tmp_path) as at:
        await know(at)
        run_id = await at.begun(graph_of("start>v v>w w>b b>end", waiting("v"), waiting("w", into="second")))
        for _ in range(pauses):
            await asyncio.sleep(0.002)
        await asyncio.gather(*(at.runs.send_event(run_id, "go", n, f"e{n}") for n in (1, 2)))
        assert (await at.ended(run_id)).final_state in ({"go": 1, "second": 2, "b": 1}, {"go": 2, "second": 1, "b": 1})


async def test_an_event_that_was_stored_and_not_told_is_told_after_the_next_start(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await know(at)
        run_id = await at.begun(WAITS)
        await parked(at, run_id)
        # The platform dies between storing it and telling the run.
        await at.store.receive_event(run_id, "go", 7, "e1", limit=10)
    async with world(tmp_path) as at:
        assert (await at.ended(run_id)).final_state == {"a": 1, "go": 7, "b": 1}
        assert await at.store.untold_events(run_id) == []


async def test_events_have_bounds(tmp_path: Path) -> None:
    async with world(tmp_path, max_run_events=1, max_event_kb=1) as at:
        await know(at)
        run_id = await at.begun(WAITS)
        wrongs: list[tuple[str, str, Json]] = [
            ("name", "", None),
            ("name", "x" * 129, None),
            ("payload", "go", "x" * 1023),
            ("payload", "go", [1] * 2000),
        ]
        for path, name, payload in wrongs:
            with pytest.raises(InvalidInput) as wrong:
                await at.runs.send_event(run_id, name, payload, None)
            assert [each.path for each in wrong.value.problems] == [path]
        with pytest.raises(NotFound):
            await at.runs.send_event("run_nowhere", "go", None, None)
        await at.runs.send_event(run_id, "other", None, None)
        with pytest.raises(Conflict) as refused:
            await at.runs.send_event(run_id, "go", None, None)
        assert refused.value.code == "too_many_events"


# Times


async def test_a_run_sleeps_and_is_woken(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        run_id = await at.begun(SLEEPS)
        await parked(at, run_id)
        run = await at.store.run_summary(run_id)
        assert run.wake_at is not None
        await at.ended(run_id)


async def test_a_time_goes_on_counting_while_the_platform_is_stopped(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        run_id = await at.begun(graph_of("start>w w>end", waiting("w", None, 0.5)))
        await parked(at, run_id)
    await asyncio.sleep(0.6)
    async with world(tmp_path) as at:
        await at.ended(run_id)


async def test_the_time_of_waiting_is_not_the_run_s(tmp_path: Path) -> None:
    graph = replace(graph_of("start>v v>w w>b b>end", waiting("v"), waiting("w", into="w")), timeout_s=5)
    async with world(tmp_path) as at:
        await at.knows(b="state['b'] = 1")
        one = await at.begun(replace(graph, timeout_s=0.5))
        await parked(at, one)
        await asyncio.sleep(0.8)
        await at.runs.send_event(one, "go", 1, None)
        await asyncio.sleep(0.1)
        await at.runs.send_event(one, "go", 2, None)
        assert (await at.ended(one)).final_state == {"go": 1, "w": 2, "b": 1}


async def test_a_wait_that_takes_too_long_fails_the_run(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        run = await at.ended(await at.begun(graph_of("start>w w>end", waiting("w", "go", 0.2))), RunStatus.FAILED)
        assert run.failure is not None
        assert run.failure.code == "timeout"


# Pauses


async def test_a_paused_run_ends_what_runs_and_starts_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.3); state['a'] = 1", b="time.sleep(0.5); state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await asyncio.sleep(0.1)
        for _ in range(2):
            assert (await at.runs.pause(run_id)).paused
        await parked(at, run_id)
        assert (await at.attempts(run_id)) == {"a": ["succeeded"]}
        for _ in range(2):
            assert not (await at.runs.unpause(run_id)).paused
        assert (await at.ended(run_id)).final_state == {"a": 1, "b": 1}
        for act in (at.runs.pause, at.runs.unpause):
            with pytest.raises(Conflict) as refused:
                await act(run_id)
            assert refused.value.code == "run_already_finished"
            with pytest.raises(NotFound):
                await act("run_nowhere")


async def test_a_run_that_ends_as_soon_as_it_goes_on_was_unpaused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.2); state['a'] = 1", b="state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await asyncio.sleep(0.05)
        await at.runs.pause(run_id)
        await parked(at, run_id)
        tell = at.runs._floor.tell

        async def told_and_ended(*asked: Any, **more: Any) -> None:  # noqa: ANN401 - as it is asked
            await tell(*asked, **more)
            await at.ended(run_id)

        monkeypatch.setattr(at.runs._floor, "tell", told_and_ended)
        assert (await at.runs.unpause(run_id)).status is RunStatus.COMPLETED


async def test_a_parked_run_can_be_paused_and_its_event_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await know(at)
        run_id = await at.begun(WAITS)
        await parked(at, run_id)
        assert (await at.runs.pause(run_id)).paused
        await at.runs.send_event(run_id, "go", None, None)
        await parked(at, run_id)
        assert (await at.store.run_summary(run_id)).status is RunStatus.WAITING
    async with world(tmp_path) as at:
        assert (await at.store.run_summary(run_id)).paused
        await at.runs.unpause(run_id)
        assert (await at.ended(run_id)).final_state == {"a": 1, "b": 1}


async def test_a_run_can_be_paused_before_it_begins(tmp_path: Path) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="time.sleep(0.3); state['a'] = 1", b="state['b'] = 1")
        one, two, three = [await at.begun(CHAIN) for _ in range(3)]
        assert (await at.runs.place(two), await at.runs.place(three)) == (
            Place(1, "max_active_runs"),
            Place(2, "max_active_runs"),
        )
        paused = await at.runs.pause(two)
        assert (paused.paused, paused.status) == (True, RunStatus.PENDING)
        assert await at.runs.place(two) == Place(1, "max_active_runs")
        await at.ended(one)
        await at.ended(three)
        await parked(at, two)
        assert await at.attempts(two) == {}
        await at.runs.unpause(two)
        assert (await at.ended(two)).final_state == {"a": 1, "b": 1}


@pytest.mark.parametrize("act", ["cancel", "pause"])
async def test_a_parked_run_can_be_told_though_others_have_all_turns(tmp_path: Path, act: str) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="time.sleep(1); state['a'] = 1", b="state['b'] = 1")
        run_id = await at.begun(graph_of("start>w w>b b>end", waiting("w")))
        await parked(at, run_id)
        other = await at.begun(CHAIN)
        told: Callable[[str], Awaitable[Any]] = getattr(at.runs, act)
        found = await told(run_id)
        assert found.status is (RunStatus.CANCELLED if act == "cancel" else RunStatus.WAITING)
        assert not (await at.store.run_summary(other)).is_final
        await at.runs.cancel(other)


async def test_a_run_is_not_unpaused_before_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandgraph.execution.dispatcher._PATIENCE_S", 0.1)
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="time.sleep(1); state['a'] = 1", b="state['b'] = 1")
        run_id = await at.begun(graph_of("start>w w>b b>end", waiting("w")))
        await parked(at, run_id)
        await at.runs.pause(run_id)
        await parked(at, run_id)
        other = await at.begun(CHAIN)
        with pytest.raises(Unavailable) as later:
            await at.runs.unpause(run_id)
        assert later.value.code == "run_waits_for_turn"
        await at.ended(other)
        await at.runs.send_event(run_id, "go", None, None)
        await at.ended(run_id)


# Turns


async def test_a_graph_s_runs_wait_for_each_other_and_others_pass(tmp_path: Path) -> None:
    limited = replace(WAITS, max_concurrent_runs=1)
    async with world(tmp_path) as at:
        await know(at)
        one, two = [await at.begun(limited) for _ in range(2)]
        await parked(at, one)
        assert await at.runs.place(two) == Place(1, "max_concurrent_runs")
        assert await at.runs.place(one) is None
        await at.ended(await at.begun(replace(CHAIN, name="other")))
    # It counts after a start, too.
    async with world(tmp_path) as at:
        await asyncio.sleep(0.1)
        assert await at.runs.place(two) == Place(1, "max_concurrent_runs")
        await at.runs.send_event(one, "go", None, None)
        await at.ended(one)
        await at.runs.send_event(two, "go", None, None)
        await at.ended(two)


# Leases


async def test_a_run_that_somebody_else_took_is_left_to_them(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.3); state['a'] = 1", b="state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await begun(at, run_id)
        await at.store.claim_run(run_id, "another")
        await left(at)
        run = await at.store.run_summary(run_id)
        assert (run.status, run.owner, run.last_commit) == (RunStatus.RUNNING, "another", 0)


async def test_a_platform_whose_place_was_taken_stops_and_stores_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await at.knows(a="time.sleep(0.3); state['a'] = 1", b="state['b'] = 1")
        run_id = await at.begun(CHAIN)
        await begun(at, run_id)
        await at.runs.abandon()
        assert (await at.store.run_summary(run_id)).status is RunStatus.RUNNING
        with pytest.raises(Unavailable):
            await at.begun(CHAIN)


# Together


async def test_the_results_of_a_map_are_bounded_together(tmp_path: Path) -> None:
    graph = graph_of("start>m m>end", mapped("m", 1))
    async with world(tmp_path, max_state_kb=1) as at:
        await at.knows(m="return 'x' * 400")
        small = await at.ended(await at.begun(graph, items=[1, 2]))
        assert small.final_state is not None
        run = await at.ended(await at.begun(graph, items=[1, 2, 3]), RunStatus.FAILED)
        assert run.failure is not None
        assert (run.failure.code, run.failure.message.startswith("Item 2: With this one, the results")) == (
            "result_invalid",
            True,
        )


async def test_a_pause_and_a_cancel_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        await know(at)
        for pauses in range(8):
            run_id = await at.begun(WAITS)
            for _ in range(pauses):
                await asyncio.sleep(0.003)
            await at.runs.pause(run_id)
            await at.runs.unpause(run_id)
            if pauses % 2:
                await at.runs.send_event(run_id, "go", None, None)
                await at.ended(run_id)
            else:
                assert (await at.runs.cancel(run_id)).status is RunStatus.CANCELLED


async def test_a_fork_can_be_paused_while_it_waits_for_its_turn(tmp_path: Path) -> None:
    async with world(tmp_path, max_active_runs=1) as at:
        await at.knows(a="state['a'] = 1", b="time.sleep(0.3); state['b'] = 1", c="state['c'] = 1")
        graph = graph_of("start>a a>b b>c c>end")
        old = await at.begun(graph)
        await at.ended(old)
        other = await at.begun(graph)
        new = await at.forked(old, 1)
        assert (await at.runs.place(new)) is not None
        assert (await at.runs.pause(new)).paused
        await at.ended(other)
        await parked(at, new)
        # What ran was let to its end.
        assert sorted(await at.attempts(new)) == ["a", "b"]
        await at.runs.unpause(new)
        assert (await at.ended(new)).final_state == {"a": 1, "b": 1, "c": 1}
