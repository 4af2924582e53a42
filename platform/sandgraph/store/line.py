"""Threads that do one piece of work after another, in the order in which they were handed in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Line:
    """Does what an executor does that nobody asks for futures: in a third of the time.

    Args:
        name: Of its threads, which are started with the first piece of work.
        threads: How many there are. With one, a piece is begun when those before it are done.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for _ in range(threads)]
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, work: Callable[[], object]) -> None:
        """Hand in work, which raises nothing.

        Raises:
            RuntimeError: It is closed.
        """
        # Or work could come after the end of the queue, and never be done.
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this line is closed")
            if self._threads[0].ident is None:
                for thread in self._threads:
                    thread.start()
            self._work.put(work)

    def shutdown(self) -> None:
        """Return once all that was handed in is done; nothing more is taken."""
        with self._lock:
            self._is_closed = True
            for _ in self._threads:
                self._work.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _serve(self) -> None:
        while work := self._work.get():
            work()
            # Or what it holds stays for as long as there is nothing else to do.
            del work
