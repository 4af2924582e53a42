"""Places that tenants share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import pytest

from sandgraph.execution.fairness import FairSlots, has_share

pytestmark = pytest.mark.anyio


class Crowd:
    """Tenants that want slots, and hold them until they are told to leave."""

    def __init__(self, slots: int) -> None:
        self._slots = FairSlots(slots)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}
        self.came: list[str] = []

    async def want(self, *names: str) -> None:
        """Each is a tenant's letter and a number."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._hold(name))
        await self.settle()

    async def leave(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()
        await self.settle()

    async def give_up(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self) -> None:
        await self.give_up(*self._tasks)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _hold(self, name: str) -> None:
        async with self._slots.slot(name[0]):
            self.came.append(name)
            await self._leave[name].wait()


def named(tenant: str, numbers: Iterable[int]) -> list[str]:
    return [f"{tenant}{number}" for number in numbers]


async def test_who_waits_of_the_tenant_with_the_fewest_comes_next() -> None:
    crowd = Crowd(2)
    await crowd.want(*named("a", range(4)))
    assert crowd.came == ["a0", "a1"]
    await crowd.want("b0", "b1")
    assert crowd.came == ["a0", "a1", "b0"], "its share, although both slots are taken"
    await crowd.leave("a0")
    assert crowd.came[3:] == [], "three were taken of two"
    await crowd.leave("a1")
    assert crowd.came[3:] == ["a2"], "the tenant that has none now"
    await crowd.leave("b0", "a2")
    assert crowd.came[4:] == ["b1", "a3"]
    await crowd.end()


async def test_a_slot_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    crowd = Crowd(1)
    await crowd.want("a0", "a1", "a2")
    await crowd.give_up("a1")
    await crowd.give_up("a0")
    assert crowd.came == ["a0", "a2"]
    await crowd.end()


async def test_one_that_is_given_a_slot_while_it_gives_up_passes_it_on() -> None:
    crowd = Crowd(1)
    await crowd.want("a0", "a1", "a2")
    # In one turn: the slot goes to a1, which is cancelled before it hears of it.
    await crowd.give_up("a0", "a1")
    assert crowd.came == ["a0", "a2"]
    await crowd.end()


async def test_a_flood_gets_no_more_than_everybody_else() -> None:
    slots, held, most = FairSlots(4), Counter[str](), Counter[str]()
    done: list[str] = []

    async def work(tenant: str) -> None:
        async with slots.slot(tenant):
            held[tenant] += 1
            most["all"] = max(most["all"], held.total())
            done.append(tenant)
            await asyncio.sleep(0)
            held[tenant] -= 1

    await asyncio.gather(*(work("a") for _ in range(200)), *(work("b") for _ in range(5)))
    assert most["all"] <= 8
    # The first four began before the others came.
    assert done[:14].count("b") == 5


@pytest.mark.parametrize(
    ("places", "taken", "may"),
    [
        (4, {"a": 3}, True),
        (4, {"a": 4}, False),
        (4, {"b": 4}, True),
        (4, {"b": 4, "a": 1}, True),
        (4, {"b": 4, "a": 2}, False),
        (4, {"b": 4, "c": 4}, False),
        (1, {"b": 1}, True),
        (1, {"b": 1, "c": 1}, False),
        (0, {}, False),
    ],
)
async def test_a_tenant_has_its_share_and_all_that_is_free(places: int, taken: dict[str, int], *, may: bool) -> None:
    assert has_share(places, taken, "a") is may
