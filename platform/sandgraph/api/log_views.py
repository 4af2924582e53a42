"""Records of a log as clients get them: JSON documents, and text that no terminal takes for orders."""

from __future__ import annotations

import re
from datetime import UTC

from sandgraph.api.views import Document, record_view
from sandgraph.model.run import NodeRunKey
from sandgraph.store.records import JournalRecord

# What moves a terminal's cursor, colours, rings, retitles, ends a line or turns the direction of writing.
_HARMFUL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def kind_of(record: JournalRecord) -> str:
    """Return what a reader is told: ``log``, ``event``, ``truncated``, ``gap`` or ``end``."""
    if record.is_end:
        return "end"
    return "truncated" if record.is_truncation else record.kind


def log_view(record: JournalRecord) -> Document:
    """Return a record of a log: as on the WebSocket, but for ``kind``, which names truncations and the end too."""
    return {**record_view(record), "kind": kind_of(record)}


def text_of(record: JournalRecord) -> str:
    """Return a record as a line of text, without its end."""
    kind = kind_of(record)
    if kind == "log":
        head = f"{_time(record)} {harmless(_where(record))} {record.type}: "
        return head + harmless(record.message) + (" [cut]" if record.data.get("cut") else "")
    if kind == "gap":
        lines = record.data.get("lines")
        what = "lines" if lines is None else "1 line" if lines == 1 else f"{lines} lines"
        return f"--- {what} removed by {record.data['reason']} ---"
    if kind == "truncated":
        return f"--- the output of {harmless(_where(record))} ends here, at its limit ---"
    return f"{_time(record)} --- {harmless(record.message)}"


def harmless(text: str) -> str:
    r"""Return a text whose control characters are escapes, as ``\x1b``; tabs stay."""
    return _HARMFUL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - what two digits hold


def _where(record: JournalRecord) -> str:
    key = NodeRunKey(record.node or "", record.iteration or 1, record.scope)
    return f"{key} attempt {record.attempt}" if record.attempt and record.attempt > 1 else str(key)


def _time(record: JournalRecord) -> str:
    return record.ts.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
