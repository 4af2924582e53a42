"""The child process of an attempt: from the fork to its exit."""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import NoReturn

from sandgraph_runner import kernel
from sandgraph_runner.account import Account, of_exception
from sandgraph_runner.checks import run_check
from sandgraph_runner.child import run_job
from sandgraph_runner.loading import GIVEN
from sandgraph_runner.protocol import Check, Job
from sandgraph_runner.verdict import ACCOUNT, OUTCOME, as_message

#: Exit code of a child that cannot even say why it has no outcome.
CANNOT_REPORT = 70

# Taken before submitted code could replace them.
_write, _exit, _getpid = os.write, os._exit, os.getpid
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Pipes:
    """The write ends that a child gets."""

    stdout: int
    stderr: int
    result: int


def become_child(order: Job | Check, state: bytes, pipes: Pipes) -> NoReturn:
    """Turn a freshly forked process into the child, run the order, write the outcome, and exit.

    Afterwards nothing of the supervisor's is left in it: no file descriptor, no signal handler.
    """
    code = CANNOT_REPORT
    try:
        _set_up(pipes)
        pid = _getpid()
        result = _result(order, state)
        _flush()
        # Submitted code may have forked: a copy that comes back here is not the attempt.
        code = _send(result, pipes.result) if _getpid() == pid else _leave(result)
    finally:
        # Neither atexit nor threads nor destructors get another turn.
        _exit(code)


def _result(order: Job | Check, state: bytes) -> bytes | Account:
    try:
        if isinstance(order, Job):
            return run_job(order, state, is_alone=True)
        return _encode({"problems": [asdict(problem) for problem in run_check(order)]}).encode()
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


def _set_up(pipes: Pipes) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (pipes.stdout, 1), (pipes.stderr, 2)):
        os.dup2(source, target)
    os.closerange(3, pipes.result)
    os.closerange(pipes.result + 1, kernel.MAX_FD)
    kernel.set_dumpable(is_dumpable=True)
    kernel.die_with_parent()
    kernel.offer_to_oom_killer()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kernel.restore_signals()
    gc.enable()
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _text(fd, "w" if fd else "r")
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
