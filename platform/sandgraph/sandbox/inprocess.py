"""A stand-in for sandboxes that runs code on threads of this process: for tests, and for code that is trusted.

What it cannot do: keep anything from the code (files, network, this process's memory and environment), limit memory,
CPUs, processes or ``/tmp``, survive ``os._exit``, or end code that goes on. At the deadline, at a cancellation and at
the output limit the attempt ends with its true status, and the thread is left alone until it ends by itself.

Threads are used again: what code leaves in a thread's own data stays there, as what it leaves in modules does. Each job
has a context of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

from sandgraph.errors import EngineUnavailable
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, LogLine, Usage
from sandgraph.sandbox import verdict
from sandgraph.sandbox.payload import read_answers, read_text
from sandgraph.sandbox.printing import Printer, printing_to
from sandgraph.sandbox.spec import Broken, CheckProblem, OnLog, Outcome, Owner, Sandbox
from sandgraph_runner.account import Account
from sandgraph_runner.checks import run_check
from sandgraph_runner.child import run_job
from sandgraph_runner.protocol import Check, Job, ProtocolError, Reason, Report, Source

T = TypeVar("T")

#: Live functions by the source that they stand in for.
Callables = Mapping[Source, Callable[..., Any]]

_numbers = itertools.count(1)

#: Seconds after which a thread that has nothing to do ends.
_IDLE_S = 10.0


class InProcessSandboxes:
    """Implements `sandgraph.sandbox.spec.Sandboxes` without any isolation.

    Args:
        callables: Live functions that are called instead of loading these sources; looked at anew by each job.
    """

    def __init__(self, callables: Callables | None = None) -> None:
        self._callables: Callables = {} if callables is None else callables
        self._threads = _Threads()
        self._tools = _Tools()
        self._leased = 0
        self._is_open = False

    async def start(self) -> None:
        """Open for leases."""
        self._is_open = True

    async def close(self) -> None:
        """Refuse further leases; there is nothing to remove but threads that do nothing."""
        self._is_open = False
        self._threads.close()

    def lease(
        self,
        limits: Limits,
        owner: Owner,
        *,
        runtime: str | None = None,  # noqa: ARG002 - there is none
        isolation: Isolation = Isolation.NODE,  # noqa: ARG002 - nor this
    ) -> AbstractAsyncContextManager[Sandbox]:
        """Hand out a sandbox that is none; of the limits only the output's is kept.

        Raises:
            EngineUnavailable: It was not started, or closed.
        """
        name = f"inprocess-{owner.node}-{next(_numbers)}"
        return _Lease(self, _Stand(name, self._callables, limits, self._threads, self._tools))

    def count(self, change: int) -> None:
        """Count a lease that begins or ends.

        Raises:
            EngineUnavailable: None can begin: they were not started, or closed.
        """
        if change > 0 and not self._is_open:
            raise EngineUnavailable("The in-process sandboxes are not open.")
        self._leased += change

    async def end_run(self, run_id: str) -> None:
        """Do nothing: nothing is kept."""

    async def ping(self) -> None:
        """Do nothing: there is no engine that could be gone."""

    def facts(self) -> Mapping[str, object]:
        """Tell how many are leased; an unlimited number waits."""
        return {"engine": "none: in this process", "image": "inprocess", "waiting": 0, "leased": self._leased}


class _Lease:
    """A lease for the length of a block; there is one for each attempt, so it is no generator."""

    def __init__(self, sandboxes: InProcessSandboxes, stand: _Stand) -> None:
        self._sandboxes = sandboxes
        self._stand = stand

    async def __aenter__(self) -> Sandbox:
        self._sandboxes.count(1)
        return self._stand

    async def __aexit__(self, *_: object) -> None:
        self._sandboxes.count(-1)


class _Stand:
    def __init__(self, name: str, callables: Callables, limits: Limits, threads: _Threads, tools: _Tools) -> None:
        self._name = name
        self._callables = callables
        self._limits = limits
        self._threads = threads
        self._tools = tools
        self._is_used = False
        self._usage: Callable[[], Usage] = Usage

    @property
    def sandbox_id(self) -> str:
        return self._name

    async def execute(self, job: Job, state: bytes, *, timeout_s: float, on_log: OnLog) -> Outcome:
        live = self._live(_own_sources(job), self._tools.by_name(job.tools))
        run = _Running(lambda: run_job(job, state, callables=live), job, self._name)
        ended = await self._finish(run, job, timeout_s, on_log)
        if isinstance(ended, Broken):
            return ended
        usage = run.usage()
        try:
            if isinstance(ended, Account):
                return self._reported(ended.reason, ended.to_json(), job, usage)
            answers = read_answers(read_text(ended, job.max_result_bytes), job)
        except ProtocolError as wrong:
            return verdict.invalid(wrong, usage)
        return answers.succeeded(usage)

    async def check(self, check: Check, *, timeout_s: float) -> Sequence[CheckProblem] | Broken:
        live = self._live(check.sources, {})
        run = _Running(lambda: run_check(check, callables=live), check, self._name)
        ended = await self._finish(run, check, timeout_s, _drop)
        if isinstance(ended, Broken):
            return ended
        return [CheckProblem(**vars(problem)) for problem in ended]

    def usage(self) -> Usage:
        return self._usage()

    def _live(self, own: Sequence[Source], tools: Mapping[str, Source]) -> dict[str, Callable[..., Any]]:
        # By their names first: to tell sources apart reads their code.
        names = {source.name for source in own}
        return {
            source.name: function
            for source, function in self._callables.items()
            if (source.name in tools and tools[source.name] == source) or (source.name in names and source in own)
        }

    def _reported(self, reason: Reason, body: bytes, bounds: Job | Check, usage: Usage) -> Broken:
        return verdict.reported(Report(reason=reason), body, self._limits, bounds.max_output_bytes, usage)

    async def _finish(self, run: _Running[T], bounds: Job | Check, timeout_s: float, on_log: OnLog) -> T | Broken:
        if self._is_used:
            raise RuntimeError("A sandbox is good for a single job.")
        self._is_used = True
        self._usage = run.usage
        self._threads.run(run.run)
        ended = await run.listen(timeout_s, on_log)
        if run.printer.is_over:
            return self._reported(Reason.OUTPUT_LIMIT, b"", bounds, run.usage())
        if ended is None:
            return verdict.timed_out(timeout_s, run.usage())
        if isinstance(ended, BaseException):
            return verdict.broken(AttemptStatus.NO_RESULT, f"Its thread ended with {ended!r}.", run.usage())
        return ended


class _Threads:
    """Threads that nobody waits for when the process ends, each for one piece of work after another.

    To start one takes as long as a short job. One that is busy, for as long as it may be, is not counted on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        #: Threads that wait for an order, less the orders that wait for one of them.
        self._free = 0

    def run(self, work: Callable[[], object]) -> None:
        """Do work at once, on a thread that has nothing else to do."""
        with self._lock:
            is_new = not self._free
            if not is_new:
                self._free -= 1
        if is_new:
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()
        else:
            self._orders.put(work)

    def close(self) -> None:
        """End the threads that have nothing to do."""
        with self._lock:
            free, self._free = self._free, 0
        for _ in range(free):
            self._orders.put(None)

    def _serve(self, work: Callable[[], object]) -> None:
        order: Callable[[], object] | None = work
        del work
        while order is not None:
            contextvars.Context().run(order)
            # Or what it holds stays for as long as there is nothing else to do.
            del order
            with self._lock:
                self._free += 1
            order = self._next()

    def _next(self) -> Callable[[], object] | None:
        try:
            return self._orders.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._free:
                    self._free -= 1
                    return None
            # There is an order for each that waits.
            return self._orders.get()


class _Running(Generic[T]):
    """A job that runs on a thread, and what is heard of it on the event loop."""

    def __init__(self, work: Callable[[], T], bounds: Job | Check, name: str) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._cpu_s: float | None = None
        # Filled on the event loop, by calls that the thread asks for; no more than the job may print.
        self._lines: list[LogLine] = []
        self._ended: list[T | BaseException] = []
        self._is_over = False
        self._listening: asyncio.Future[None] | None = None
        self.printer = Printer(
            lambda line: self._tell(lambda: self._lines.append(line)),
            lambda: time.monotonic() - self._began,
            on_limit=lambda: self._tell(self._give_up),
            max_bytes=bounds.max_output_bytes,
            max_line_bytes=bounds.max_line_bytes,
        )
        self._name = name

    async def listen(self, timeout_s: float, on_log: OnLog) -> T | BaseException | None:
        """Return what the work returned or, though it should not, raised; None at the deadline or the output limit."""
        timer = self._loop.call_later(self._began + timeout_s - time.monotonic(), self._take, self._give_up)
        try:
            while True:
                lines, self._lines = self._lines, []
                if lines:
                    await on_log(lines)
                elif self._ended:
                    return self._ended[0]
                elif self._is_over:
                    return None
                else:
                    self._listening = self._loop.create_future()
                    await self._listening
        finally:
            timer.cancel()

    def usage(self) -> Usage:
        """Tell what is known."""
        return Usage(wall_s=time.monotonic() - self._began, cpu_s=self._cpu_s, output_bytes=self.printer.written)

    def run(self) -> None:
        """Do the work, on the thread."""
        threading.current_thread().name = self._name
        began = time.thread_time()
        ended: T | BaseException
        with printing_to(self.printer):
            try:
                ended = self._work()
            except BaseException as error:  # noqa: BLE001 - it is handed over, not lost
                ended = error
            self.printer.finish()
        self._cpu_s = time.thread_time() - began
        self._tell(lambda: self._ended.append(ended))

    def _tell(self, note: Callable[[], None]) -> None:
        # Once the loop is closed, nobody listens any more to a thread that was left alone.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, note)

    def _give_up(self) -> None:
        self._is_over = True

    def _take(self, note: Callable[[], None]) -> None:
        note()
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(None)


class _Tools:
    """The tools of the last job, which are most often the next one's too: every job comes with all that there are."""

    def __init__(self) -> None:
        self._tools: tuple[Source, ...] = ()
        self._by_name: Mapping[str, Source] = {}

    def by_name(self, tools: tuple[Source, ...]) -> Mapping[str, Source]:
        if tools is not self._tools:
            self._tools, self._by_name = tools, {tool.name: tool for tool in tools}
        return self._by_name


def _own_sources(job: Job) -> list[Source]:
    """Return the sources of a job but its tools."""
    conditions = [each for each in (job.before, job.again, *job.after) if each is not None]
    return [source for source in (job.function, *(each.function for each in conditions)) if source is not None]


async def _drop(_lines: Sequence[LogLine]) -> None:
    """Forget lines that nobody asked for."""
