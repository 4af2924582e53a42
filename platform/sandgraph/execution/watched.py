"""Watches attempts on their way to a worker and back, for metrics and traces; nothing of them changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from sandgraph.execution.tracing import record_attempt
from sandgraph.execution.transport import Assignment, OnLines, OnStopped, Transport
from sandgraph.model.run import AttemptStatus, LogLine, Usage
from sandgraph.sandbox.spec import Broken, Outcome
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans

logger = logging.getLogger(__name__)


class WatchedTransport:
    """A `Transport` that measures another.

    Args:
        transport: Does the work.
        metrics: Take what is measured.
        spans: Take what was done when.
    """

    def __init__(self, transport: Transport, metrics: Metrics, spans: Spans) -> None:
        self._spans = spans
        self._transport = transport
        self._metrics = metrics

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        """See `Transport.perform`."""
        began, began_ns = time.monotonic(), time.time_ns()
        metrics = self._metrics
        used = Usage()

        async def lines_came(of: Assignment, lines: Sequence[LogLine]) -> None:
            await on_lines(of, lines)
            metrics.printed(len(lines), sum(len(line.text) + 1 for line in lines))

        async def was_stopped(of: Assignment, usage: Usage) -> None:
            nonlocal used
            used = usage
            await on_stopped(of, usage)

        status = AttemptStatus.CANCELLED
        try:
            outcome = await self._transport.perform(assignment, lines_came, was_stopped)
        except asyncio.CancelledError:
            raise
        except Exception:
            status = AttemptStatus.LOST
            raise
        else:
            used = outcome.usage
            status = outcome.status if isinstance(outcome, Broken) else AttemptStatus.SUCCEEDED
            return outcome
        finally:
            took_s = time.monotonic() - began
            if self._spans.is_on:
                ended_ns = began_ns + round(took_s * 1e9)
                record_attempt(self._spans, assignment, began_ns, ended_ns, status, used)
            if logger.isEnabledFor(logging.DEBUG):
                about = {"status": status.value, "seconds": round(took_s, 4), "run": assignment.run_id}
                logger.debug("attempt ended: %s", status.value, extra={"action": "attempt_ended", **about})
            metrics.attempt_ended(
                status,
                took_s=took_s,
                slot_wait_s=used.queue_s,
                lease_s=used.start_s,
                inside_s=used.wall_s,
            )

    async def end_run(self, run_id: str) -> None:
        """See `Transport.end_run`."""
        await self._transport.end_run(run_id)
