"""Something asynchronous that lives on a thread of its own, whatever event loops its users have."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sandgraph.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")

#: Seconds that the end of the program waits for one to close.
_EXIT_S = 60


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """Work under way: its result, which comes once the work has ended, and how to cancel it."""

    future: Future[R]
    cancel: Callable[[], None]


class Background(Generic[T]):
    """Opens a context on a thread at its first use, and closes it with `close`, or at the end of the program.

    Args:
        open_context: Makes the context; called on the thread, again after a failure.
        name: Of the thread.
    """

    def __init__(self, open_context: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._open = open_context
        self._name = name
        self._lock = threading.Lock()
        self._thread: _Thread[T] | None = None
        self._is_closed = False

    def call(self, work: Callable[[T], Awaitable[R]]) -> Call[R]:
        """Begin a piece of work on the thread; what opening the context raises, the work raises.

        Raises:
            Unavailable: It was closed.
        """
        with self._lock:
            if self._is_closed:
                raise _closed()
            call = self._thread.call(work) if self._thread is not None else None
            if call is None:
                # The first one, or the last one could not open the context.
                self._thread = _Thread(self._open, self._name)
                call = self._thread.call(work)
                self._thread.start()
            assert call is not None  # noqa: S101 - a thread takes calls before it starts
            return call

    async def result(self, work: Callable[[T], Awaitable[R]]) -> R:
        """Return the work's result, from any event loop.

        Where the caller is cancelled, the work is; the cancellation goes on once the work has ended.
        """
        call = self.call(work)
        waiting = asyncio.wrap_future(call.future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not waiting.done():
                call.cancel()
                await asyncio.wait([waiting])
            raise

    def stop(self) -> None:
        """Begin to close, without waiting for it."""
        with self._lock:
            self._is_closed = True
            if self._thread is not None:
                self._thread.stop()

    def close(self) -> None:
        """Cancel all work, close the context, and wait for it; once is enough, twice is fine."""
        self.stop()
        if self._thread is not None:
            self._thread.join(None)


class _Thread(Generic[T]):
    def __init__(self, open_context: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._open = open_context
        self._loop = asyncio.new_event_loop()
        self._opened: asyncio.Future[T] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[Future[Any]] = set()
        self._guard = threading.Lock()
        self._failure: Exception | None = None
        self._is_ending = False
        self.has_ended = False
        # A daemon: the end of the program must not wait for it before `_close_all` has told it to end.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        _at_exit(self)
        self._thread.start()

    def call(self, work: Callable[[T], Awaitable[R]]) -> Call[R] | None:
        """Take a piece of work, unless the thread has ended or the context did not open."""
        future: Future[R] = Future()
        tasks: list[asyncio.Task[R]] = []

        def begin() -> None:
            task = self._loop.create_task(self._do(work))
            tasks.append(task)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._hand_over(task, future))

        def cancel() -> None:
            self._tell(lambda: [task.cancel() for task in tasks])

        with self._guard:
            if self.has_ended or self._failure is not None:
                return None
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        self._tell(begin)
        return Call(future, cancel)

    def stop(self) -> None:
        self._tell(self._closing.set)

    def join(self, timeout_s: float | None) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _tell(self, note: Callable[[], object]) -> None:
        # A closed loop is one that nobody needs to tell anything any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(note)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        finally:
            with self._guard:
                self.has_ended = True
            for future in list(self._calls):
                future.set_exception(self._why_ended())
            _open.discard(self)

    async def _live(self) -> None:
        try:
            async with self._open() as context:
                self._opened.set_result(context)
                await self._closing.wait()
                self._is_ending = True
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
        except Exception as error:
            if self._opened.done():
                raise
            self._failure = error
            self._opened.set_exception(error)
            self._opened.exception()  # asyncio would log it if no call was waiting yet.
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._is_ending = True

    def _why_ended(self) -> Exception:
        return self._failure or _closed()

    async def _do(self, work: Callable[[T], Awaitable[R]]) -> R:
        return await work(await asyncio.shield(self._opened))

    def _hand_over(self, task: asyncio.Task[R], future: Future[R]) -> None:
        """Give the caller what the work came to; a task that is cancelled before its first step comes here, too."""
        self._tasks.discard(task)
        if future.done():
            return
        if task.cancelled():
            if self._is_ending:
                future.set_exception(self._why_ended())
            else:
                future.cancel()
        elif (error := task.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())


def _closed() -> Unavailable:
    return Unavailable("The engine was closed.", code="engine_closed")


_open: set[_Thread[Any]] = set()
_hooks: list[Callable[[], None]] = []


def _at_exit(thread: _Thread[Any]) -> None:
    _open.add(thread)
    if not _hooks:
        _hooks.append(_close_all)
        # Thread pools refuse work once the interpreter begins to end, before `atexit` has its turn, and closing needs
        # them. This is how they learn of it themselves; what registered last (they did when imported) is called first.
        register = getattr(threading, "_register_atexit", None)
        assert concurrent.futures.thread is not None  # noqa: S101 - imported, so registered
        if register is not None:
            register(_close_all)


def _close_all() -> None:
    threads = list(_open)
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(_EXIT_S)
