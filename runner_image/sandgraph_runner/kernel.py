"""What the supervisor asks of Linux: signals and processes."""

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]  # without the enums of `signal`, 130 calls take a fifth of the time
import os
import time

from sandgraph_runner.lean import Iterator, suppress

SIGKILL: int = _signal.SIGKILL

#: No file descriptor of the supervisor is as high as this.
MAX_FD = 1024

_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_UNBLOCKABLE = {SIGKILL, _signal.SIGSTOP}
# What Python itself ignores, so that a write raises instead of ending the process.
_IGNORED_BY_PYTHON = {_signal.SIGPIPE, _signal.SIGXFSZ}

# What `ctypes` is made of: with all that is around it, its import takes five times as long.
_c_prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]


def set_dumpable(*, is_dumpable: bool) -> None:
    """Let processes of the same user look into this one (ptrace, ``/proc/<pid>``), or not."""
    _prctl(_PR_SET_DUMPABLE, int(is_dumpable))
    if _prctl(_PR_GET_DUMPABLE, 0) != is_dumpable:
        raise OSError("the kernel does not say that this process is as dumpable as it was told to be")


def die_with_parent() -> None:
    """Have this process killed when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, as PID 1 is without asking."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def ignore_signals() -> None:
    """Ignore every signal that can be; only the end of children stays visible."""
    for number in _signal.valid_signals() - _UNBLOCKABLE - {_signal.SIGCHLD}:
        _signal.signal(number, _signal.SIG_IGN)


def restore_signals() -> None:
    """Give every signal the handling that a Python program begins with."""
    for number in _signal.valid_signals() - _UNBLOCKABLE - _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def close_inherited() -> None:
    """Close every file descriptor but the standard three: what a container runtime may have leaked."""
    try:
        open_now = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - before anything else is open
    except OSError:
        os.closerange(3, MAX_FD)
        return
    for fd in open_now:
        if fd > 2:  # noqa: PLR2004 - stdin, stdout, stderr
            os.closerange(fd, fd + 1)


def offer_to_oom_killer() -> None:
    """Make this process and its descendants the first that the kernel kills for memory."""
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123 - no pathlib, for its imports
            file.write(b"1000")
    except OSError:
        # Not everywhere is it writable; the largest process then goes first.
        return


def open_pidfd(pid: int) -> int | None:
    """Return a file descriptor that becomes readable when a child ends, or None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def kill_others() -> None:
    """Send SIGKILL to every other process of this sandbox: as PID 1, of the namespace; else, to every descendant."""
    for pid in [-1] if os.getpid() == 1 else _descendants():
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


def end_others(within_s: float) -> bool:
    """Kill every other process of this sandbox, however fast they fork, and collect them; tell whether none is left."""
    deadline, pause = time.monotonic() + within_s, 0.00005
    while True:
        kill_others()
        try:
            for _ in reap():
                pass
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


def reap() -> Iterator[tuple[int, int]]:
    """Collect the children that have ended.

    Yields:
        Pid and wait status of each.

    Raises:
        ChildProcessError: There are no children left.
    """
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        yield pid, status


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    stat = file.read()
            except OSError:
                continue
            # The second field is the program's name in parentheses, which may itself hold any.
            parents[int(name)] = int(stat.rpartition(b")")[2].split()[1])
    found = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found - {os.getpid()})


def _prctl(option: int, value: int) -> int:
    answer: int = _ctypes.call_function(_c_prctl, (option, value, 0, 0, 0))
    if answer < 0:
        raise OSError(f"prctl({option}) was refused")
    return answer
