"""A context on a thread of its own: work crosses over, and none is ever left waiting."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sandgraph import Unavailable
from sandgraph.embedded.background import Background


class World:
    """Something to be opened, and what happened to it."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.history: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.history.append("opened")
        try:
            yield threading.current_thread().name
        finally:
            await asyncio.sleep(0)
            self.history.append("closed")


async def name_of(thread: str) -> str:
    return thread


async def forever(_thread: str) -> None:
    await asyncio.Event().wait()


def test_it_opens_at_the_first_use_and_closes_once() -> None:
    world = World()
    background = Background(world.open, "world")
    assert world.history == []
    assert asyncio.run(background.result(name_of)) == "world"
    assert background.call(name_of).future.result(5) == "world"
    background.close()
    background.close()
    assert world.history == ["opened", "closed"]
    with pytest.raises(Unavailable):
        background.call(name_of)


def test_what_fails_to_open_is_opened_again_by_the_next_call() -> None:
    world = World(ValueError("one"), ValueError("two"))
    background = Background(world.open, "world")
    for said in ("one", "two"):
        with pytest.raises(ValueError, match=said):
            background.call(name_of).future.result(5)
    assert background.call(name_of).future.result(5) == "world"
    background.close()


def test_work_that_is_cancelled_before_it_began_is_not_waited_for() -> None:
    world = World()
    background = Background(world.open, "world")
    background.call(name_of).future.result(5)
    for _ in range(100):
        call = background.call(forever)
        call.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            call.future.result(5)
    background.close()


def test_closing_ends_all_work() -> None:
    world = World()
    background = Background(world.open, "world")
    calls = [background.call(forever) for _ in range(3)]
    background.close()
    for call in calls:
        with pytest.raises(Unavailable) as closed:
            call.future.result(5)
        assert closed.value.code == "engine_closed"


def test_a_cancelled_caller_waits_until_its_work_has_ended() -> None:
    world = World()
    background = Background(world.open, "world")
    began = threading.Event()

    async def work(_thread: str) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            world.history.append("work ended")

    async def main() -> None:
        task = asyncio.create_task(background.result(work))
        await asyncio.to_thread(began.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert world.history[-1] == "work ended"

    asyncio.run(main())
    background.close()
