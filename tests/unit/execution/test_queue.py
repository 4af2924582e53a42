"""Whose turn it is."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from sandgraph.execution.fairness import Shares
from sandgraph.execution.queue import Place, RunQueue, Waiting


def queue_of(*waiting: Waiting) -> RunQueue:
    queue = RunQueue(Shares(4))
    for each in waiting:
        queue.add(each)
    return queue


def taken(queue: RunQueue) -> list[str]:
    return [each.run_id for each in iter(queue.take, None)]


def test_who_came_first_begins_first_and_who_goes_on_comes_before() -> None:
    queue = queue_of(Waiting("1", "g"), Waiting("2", "h"), Waiting("3", "g", goes_on=True), Waiting("4", "h"))
    assert len(queue) == 4
    assert queue.is_backed_up
    assert taken(queue) == ["3", "1", "2", "4"]
    assert len(queue) == 0
    assert not queue.is_backed_up


def test_runs_pass_those_that_their_graph_holds() -> None:
    queue = queue_of(Waiting("1", "g", 1), Waiting("2", "g", 1), Waiting("3", "h", 1), Waiting("4", "g", 1))
    assert taken(queue) == ["1", "3"]
    assert queue.place("2") == Place(1, "max_concurrent_runs")
    assert queue.place("4") == Place(2, "max_concurrent_runs")
    queue.ended(Waiting("3", "h"))
    assert queue.take() is None
    queue.ended(Waiting("1", "g"))
    assert queue.place("2") == Place(1, "max_active_runs")
    assert taken(queue) == ["2"]


def test_who_goes_on_is_under_way_already() -> None:
    queue = queue_of(Waiting("1", "g", 1), Waiting("2", "g", 1, goes_on=True))
    queue.count(Waiting("2", "g"))
    assert queue.place("2") == Place(1, "max_active_runs")
    assert queue.place("1") == Place(2, "max_concurrent_runs")
    assert taken(queue) == ["2"]
    queue.ended(Waiting("2", "g"))
    assert taken(queue) == ["1"]


def test_a_run_waits_once_and_keeps_its_place() -> None:
    queue = queue_of(Waiting("1", "g"), Waiting("2", "g"), Waiting("1", "g"))
    number, waiting = queue.remove("1")
    assert "1" not in queue
    assert queue.place("1") is None
    queue.add(waiting, number)
    assert queue.place("1") == Place(1, "max_active_runs")
    assert taken(queue) == ["1", "2"]
    with pytest.raises(KeyError):
        queue.remove("1")


def test_nobody_waits_once_it_is_cleared() -> None:
    queue = queue_of(Waiting("1", "g"), Waiting("2", "g", goes_on=True))
    queue.clear()
    assert taken(queue) == []
    assert "1" not in queue


def flood(tenant: str, count: int) -> list[Waiting]:
    return [Waiting(f"{tenant}{number}", "g", tenant=tenant) for number in range(count)]


def worked_on(queue: RunQueue) -> list[str]:
    """Work on all that may be worked on, and end none."""
    began = []
    while waiting := queue.take():
        queue.active.take(waiting.tenant)
        began.append(waiting.run_id)
    return began


def test_the_turn_goes_round_over_tenants() -> None:
    queue = queue_of(*flood("a", 5), *flood("b", 2), *flood("c", 1))
    assert worked_on(queue) == ["a0", "b0", "c0", "a1"]
    queue.active.give_back("a")
    assert worked_on(queue) == ["b1"]


def test_a_tenant_that_comes_late_gets_its_share_although_all_places_are_taken() -> None:
    queue = queue_of(*flood("a", 10))
    assert worked_on(queue) == ["a0", "a1", "a2", "a3"]
    for each in flood("b", 10):
        queue.add(each)
    assert worked_on(queue) == ["b0", "b1"]
    for each in flood("c", 10) + flood("d", 10) + flood("e", 10):
        queue.add(each)
    assert worked_on(queue) == ["c0", "d0"], "never more than twice as many as there are places"
    for _ in range(4):
        queue.active.give_back("a")
    assert worked_on(queue) == ["e0", "a4"], "who has none comes first, whoever left"
    for _ in range(2):
        queue.active.give_back("b")
    assert worked_on(queue) == ["b2"]


def test_one_tenant_alone_has_all_places_and_no_more() -> None:
    queue = queue_of(*flood("a", 10))
    assert len(worked_on(queue)) == 4
    queue.active.give_back("a")
    assert worked_on(queue) == ["a4"]


def test_a_tenant_with_a_bound_of_its_own_is_passed() -> None:
    queue = RunQueue(Shares(4, {"a": 1}.get))
    for each in [*flood("a", 3), *flood("b", 5)]:
        queue.add(each)
    assert worked_on(queue) == ["a0", "b0", "b1", "b2"]
    assert queue.place("a1") == Place(1, "tenant_max_active_runs")
    assert queue.place("b3") == Place(3, "max_active_runs")


def test_no_tenant_waits_for_good_while_others_have_their_turns() -> None:
    queue = RunQueue(Shares(1))
    for each in [*flood("a", 20), *flood("b", 20), *flood("c", 20)]:
        queue.add(each)
    began = worked_on(queue)
    while len(began) < 12:
        queue.active.give_back(began[-2][0] if len(began) > 1 else began[-1][0])
        began += worked_on(queue)
    assert Counter(run_id[0] for run_id in began[:12]) == {"a": 4, "b": 4, "c": 4}


def test_graphs_of_one_name_of_two_tenants_are_two() -> None:
    queue = queue_of(*(Waiting(f"{tenant}{number}", "g", 1, tenant=tenant) for tenant in "ab" for number in range(2)))
    assert worked_on(queue) == ["a0", "b0"]
    assert queue.place("a1") == Place(1, "max_concurrent_runs")


@pytest.mark.parametrize("seed", range(20))
def test_the_place_is_how_many_come_before(seed: int) -> None:
    chance = random.Random(seed)
    queue = RunQueue(Shares(1_000))
    for number in range(30):
        queue.add(Waiting(str(number), "g", goes_on=chance.random() < 0.2, tenant=chance.choice("abc")))
    for _ in range(chance.randrange(12)):
        if waiting := queue.take():
            queue.active.take(waiting.tenant)
    for tenant in "abc":
        for _ in range(chance.randrange(queue.active.of(tenant) + 1)):
            queue.active.give_back(tenant)
    told = {str(number): place.position for number in range(30) if (place := queue.place(str(number)))}
    assert worked_on(queue) == sorted(told, key=lambda run_id: told[run_id])
    assert sorted(told.values()) == list(range(1, len(told) + 1))
