"""What the child prints, cut into lines and bounded."""

from __future__ import annotations

import codecs

from sandgraph_runner.jobs import BYTES_A_LINE

#: A line as a LOG frame has it: stream, seconds since the start, text, whether it was cut.
Line = list[object]


class Capture:
    """Makes lines of both streams' bytes, as many as may be printed.

    Args:
        max_bytes: Of both streams together, in at most a sixteenth as many lines; what is over it is dropped.
        max_line_bytes: Of one line; the rest of a longer one is dropped, but counts.
    """

    def __init__(self, max_bytes: int, max_line_bytes: int) -> None:
        self._max = max_bytes
        self._lines_left = max(max_bytes // BYTES_A_LINE, 1)
        self._streams = {name: _Stream(name, max_line_bytes) for name in ("stdout", "stderr")}
        self.taken = 0
        self.is_over = False

    @property
    def room(self) -> int:
        """How many bytes may still come."""
        return self._max - self.taken

    def feed(self, stream: str, data: bytes, elapsed_s: float) -> list[Line]:
        """Take in what one read gave, and return the lines it completes.

        Once more came than there is room for, ``is_over`` is true and the last line, where it is not whole, is cut.
        """
        kept = data[: self.room]
        self.taken += len(kept)
        lines = self._streams[stream].feed(kept, elapsed_s)
        if len(kept) < len(data):
            self.is_over = True
            lines += self._streams[stream].finish(elapsed_s, is_cut=True)
        if len(lines) > self._lines_left:
            self.is_over = True
            del lines[self._lines_left :]
        self._lines_left -= len(lines)
        return lines

    def finish(self, elapsed_s: float) -> list[Line]:
        """Return what was printed without a newline at its end."""
        if not self._lines_left:
            return []
        return [line for stream in self._streams.values() for line in stream.finish(elapsed_s, is_cut=False)]


class _Stream:
    def __init__(self, name: str, max_line_bytes: int) -> None:
        self._name = name
        self._max = max_line_bytes
        self._pending = bytearray()
        self._is_skipping = False

    def feed(self, data: bytes, elapsed_s: float) -> list[Line]:
        *whole, rest = data.split(b"\n")
        lines: list[Line] = []
        if whole:
            self._take(whole[0], elapsed_s, lines)
            self._end(elapsed_s, lines)
        for piece in whole[1:]:
            if len(piece) <= self._max:
                lines.append(self._line(piece, elapsed_s, is_cut=False))
            else:
                self._take(piece, elapsed_s, lines)
                self._end(elapsed_s, lines)
        self._take(rest, elapsed_s, lines)
        return lines

    def finish(self, elapsed_s: float, *, is_cut: bool) -> list[Line]:
        lines: list[Line] = []
        if self._pending:
            lines.append(self._line(bytes(self._pending), elapsed_s, is_cut=is_cut))
            self._pending.clear()
        return lines

    def _take(self, piece: bytes, elapsed_s: float, lines: list[Line]) -> None:
        """Add to the line that is not complete; at the limit it goes out, and its rest is dropped."""
        if self._is_skipping:
            return
        room = self._max - len(self._pending)
        self._pending += piece[:room]
        if len(piece) > room:
            lines += self.finish(elapsed_s, is_cut=True)
            self._is_skipping = True

    def _end(self, elapsed_s: float, lines: list[Line]) -> None:
        """End the line that is not complete."""
        if not self._is_skipping:
            lines.append(self._line(bytes(self._pending), elapsed_s, is_cut=False))
            self._pending.clear()
        self._is_skipping = False

    def _line(self, data: bytes, elapsed_s: float, *, is_cut: bool) -> Line:
        # Where a line is cut within a character, what is there of it is left out.
        text = codecs.utf_8_decode(data, "replace", not is_cut)[0]
        return [self._name, elapsed_s, text.replace("\0", "\ufffd"), is_cut]
