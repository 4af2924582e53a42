from __future__ import annotations

import threading

import pytest

from sandgraph.store.line import Line


def test_work_is_done_in_its_order_on_one_thread_and_to_the_end() -> None:
    line, may_go = Line("line"), threading.Event()
    done: list[tuple[int, str]] = []
    line.submit(lambda: may_go.wait(10))
    for number in range(100):
        line.submit(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]
    assert done == []
    may_go.set()
    line.shutdown()
    assert done == [(number, "line") for number in range(100)]


def test_a_closed_line_takes_no_more_work() -> None:
    line = Line("line")
    line.shutdown()
    with pytest.raises(RuntimeError, match="closed"):
        line.submit(int)


def test_several_threads_do_work_at_the_same_time_and_to_the_end() -> None:
    line, both = Line("lines", threads=2), threading.Barrier(2, timeout=10)
    done: list[int] = []
    # Neither comes to its end alone.
    line.submit(both.wait)
    line.submit(both.wait)
    for number in range(100):
        line.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    line.shutdown()
    assert sorted(done) == list(range(100))
    assert not [each for each in threading.enumerate() if each.name == "lines"]
