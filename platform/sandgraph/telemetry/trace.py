"""Which trace something belongs to, as W3C's ``traceparent`` says it, and the names of the spans in it.

A run outlives the request that made it, and the process that began it. So that every part of it is found under one
trace, the run keeps the ``traceparent`` of its request, and the ids of its own spans follow from what they are of: the
run's from the run's id, an attempt's from its run, node run and number. Whoever knows these knows the span.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

HEADER = "traceparent"

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class SpanRef:
    """A span, by its ids.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        is_sampled: Whether it is to be recorded.
    """

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def __str__(self) -> str:
        """Return it as ``traceparent`` has it."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.is_sampled else 0:02x}"

    def named(self, *names: object) -> SpanRef:
        """Return the span in the same trace whose id follows from names."""
        text = "\0".join(map(str, names))
        return replace(self, span_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16])

    def new(self) -> SpanRef:
        """Return a new span in the same trace."""
        return replace(self, span_id=secrets.token_hex(8))


def new_trace(*, is_sampled: bool) -> SpanRef:
    """Return the first span of a new trace."""
    return SpanRef(secrets.token_hex(16), secrets.token_hex(8), is_sampled)


def parse(text: str | None) -> SpanRef | None:
    """Read a ``traceparent``; None where it is none, as the standard wants it."""
    form = _FORM.fullmatch(text.strip()) if text else None
    if form is None:
        return None
    version, trace_id, span_id, flags, rest = form.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return SpanRef(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def run_span(traceparent: str | None, run_id: str) -> SpanRef | None:
    """Return a run's span, of the ``traceparent`` that the run keeps; None where it has no trace."""
    parent = parse(traceparent)
    return parent.named(run_id) if parent else None


def attempt_span(run: SpanRef, run_id: str, node_run: str, attempt: int) -> SpanRef:
    """Return the span of an attempt; ``node_run`` is the path of its node run."""
    return run.named(run_id, node_run, attempt)


_CURRENT: ContextVar[SpanRef | None] = ContextVar("sandgraph_span", default=None)


def current() -> SpanRef | None:
    """Return the span of what this task works on."""
    return _CURRENT.get()


def current_traceparent() -> str | None:
    """Return the same as ``traceparent`` has it."""
    span = _CURRENT.get()
    return None if span is None else str(span)


@contextmanager
def within(span: SpanRef | None) -> Iterator[None]:
    """Have this span be the current one for the length of the block."""
    token = _CURRENT.set(span)
    try:
        yield
    finally:
        _CURRENT.reset(token)
