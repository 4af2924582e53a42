"""Whose turn it is."""

from __future__ import annotations

import pytest

from sandgraph.execution.queue import Place, RunQueue, Waiting


def queue_of(*waiting: Waiting) -> RunQueue:
    queue = RunQueue()
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
    queue.ended("h")
    assert queue.take() is None
    queue.ended("g")
    assert queue.place("2") == Place(1, "max_active_runs")
    assert taken(queue) == ["2"]


def test_who_goes_on_is_under_way_already() -> None:
    queue = queue_of(Waiting("1", "g", 1), Waiting("2", "g", 1, goes_on=True))
    queue.count("g")
    assert queue.place("2") == Place(1, "max_active_runs")
    assert queue.place("1") == Place(2, "max_concurrent_runs")
    assert taken(queue) == ["2"]
    queue.ended("g")
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
