"""The threads of the stand-in for sandboxes; what it has in common with them is in tests/contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from sandgraph.sandbox import inprocess
from sandgraph.sandbox.inprocess import _Threads

PATIENCE_S = 10.0


@pytest.fixture
def threads() -> Iterator[_Threads]:
    made = _Threads()
    yield made
    made.close()


def until(threads: _Threads, free: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while threads._free != free:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_thread_is_used_again_and_each_piece_of_work_has_a_context_of_its_own(threads: _Threads) -> None:
    seen: list[tuple[threading.Thread, str]] = []
    variable: ContextVar[str] = ContextVar("variable", default="nothing")

    def work() -> None:
        seen.append((threading.current_thread(), variable.get()))
        variable.set("left over")

    for number in range(3):
        threads.run(work)
        until(threads, 1)
        assert len(seen) == number + 1
    assert {said for _, said in seen} == {"nothing"}
    assert len({thread for thread, _ in seen}) == 1
    assert seen[0][0].daemon


def test_work_at_the_same_time_is_on_different_threads_and_none_waits_for_a_busy_one(threads: _Threads) -> None:
    both = threading.Barrier(3)
    for _ in range(2):
        threads.run(lambda: both.wait(PATIENCE_S))
    both.wait(PATIENCE_S)
    until(threads, 2)
    go = threading.Event()
    done = threading.Event()
    threads.run(lambda: go.wait(PATIENCE_S))
    for _ in range(2):
        threads.run(done.set)
        assert done.wait(PATIENCE_S)
        done.clear()
    go.set()


def test_threads_with_nothing_to_do_end(threads: _Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inprocess, "_IDLE_S", 0.01)
    seen: list[threading.Thread] = []
    threads.run(lambda: seen.append(threading.current_thread()))
    deadline = time.monotonic() + PATIENCE_S
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    seen[0].join(PATIENCE_S)
    assert not seen[0].is_alive()
    assert threads._free == 0


def test_closing_ends_them(threads: _Threads) -> None:
    seen: list[threading.Thread] = []
    threads.run(lambda: seen.append(threading.current_thread()))
    until(threads, 1)
    threads.close()
    seen[0].join(PATIENCE_S)
    assert not seen[0].is_alive()
    # And those that come after it are served.
    threads.run(lambda: seen.append(threading.current_thread()))
    until(threads, 1)
