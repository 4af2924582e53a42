"""Which records of a run a reader wants, and how grave a line is; alike for pages, downloads and live readers."""

from __future__ import annotations

import json
import re
import string
from dataclasses import dataclass
from enum import StrEnum

#: Of a line, so much is looked at for its level.
_HEAD = 256

#: A longer line is not read as JSON: that it is an object is then all the same.
_MOST_JSON = 4_096


class Level(StrEnum):
    """How grave a line is, as `level_of` finds it; from the least on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is graver."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Level)}

_WORDS = {
    "trace": Level.DEBUG,
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "notice": Level.INFO,
    "warn": Level.WARNING,
    "warning": Level.WARNING,
    "error": Level.ERROR,
    "critical": Level.CRITICAL,
    "fatal": Level.CRITICAL,
}

_LEVEL = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL"

# `WARNING:root:text`, `[ERROR] text`, `2026-11-23 12:00:00,123 - name - INFO - text`, `12:00:00.1 DEBUG text`. In
# capital letters, as libraries write them: "error" at the head of a sentence is a word. There is one way to try it.
_TIME = r"\[?\d[\d:.,TZ/+-]*\]?(?: \d[\d:.,Z+-]*\]?)?"
_BETWEEN = r"(?: - [\w.]+ -|[ \t]*[|-])?[ \t]*"
_PREFIX = re.compile(rf"[ \t]*(?:{_TIME}{_BETWEEN})?[\[<]?({_LEVEL})(?![A-Za-z0-9_])")

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def level_of(stream: str, text: str) -> Level:
    """Return what a line says of its own level; else error for ``stderr``, and info for ``stdout``.

    The platform knows a line's stream and text alone: a line speaks of its level as Python's logging and most others
    write it at its head, or as a JSON object with ``level``, ``levelname`` or ``severity``.
    """
    said = _said_in_json(text) if text.startswith("{") else None
    if said is None:
        found = _PREFIX.match(text[:_HEAD])
        said = found[1].lower() if found else None
    if said is not None:
        return _WORDS[said]
    return Level.ERROR if stream == "stderr" else Level.INFO


def _said_in_json(text: str) -> str | None:
    if len(text) > _MOST_JSON:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    for name in ("level", "levelname", "severity"):
        said = document.get(name)
        if isinstance(said, str) and said.lower() in _WORDS:
            return said.lower()
    return None


def lowered(text: str) -> str:
    """Return a text with the letters of ASCII in lower case, and no others: so every database does it alike."""
    return text.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which records are wanted; without anything said, every line and no event.

    Attributes:
        node: Of node runs of this name, in whatever scope.
        scope: Of node runs of this scope; the empty one is the run's own graph.
        iteration: Of this iteration.
        attempt: Of this try.
        stream: Lines of this stream.
        level: Lines at least as grave.
        grep: Lines that have this text in them, as it is: it is no pattern.
        ignore_case: Whether letters of ASCII are the same in ``grep`` in upper and lower case.
        events: Whether the journal's events are wanted too.
    """

    node: str | None = None
    scope: str | None = None
    iteration: int | None = None
    attempt: int | None = None
    stream: str | None = None
    level: Level | None = None
    grep: str | None = None
    ignore_case: bool = False
    events: bool = False

    @property
    def wants_all(self) -> bool:
        """Whether nothing at all is left out."""
        return self == _ALL

    def is_about(self, scope: str, node: str | None, iteration: int | None, attempt: int | None) -> bool:
        """Tell whether what belongs to such a node run, and attempt, is wanted."""
        return (
            self.node in {None, node}
            and self.scope in {None, scope}
            and self.iteration in {None, iteration}
            and self.attempt in {None, attempt}
        )

    def takes_text(self, stream: str, text: str) -> bool:
        """Tell whether a line is wanted, as far as its stream and text go."""
        if self.stream not in {None, stream}:
            return False
        if self.grep is not None:
            is_there = lowered(self.grep) in lowered(text) if self.ignore_case else self.grep in text
            if not is_there:
                return False
        return self.is_grave(stream, text)

    def is_grave(self, stream: str, text: str) -> bool:
        """Tell whether a line is grave enough."""
        return self.level is None or level_of(stream, text).rank >= self.level.rank


_ALL = LogFilter(events=True)
