"""The child process of an attempt: from the fork, which is before there is an order, to its exit."""

from __future__ import annotations

import gc
import io
import os
import resource
import select
import struct
import sys
from types import ModuleType

from sandgraph_runner import kernel
from sandgraph_runner.account import Account, of_exception
from sandgraph_runner.child import run_job
from sandgraph_runner.lean import NoReturn, Sequence, TextIO, suppress
from sandgraph_runner.loading import GIVEN
from sandgraph_runner.protocol import Check, Frame, Job, Kind
from sandgraph_runner.rehearsal import LULL_S, rehearse_child
from sandgraph_runner.text import encoder
from sandgraph_runner.verdict import ACCOUNT, OUTCOME, as_message

#: Exit code of a child that cannot even say why it has no outcome.
CANNOT_REPORT = 70

#: An order as the supervisor passes it on: kind, length of the meta section, length of the body, and both.
_ORDER = struct.Struct(">BII")

# Taken before submitted code could replace them.
_write, _exit, _getpid = os.write, os._exit, os.getpid
_encode = encoder()


def standard_streams() -> tuple[TextIO, TextIO, TextIO]:
    """Return what children read and print with, over the file descriptors 0, 1 and 2 of whoever uses it.

    Made by the supervisor, which does not use it, once for all of them: it takes each a tenth of its time.
    """
    stdin, stdout, stderr = (_text(fd, "w" if fd else "r") for fd in range(3))
    return stdin, stdout, stderr


class Child:
    """A forked process that waits for its order, and the supervisor's ends of the pipes to it.

    Args:
        streams: Its `standard_streams`.

    Attributes:
        pid: Its number.
        stdout: Where it prints to; the read ends do not block.
        stderr: Likewise.
        result: Where its message comes from.
    """

    def __init__(self, streams: Sequence[TextIO]) -> None:
        order, self._order = os.pipe()
        pairs = [os.pipe() for _ in range(3)]
        stdout, stderr, result = (write for _, write in pairs)
        self.stdout, self.stderr, self.result = (read for read, _ in pairs)
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(order, stdout, stderr, result, streams)
        for theirs in (order, stdout, stderr, result):
            os.close(theirs)
        for ours in (self.stdout, self.stderr, self.result):
            os.set_blocking(ours, False)

    def give(self, frame: Frame) -> None:
        """Hand it the order that it waits for.

        Raises:
            BrokenPipeError: It is not there any more.
        """
        header = _ORDER.pack(frame.kind, len(frame.meta), len(frame.body))
        for part in (header + frame.meta, frame.body):
            view = memoryview(part)
            while view:
                view = view[os.write(self._order, view) :]
        os.close(self._order)
        self._order = -1

    def close(self) -> None:
        """Close the pipes of one that gets no order."""
        for fd in (self._order, self.stdout, self.stderr, self.result):
            if fd >= 0:
                os.close(fd)


def read_order(frame: Frame) -> Job | Check:
    """Return what an EXECUTE or CHECK asks for."""
    meta = frame.read_meta()
    return Job.from_meta(meta) if frame.kind is Kind.EXECUTE else Check.from_meta(meta)


def _be_child(order: int, stdout: int, stderr: int, result: int, streams: Sequence[TextIO]) -> NoReturn:
    """Turn a freshly forked process into the child, wait for the order, run it, write the outcome, and exit.

    Once it waits, nothing of the supervisor's is left in it: no file descriptor, no signal handler.
    """
    code = CANNOT_REPORT
    try:
        _set_up(order, stdout, stderr, result, streams)
        pid = _getpid()
        if not select.select([order], [], [], LULL_S)[0]:
            rehearse_child()
        frame = _receive(order)
        os.close(order)
        outcome = _result(frame)
        _flush()
        # Submitted code may have forked: a copy that comes back here is not the attempt.
        code = _send(outcome, result) if _getpid() == pid else _leave(outcome)
    finally:
        # Neither atexit nor threads nor destructors get another turn.
        _exit(code)


def _receive(order: int) -> Frame:
    kind, meta_length, body_length = _ORDER.unpack(_read(order, _ORDER.size))
    return Frame(Kind(kind), _read(order, meta_length), _read(order, body_length))


def _read(fd: int, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = os.read(fd, min(length - len(data), 1 << 20))
        if not piece:
            # The supervisor ended, or wants no child any more.
            _exit(0)
        data += piece
    return bytes(data)


def _result(frame: Frame) -> bytes | Account:
    try:
        order = read_order(frame)
        if isinstance(order, Job):
            return run_job(order, frame.body, is_alone=True)
        # Imported by those who need it: few sandboxes check anything.
        from sandgraph_runner.checks import run_check  # noqa: PLC0415

        return _encode({"problems": [problem.to_meta() for problem in run_check(order)]}).encode()
    except BaseException as error:  # noqa: BLE001 - in a process that submitted code has had its hands on
        return of_exception(error)


def _send(result: bytes | Account, pipe: int) -> int:
    message = as_message(ACCOUNT, result.to_json()) if isinstance(result, Account) else as_message(OUTCOME, result)
    while message:
        message = message[_write(pipe, message) :]
    return 0


def _leave(result: bytes | Account) -> int:
    """End as a Python program does: what it raised goes to stderr."""
    if isinstance(result, Account):
        _write(2, result.traceback.encode())
        return 1
    return 0


def _set_up(order: int, stdout: int, stderr: int, result: int, streams: Sequence[TextIO]) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
    low, high = sorted((order, result))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, kernel.MAX_FD)
    kernel.set_dumpable(is_dumpable=True)
    kernel.die_with_parent()
    kernel.offer_to_oom_killer()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kernel.restore_signals()
    gc.enable()
    for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv = ["sandgraph"]
    _set_up_modules()


def _set_up_modules() -> None:
    package = ModuleType("sandgraph", "What submitted code may import.")
    vars(package).update(GIVEN, __all__=sorted(GIVEN))
    sys.modules["sandgraph"] = package
    # `multiprocessing` would look for the supervisor's own main module and start another one.
    sys.modules["__main__"] = ModuleType("__main__")


def _text(fd: int, mode: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, mode, closefd=False)
    buffer: io.BufferedReader | io.BufferedWriter
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    # A print is seen at once, and what cannot be encoded does not raise.
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=mode == "w")


_STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")


def _flush() -> None:
    for name in _STREAMS:
        # It may have been replaced, closed or deleted by submitted code.
        with suppress(BaseException):
            getattr(sys, name).flush()
