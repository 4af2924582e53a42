"""The driver (`tests/chaos/driver.py`) as seen from a test: lives are begun, stopped ones continued, ends awaited."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from chaos_life import Life

_SCRIPT = Path(__file__).parents[1] / "chaos" / "driver.py"

#: Seconds beyond a life's own deadline within which its end must be told.
_GRACE_S = 30


class Driver:
    """One driver process, with one life at a time.

    Args:
        process: The driver.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._unread = b""
        self._deadline_s = 0
        self._pid: int | None = None

    def begin(self, life: Life) -> int:
        """Begin a life and return the id of its process."""
        assert self._process.stdin is not None
        assert self._pid is None, "there is a life already"
        self._deadline_s = life.deadline_s
        self._process.stdin.write(json.dumps(life.to_json()).encode() + b"\n")
        self._process.stdin.flush()
        self._pid = int(self._read()["pid"])
        return self._pid

    def is_stopped(self) -> bool:
        """Wait until the life is stopped, or has ended; tell which. After its end, `end` tells more."""
        answer = self._read()
        if "stopped" in answer:
            return True
        self._unread = json.dumps(answer).encode() + b"\n" + self._unread
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send the life a signal."""
        if self._pid is not None:
            os.kill(self._pid, number)

    def end(self) -> int:
        """Wait for the end of a life and return its exit code, or its signal's number, negative."""
        answer = self._read()
        while "ended" not in answer:
            answer = self._read()
        self._pid = None
        return int(answer["ended"])

    def abandon(self) -> None:
        """Kill the life that a test left, if there is one: the driver is good for more."""
        if self._pid is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.end()

    def close(self) -> None:
        """End it and its life."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], self._deadline_s + _GRACE_S)
            part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert part, "the driver does not answer" if not ready else "the driver has ended"
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def driver() -> Iterator[Driver]:
    """Have a driver for the length of the block."""
    support = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [support, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    running = Driver(process)
    try:
        yield running
    finally:
        running.close()


def live(driver: Driver, life: Life, while_stopped: Callable[[], None] = lambda: None) -> int:
    """Have a life lived to its end, continued whenever it was stopped; return how it ended."""
    driver.begin(life)
    while driver.is_stopped():
        try:
            while_stopped()
        finally:
            driver.signal(signal.SIGCONT)
    return driver.end()
