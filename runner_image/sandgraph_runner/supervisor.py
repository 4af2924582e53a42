"""The process that runs an attempt: PID 1 of its sandbox.

It shares nothing with submitted code but pipes, and every fact it reports is one it has from the kernel. It also works
where it is not PID 1, for tests: then it kills its descendants instead of everything.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from sandgraph_runner import kernel
from sandgraph_runner.capture import Capture, Line
from sandgraph_runner.jobs import BYTES_A_LINE
from sandgraph_runner.process import Pipes, become_child
from sandgraph_runner.protocol import VERSION, Check, Job, Kind, ProtocolError, Reason, Report
from sandgraph_runner.verdict import Message, judge
from sandgraph_runner.wire import OwnerGone, Wire

#: Exit codes: everything was reported, or nobody is left to report to; what the owner sent is not the protocol.
EXIT_DONE, EXIT_PROTOCOL = 0, 4

_HEARTBEAT_S = 1.0
# How often ended orphans are collected: as zombies they would count as processes.
_TICK_S = 0.25
_TICK_WITHOUT_PIDFD_S = 0.02
_KILL_WITHIN_S = 5.0
# Even of nothing but newlines, what one read gave fits a frame.
_READ = 32 * 1024


def main() -> int:
    """Say hello, carry out one order, report, and return the exit code."""
    kernel.close_inherited()
    kernel.set_dumpable(is_dumpable=False)
    kernel.ignore_signals()
    if os.getpid() != 1:
        kernel.adopt_orphans()
    wire = Wire.take_over()
    # The child shares this memory until one of the two writes to it, as the garbage collector would.
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        wire.send(Kind.HELLO, {"version": VERSION, "python": sys.version.partition(" ")[0]})
        frame = wire.receive()
        if frame.kind not in {Kind.EXECUTE, Kind.CHECK}:
            raise ProtocolError(f"a {frame.kind.name} frame is no order")  # noqa: TRY301 - handled like its kind
        meta = frame.read_meta()
        order = Job.from_meta(meta) if frame.kind is Kind.EXECUTE else Check.from_meta(meta)
        Attempt(wire, order, frame.body).run()
    except OwnerGone:
        return EXIT_DONE
    except ProtocolError as error:
        sys.stderr.write(f"sandgraph: {error}\n")
        return EXIT_PROTOCOL
    finally:
        for _ in kernel.kill_everything(_KILL_WITHIN_S):
            pass
    return EXIT_DONE


class Attempt:
    """One order, from the fork to the report.

    Args:
        wire: Where to report.
        order: What the child does.
        state: The state's JSON text; empty for a check.
    """

    def __init__(self, wire: Wire, order: Job | Check, state: bytes) -> None:
        self._wire = wire
        self._order = order
        self._state = state
        self._message = Message(order)
        self._capture = Capture(order.max_output_bytes, order.max_line_bytes)
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, Callable[[int], None]] = {}
        self._child = 0
        self._status: int | None = None
        self._started = time.monotonic()
        self._oom_kills = kernel.oom_kills()
        self._cpu_s = kernel.cgroup_cpu_s() if os.getpid() == 1 else None

    def run(self) -> None:
        """Run the attempt to its end and send the report.

        Raises:
            OwnerGone: There is nobody to report to; processes of the attempt may still be there.
            ProtocolError: The owner sent something else; likewise.
        """
        try:
            self._start()
        except OSError as error:
            report = Report(Reason.NO_RESULT, f"the sandbox could not start a process: {error.strerror}")
            self._wire.send(Kind.FAILURE, report.to_meta())
            return
        self._watch()
        # A status from here on would be of our own doing.
        for _ in kernel.kill_everything(_KILL_WITHIN_S):
            pass
        self._drain()
        self._log(self._capture.finish(self._elapsed()))
        report, body = self._report()
        kind = Kind.FAILURE if report.reason else Kind.RESULT
        self._wire.send(kind, report.to_meta(), body)

    def _start(self) -> None:
        pairs = [os.pipe() for _ in range(3)]
        writers = Pipes(*(write for _, write in pairs))
        self._child = os.fork()
        if self._child == 0:
            become_child(self._order, self._state, writers)
        self._started = time.monotonic()
        handlers: tuple[Callable[[int], None], ...] = (
            partial(self._read_output, "stdout"),
            partial(self._read_output, "stderr"),
            self._read_message,
        )
        for (reader, writer), handler in zip(pairs, handlers, strict=True):
            os.close(writer)
            os.set_blocking(reader, False)
            self._open[reader] = handler
            self._selector.register(reader, selectors.EVENT_READ, handler)
        self._selector.register(self._wire.stdin, selectors.EVENT_READ, _owner_spoke)

    def _watch(self) -> None:
        """Serve the child until there is an outcome, or none can come."""
        pidfd = kernel.open_pidfd(self._child)
        if pidfd is not None:
            self._selector.register(pidfd, selectors.EVENT_READ, _nothing)
        tick = _TICK_S if pidfd is not None else _TICK_WITHOUT_PIDFD_S
        beat = self._started + _HEARTBEAT_S
        while not self._message.is_settled and not self._capture.is_over and self._status is None:
            for key, _ in self._selector.select(tick):
                # A child can open the other end of its pipes and be quicker to read them.
                with suppress(BlockingIOError):
                    key.data(key.fd)
            self._reap()
            if time.monotonic() >= beat:
                self._wire.send(Kind.HEARTBEAT, {})
                beat = time.monotonic() + _HEARTBEAT_S

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            for pid, status in kernel.reap():
                if pid == self._child:
                    self._status = status

    def _drain(self) -> None:
        """Read what was written before the end and not yet read."""
        for reader in list(self._open):
            while reader in self._open and not self._capture.is_over:
                try:
                    self._open[reader](reader)
                except BlockingIOError:
                    break

    def _read_output(self, stream: str, reader: int) -> None:
        # One byte more than may come, to know that it came.
        data = os.read(reader, min(_READ, self._capture.room + 1))
        if not data:
            self._close(reader)
        self._log(self._capture.feed(stream, data, self._elapsed()))

    def _read_message(self, reader: int) -> None:
        data = os.read(reader, _READ)
        self._message.feed(data)
        if not data or self._message.is_settled:
            self._close(reader)

    def _close(self, reader: int) -> None:
        del self._open[reader]
        self._selector.unregister(reader)
        os.close(reader)

    def _log(self, lines: list[Line]) -> None:
        if lines:
            self._wire.send(Kind.LOG, {"lines": lines})

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 6)

    def _report(self) -> tuple[Report, bytes]:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = usage.ru_utime + usage.ru_stime
        now = None if self._cpu_s is None else kernel.cgroup_cpu_s()
        if self._cpu_s is not None and now is not None:
            cpu_s = max(cpu_s, now - self._cpu_s)
        report = Report(
            cpu_s=round(cpu_s, 6),
            peak_memory_bytes=usage.ru_maxrss * 1024,
            output_bytes=self._capture.taken,
            oom_kills=kernel.oom_kills() - self._oom_kills,
        )
        if self._capture.is_over:
            limit = self._order.max_output_bytes
            message = f"it printed more than {limit} bytes or {limit // BYTES_A_LINE} lines"
            return replace(report, reason=Reason.OUTPUT_LIMIT, message=message), b""
        if self._message.is_settled:
            verdict = judge(self._message, self._order, self._state)
            if verdict.type == "MemoryError" and report.oom_kills:
                return replace(report, reason=Reason.OOM, message=_OUT_OF_MEMORY), b""
            return replace(report, reason=verdict.reason, message=verdict.message), verdict.body
        return self._report_without_message(report), b""

    def _report_without_message(self, report: Report) -> Report:
        half = "" if self._message.is_empty else " in the middle of its outcome"
        if self._status is None:
            return replace(report, reason=Reason.NO_RESULT, message="the process gave no outcome")
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            message = f"the process exited with code {code}{half or ' before the function returned'}"
            return replace(report, reason=Reason.NO_RESULT, message=message, exit_code=code)
        if -code == signal.SIGKILL and report.oom_kills:
            return replace(report, reason=Reason.OOM, message=_OUT_OF_MEMORY, signal=-code)
        message = f"the process was ended by {_signal_name(-code)}{half}"
        return replace(report, reason=Reason.KILLED, message=message, signal=-code)


_OUT_OF_MEMORY = "it needed more memory than its limit"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _owner_spoke(stdin: int) -> None:
    if os.read(stdin, 1):
        raise ProtocolError("more than one order came")
    raise OwnerGone("the stream of orders ended")


def _nothing(_fd: int) -> None:
    """Wake up: that the child ended is seen by waiting for it."""
