"""Every line that is logged, ours and the libraries', as one JSON object a line, or for people.

Code logs through `logging` with ``extra={"action": …}``: the action is a stable name in snake_case, what it is about
comes from ``extra`` and from `sandgraph.telemetry.context`, and the message is for people.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import structlog

from sandgraph.telemetry.context import bound
from sandgraph.telemetry.redaction import redacted

#: The action of a line that a library logged: it says none.
LIBRARY = "library"

#: What `logging` itself puts on a record; all else was given as ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)

#: Libraries that tell of each request they make.
_TALKATIVE = ("docker", "urllib3", "httpx", "httpx2", "httpcore", "asyncio", "websockets", "opentelemetry")


def configure(level: str, log_format: str = "auto", stream: TextIO | None = None) -> None:
    """Have everything that is logged in this process written; a second call replaces the first.

    Args:
        level: The least level of what is written: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``json``, ``console``, or ``auto``: for people where the stream is a terminal.
        stream: Where to; the standard error stream without it.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    for_people = log_format == "console" or (log_format == "auto" and stream.isatty())
    handler.setFormatter(ForPeople(colors=stream.isatty()) if for_people else ForPrograms())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.captureWarnings(capture=True)
    # Whoever takes a logger of structlog's gets the same lines.
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what a line says: when, how grave, what happened and about what; nothing secret."""
    extra = {name: value for name, value in vars(record).items() if name not in _OWN and not name.startswith("_")}
    fields: dict[str, object] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "action": LIBRARY,
        "message": record.getMessage(),
        "logger": record.name,
        **bound(),
        **extra,
    }
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = record.stack_info
    return redacted({name: value for name, value in fields.items() if value is not None})


class ForPrograms(logging.Formatter):
    """A line is a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return _ENCODER.encode(fields_of(record)).encode("utf-8", "replace").decode()


class ForPeople(logging.Formatter):
    """A line begins with when, how grave and what; tracebacks follow on lines of their own.

    Args:
        colors: Whether a terminal shows it.
    """

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, event_key="message", timestamp_key="ts", pad_event_to=0
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = fields_of(record)
        for name, value in fields.items():
            # What would let a name or a message look like another line, or steer a terminal.
            if isinstance(value, str) and name not in {"exception", "stack"}:
                fields[name] = _escaped(value)
        return str(self._render(None, "", fields))


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
