"""Tells apart what jobs on threads print, for the in-process stand-in: ``sys.stdout`` is one for the whole process."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from sandgraph.model.run import LogLine
from sandgraph_runner.protocol import BYTES_A_LINE


class OutputLimit(BaseException):
    """Raised by the print that goes over the job's limit."""


class Printer:
    """Makes log lines of what one job writes; called from the job's thread.

    Args:
        hand_over: Gets each complete line.
        clock: Seconds since the job began.
        on_limit: Called, once, when the limit is passed; the code may not let `OutputLimit` through.
        max_bytes: After so many, and after a sixteenth as many lines, writing raises `OutputLimit`.
        max_line_bytes: Lines are cut to this length.
    """

    def __init__(
        self,
        hand_over: Callable[[LogLine], None],
        clock: Callable[[], float],
        *,
        on_limit: Callable[[], None],
        max_bytes: int,
        max_line_bytes: int,
    ) -> None:
        self._hand_over = hand_over
        self._clock = clock
        self._on_limit = on_limit
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._lines_left = max(max_bytes // BYTES_A_LINE, 1)
        self._max_line = max_line_bytes
        #: Whether more was written than allowed.
        self.is_over = False
        self._pending: dict[str, str] = {"stdout": "", "stderr": ""}

    @property
    def written(self) -> int:
        """Bytes written, the limit at most."""
        return self._max_bytes - self._left

    def write(self, stream: str, text: str) -> None:
        """Take in what was printed.

        Raises:
            OutputLimit: It is more than the job may print.
        """
        if self.is_over:
            raise OutputLimit
        data = text.encode("utf-8", "replace")
        kept = data[: self._left]
        self.is_over = len(kept) < len(data)
        self._left -= len(kept)
        *lines, rest = (self._pending[stream] + kept.decode("utf-8", "ignore")).split("\n")
        # Of a line that goes on and on, no more is held back than is shown.
        self._pending[stream] = rest[: self._max_line + 1]
        for line in lines:
            self._line(stream, line)
        if self.is_over:
            self.finish()
            self._on_limit()
            raise OutputLimit

    def finish(self) -> None:
        """Hand over what did not end in a newline."""
        for stream, text in self._pending.items():
            if text:
                self._line(stream, text, is_cut=self.is_over)
                self._pending[stream] = ""

    def _line(self, stream: str, text: str, *, is_cut: bool = False) -> None:
        if not self._lines_left:
            self.is_over = True
            return
        self._lines_left -= 1
        data = text.encode()
        shown = data[: self._max_line].decode("utf-8", "ignore").replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._hand_over(LogLine(stream, self._clock(), shown, is_cut or len(data) > self._max_line))


_printer: ContextVar[Printer | None] = ContextVar("sandgraph_printer", default=None)


@contextmanager
def printing_to(printer: Printer) -> Iterator[None]:
    """Send what this context prints to ``printer``; threads that it starts print to the process's own streams."""
    token = _printer.set(printer)
    with _installed():
        try:
            yield
        finally:
            _printer.reset(token)


class _Divider(io.TextIOBase):
    """Stands in for ``sys.stdout`` or ``sys.stderr`` as long as a job runs."""

    def __init__(self, stream: str, original: TextIO) -> None:
        self._stream = stream
        self.original = original

    def write(self, text: str, /) -> int:
        """Write to the job's printer, or outside of jobs to the original."""
        printer = _printer.get()
        if printer is None:
            return self.original.write(text)
        printer.write(self._stream, text)
        return len(text)

    def flush(self) -> None:
        """Flush the original; a job's lines need no flush."""
        if _printer.get() is None:
            self.original.flush()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the original has
        return getattr(self.original, name)


_lock = threading.Lock()
_users = 0


@contextmanager
def _installed() -> Iterator[None]:
    global _users  # noqa: PLW0603 - it counts users of sys.stdout, which is as global
    with _lock:
        _users += 1
        if not isinstance(sys.stdout, _Divider):
            sys.stdout = _Divider("stdout", sys.stdout)
        if not isinstance(sys.stderr, _Divider):
            sys.stderr = _Divider("stderr", sys.stderr)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                if isinstance(sys.stdout, _Divider):
                    sys.stdout = sys.stdout.original
                if isinstance(sys.stderr, _Divider):
                    sys.stderr = sys.stderr.original
