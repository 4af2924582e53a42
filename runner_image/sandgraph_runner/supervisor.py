"""The process that runs attempts: PID 1 of its sandbox.

It shares nothing with submitted code but pipes, and every fact it reports is one it has from the kernel. It also works
where it is not PID 1, for tests: then it kills its descendants instead of everything, and wipes nothing.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import time

from sandgraph_runner import kernel
from sandgraph_runner.capture import Capture, Line
from sandgraph_runner.cgroup import Meter
from sandgraph_runner.jobs import BYTES_A_LINE
from sandgraph_runner.lean import Callable, Sequence, TextIO, partial, suppress
from sandgraph_runner.process import Child, read_order, standard_streams
from sandgraph_runner.protocol import VERSION, Check, Frame, Job, Kind, ProtocolError, Reason, Report, replace
from sandgraph_runner.rehearsal import LULL_S, preload, rehearse_child, rehearse_supervisor
from sandgraph_runner.verdict import Message, judge
from sandgraph_runner.wipe import wipe
from sandgraph_runner.wire import OwnerGone, Wire

#: Exit codes: everything was reported, or nobody is left to report to; what the owner sent is not the protocol.
EXIT_DONE, EXIT_PROTOCOL = 0, 4

# The first one soon: of an attempt that is killed, what it used is known from here alone.
_FIRST_HEARTBEAT_S = 0.1
_HEARTBEAT_S = 0.5
# How often ended orphans are collected: as zombies they would count as processes.
_TICK_S = 0.25
_TICK_WITHOUT_PIDFD_S = 0.02
_KILL_WITHIN_S = 5.0
# Even of nothing but newlines, what one read gave fits a frame.
_READ = 32 * 1024


def main() -> int:
    """Say hello, carry out an order, report, and return the exit code; or go on, where the order says so."""
    kernel.close_inherited()
    kernel.set_dumpable(is_dumpable=False)
    kernel.ignore_signals()
    is_alone = os.getpid() == 1
    if not is_alone:
        kernel.adopt_orphans()
    wire = Wire.take_over()
    meter = Meter() if is_alone else Meter(os.devnull)
    streams = standard_streams()
    hello = {"version": VERSION, "python": sys.version.partition(" ")[0]}
    try:
        wire.send(Kind.HELLO, hello)
        is_prepared = not wire.is_spoken_to(LULL_S)
        if is_prepared:
            _prepare(wire, meter)
        # The child shares this memory until one of the two writes to it, as the garbage collector would.
        gc.freeze()
        child = Child(streams)
        while True:
            if not wire.is_spoken_to(LULL_S):
                rehearse_supervisor(meter)
            goes_on = _serve(wire, wire.receive(), child, streams, meter) and kernel.end_others(_KILL_WITHIN_S)
            if not goes_on:
                break
            if is_alone:
                wipe()
            if not is_prepared:
                _prepare(wire, meter)
                is_prepared = True
            child = Child(streams)
            wire.send(Kind.HELLO, hello)
    except OwnerGone:
        return EXIT_DONE
    except ProtocolError as error:
        sys.stderr.write(f"sandgraph: {error}\n")
        return EXIT_PROTOCOL
    finally:
        kernel.end_others(_KILL_WITHIN_S)
    return EXIT_DONE


def _prepare(wire: Wire, meter: Meter) -> None:
    """Make what every child would have to make anew, before there is one: the compiler alone takes a millisecond."""
    preload(lambda: wire.is_spoken_to(0))
    rehearse_child()
    rehearse_supervisor(meter)
    gc.collect()


def _serve(wire: Wire, frame: Frame, child: Child, streams: Sequence[TextIO], meter: Meter) -> bool:
    """Carry out one order and report; return whether another may follow."""
    if frame.kind not in {Kind.EXECUTE, Kind.CHECK}:
        raise ProtocolError(f"a {frame.kind.name} frame is no order")
    try:
        child.give(frame)
    except BrokenPipeError:
        # It was killed while it waited: nothing of the order has been done.
        child.close()
        child = Child(streams)
        child.give(frame)
    # From here on, what is done is done while the child runs.
    meter.begin()
    order = read_order(frame)
    Attempt(wire, order, frame.body, child, meter).run()
    return isinstance(order, Job) and order.keep


class Attempt:
    """One order, from the child that has it to the report.

    Args:
        wire: Where to report.
        order: What the child does.
        state: The state's JSON text; empty for a check.
        child: It was given the order.
        meter: It counts what is used.
    """

    def __init__(self, wire: Wire, order: Job | Check, state: bytes, child: Child, meter: Meter) -> None:
        self._wire = wire
        self._order = order
        self._state = state
        self._child = child
        self._meter = meter
        self._message = Message(order)
        self._capture = Capture(order.max_output_bytes, order.max_line_bytes)
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._status: int | None = None
        self._started = time.monotonic()

    def run(self) -> None:
        """Run the attempt to its end and send the report.

        Raises:
            OwnerGone: There is nobody to report to; processes of the attempt may still be there.
            ProtocolError: The owner sent something else; likewise.
        """
        for stream in ("stdout", "stderr"):
            self._open(getattr(self._child, stream), partial(self._read_output, stream))
        self._open(self._child.result, self._read_message)
        self._open(self._wire.stdin, _owner_spoke)
        pidfd = kernel.open_pidfd(self._child.pid)
        if pidfd is not None:
            self._open(pidfd, _nothing)
        self._watch(_TICK_WITHOUT_PIDFD_S if pidfd is None else _TICK_S)
        # A status from here on would be of our own doing.
        kernel.kill_others()
        # With a message nobody need wait for them to be gone: what they still do before they notice counts for nothing.
        has_ended = not self._message.is_settled or not self._meter.sees_the_living
        if has_ended:
            kernel.end_others(_KILL_WITHIN_S)
        self._drain()
        self._log(self._capture.finish(self._elapsed()))
        report, body = self._report(all_ended=has_ended)
        if pidfd is not None:
            os.close(pidfd)
        self._wire.send(Kind.FAILURE if report.reason else Kind.RESULT, report.to_meta(), body)

    def _watch(self, tick_s: float) -> None:
        """Serve the child until there is an outcome, or none can come."""
        beat = self._started + _FIRST_HEARTBEAT_S
        while not self._capture.is_over and self._status is None:
            wait_s = min(tick_s, max(0.0, beat - time.monotonic()))
            for fd, _ in self._poll.poll(wait_s * 1000 + 1):
                # A child can open the other end of its pipes and be quicker to read them.
                with suppress(BlockingIOError):
                    self._handlers[fd](fd)
            if self._message.is_settled:
                # The report looks at what was used once more, and nobody's status says more than the message.
                return
            self._reap()
            self._meter.sample()
            if time.monotonic() >= beat:
                self._wire.send(Kind.HEARTBEAT, self._meter.read().to_meta())
                beat = time.monotonic() + _HEARTBEAT_S

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            for pid, status in kernel.reap():
                if pid == self._child.pid:
                    self._status = status

    def _drain(self) -> None:
        """Read what was written before the end and not yet read."""
        for reader in (self._child.stdout, self._child.stderr, self._child.result):
            while reader in self._handlers and not self._capture.is_over:
                try:
                    self._handlers[reader](reader)
                except BlockingIOError:
                    break
            if reader in self._handlers:
                self._close(reader)

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

    def _open(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def _close(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)
        os.close(fd)

    def _log(self, lines: list[Line]) -> None:
        if lines:
            self._wire.send(Kind.LOG, {"lines": lines})

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._started, 6)

    def _report(self, *, all_ended: bool) -> tuple[Report, bytes]:
        report = Report(used=self._meter.read(all_ended=all_ended), output_bytes=self._capture.taken)
        if self._capture.is_over:
            limit = self._order.max_output_bytes
            message = f"it printed more than {limit} bytes or {limit // BYTES_A_LINE} lines"
            return replace(report, reason=Reason.OUTPUT_LIMIT, message=message), b""
        if not self._message.is_settled:
            return self._report_without_message(report), b""
        verdict = judge(self._message, self._order, self._state)
        if verdict.type == "MemoryError" and report.used.oom_kills:
            return replace(report, reason=Reason.OOM, message=_OUT_OF_MEMORY), b""
        return replace(report, reason=verdict.reason, message=verdict.message), verdict.body

    def _report_without_message(self, report: Report) -> Report:
        half = "" if self._message.is_empty else " in the middle of its outcome"
        if self._status is None:
            return replace(report, reason=Reason.NO_RESULT, message="the process gave no outcome")
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            message = f"the process exited with code {code}{half or ' before the function returned'}"
            return replace(report, reason=Reason.NO_RESULT, message=message, exit_code=code)
        if -code == kernel.SIGKILL and report.used.oom_kills:
            return replace(report, reason=Reason.OOM, message=_OUT_OF_MEMORY, signal=-code)
        message = f"the process was ended by {_signal_name(-code)}{half}"
        return replace(report, reason=Reason.KILLED, message=message, signal=-code)


_OUT_OF_MEMORY = "it needed more memory than its limit"


def _signal_name(number: int) -> str:
    # Imported by those who need it: its enumerations are a tenth of a sandbox's start.
    import signal  # noqa: PLC0415

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
