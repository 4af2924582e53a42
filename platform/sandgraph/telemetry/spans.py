"""Tells a collector of OpenTelemetry what was done when, once it is done.

Spans are recorded at their end, with the ids that `sandgraph.telemetry.trace` gave them: what begins in one process may
end in another, which knows all there is to say of it. Without a collector nothing is recorded, and no SDK imported.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import cast

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from sandgraph.errors import ConfigurationError
from sandgraph.telemetry.trace import SpanRef, new_trace

Attributes = Mapping[str, str | int | float | bool]

#: Seconds that a collector has to take a batch of spans.
_EXPORT_S = 3

#: The ids that the next span gets.
_WANTED: ContextVar[SpanRef | None] = ContextVar("sandgraph_wanted_span", default=None)


class Spans:
    """Where spans go.

    Args:
        tracer: Records them; without one nobody does.
        ratio: Which part of the traces that begin here is recorded.
        close: Sends what is left.
    """

    def __init__(
        self, tracer: Tracer | None = None, *, ratio: float = 1.0, close: Callable[[], None] | None = None
    ) -> None:
        self._tracer = tracer
        self._ratio = ratio
        self._close = close
        #: Whether anybody records them.
        self.is_on = tracer is not None

    def root(self) -> SpanRef | None:
        """Return the first span of a trace that begins here; None where nobody records."""
        # To choose what is recorded guards nothing.
        return new_trace(is_sampled=random.random() < self._ratio) if self.is_on else None  # noqa: S311

    def record(
        self,
        name: str,
        span: SpanRef,
        parent: SpanRef | None,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        error: str | None = None,
    ) -> None:
        """Record what was done.

        Args:
            name: Of the kind of work.
            span: Its ids.
            parent: As part of what; None where a trace begins with it.
            began_ns: In nanoseconds since 1970, and so
            ended_ns: its end.
            attributes: What else there is to say.
            kind: Its role.
            error: What went wrong; None where nothing did.
        """
        if self._tracer is None or not span.is_sampled:
            return
        token = _WANTED.set(span)
        try:
            made = self._tracer.start_span(
                name, context=_context(parent), kind=kind, attributes=dict(attributes), start_time=began_ns
            )
        finally:
            _WANTED.reset(token)
        if error is not None:
            made.set_status(Status(StatusCode.ERROR, error))
        made.end(end_time=max(began_ns, ended_ns))

    def close(self) -> None:
        """Send what is left, and stop; may take seconds, so not on an event loop."""
        if self._close is not None:
            self._close()


class WantedIds:
    """Gives spans the ids that they are to have; the SDK calls this an ``IdGenerator``."""

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        wanted = _WANTED.get()
        return int(wanted.span_id, 16) if wanted else random.getrandbits(64)

    def generate_trace_id(self) -> int:
        """Return the id of the next trace."""
        wanted = _WANTED.get()
        return int(wanted.trace_id, 16) if wanted else random.getrandbits(128)

    def is_trace_id_random(self) -> bool:
        """Say that ids are as random as the standard wants them."""
        return True


def open_spans(endpoint: str | None, *, ratio: float, attributes: Mapping[str, str]) -> Spans:
    """Return where the spans of a platform go.

    Args:
        endpoint: Address of a collector that takes OTLP over HTTP; None where nobody records.
        ratio: Which part of the traces that begin here is recorded.
        attributes: Of the platform.

    Raises:
        ConfigurationError: The libraries for it are not installed.
    """
    if endpoint is None:
        return Spans()
    try:
        # An extra, and half a second to import.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
    except ImportError as missing:
        raise ConfigurationError(
            f"otel_endpoint: traces need libraries that are not installed ({missing.name}): "
            "pip install 'sandgraph[otel]', or leave SANDGRAPH_OTEL_ENDPOINT out."
        ) from None
    resource = Resource({"service.name": "sandgraph", "service.version": version("sandgraph"), **attributes})
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=resource,
        id_generator=cast("IdGenerator", WantedIds()),
        shutdown_on_exit=False,
    )
    address = endpoint.rstrip("/")
    address = address if address.endswith("/v1/traces") else f"{address}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address, timeout=_EXPORT_S)))
    return Spans(provider.get_tracer("sandgraph"), ratio=ratio, close=provider.shutdown)


def _context(parent: SpanRef | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    known = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(known), Context())
