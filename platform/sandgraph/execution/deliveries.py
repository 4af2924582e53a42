"""Makes the deliveries that webhooks are owed: at least once each, and however their endpoints behave."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from opentelemetry.trace import SpanKind

from sandgraph.errors import SandgraphError
from sandgraph.execution.posting import Answer, Poster
from sandgraph.model import webhooks
from sandgraph.store.webhook_records import Parcel, Try
from sandgraph.store.webhook_store import WebhookStore
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans
from sandgraph.telemetry.trace import HEADER

logger = logging.getLogger(__name__)

#: Deliveries that are made at the same time.
_SLOTS = 32

#: Seconds between two looks at the store, and the same after it did not answer.
_POLL_S, _TROUBLE_S = 1.0, 5.0

#: Seconds for which a delivery that was taken is nobody else's: longer than a post takes.
_HIDDEN_S = 30.0

#: Seconds between two rounds of tidying, and for how long what is over is kept.
_TIDY_S, _KEPT = 60.0, timedelta(days=7)

_GONE = 410


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class Deliverer:
    """One task that takes what is due from the store, and one for each delivery that is made.

    Args:
        store: Keeps what webhooks are owed.
        poster: Posts it; closed with this.
        clock: Tells the time.
        metrics: Count the tries.
        spans: Take what was done when.
    """

    def __init__(
        self,
        store: WebhookStore,
        poster: Poster,
        clock: Callable[[], datetime] = utc_now,
        *,
        metrics: Metrics | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._spans = spans or Spans()
        self._store = store
        self._poster = poster
        self._clock = clock
        self._news = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._under_way: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._tidied_at: datetime | None = None

    def start(self) -> None:
        """Begin, with what is due already."""
        self._watching = asyncio.create_task(self._watch(), name="webhooks")

    async def close(self) -> None:
        """Make no more deliveries: those under way are given back, and made after the next start."""
        tasks = [*([self._watching] if self._watching else []), *self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._poster.close()

    def ring(self) -> None:
        """Look at once: there is something to be delivered."""
        self._news.set()

    async def once(self) -> float:
        """Begin with what is due, and return for how long there is nothing to do, unless there is news."""
        at = self._clock()
        due = await self._store.next_due(at)
        free = _SLOTS - len(self._under_way)
        if due is not None and due <= at and free:
            under_way = list(self._under_way.values())
            for tenant, parcel in await self._store.claim(at, free, under_way, _HIDDEN_S):
                task = asyncio.create_task(self._deliver(parcel), name=f"webhook {parcel.delivery_id}")
                self._under_way[task] = (parcel.webhook_id, tenant)
                task.add_done_callback(self._ended)
        if self._tidied_at is None or at - self._tidied_at >= timedelta(seconds=_TIDY_S):
            self._tidied_at = at
            while await self._store.tidy(at, at - _KEPT):
                pass
        return _POLL_S

    async def settled(self) -> None:
        """Return once nothing is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way))

    async def _watch(self) -> None:
        while True:
            self._news.clear()
            try:
                sleep_s = await self.once()
            except SandgraphError:
                logger.warning("webhooks not looked at", exc_info=True, extra={"action": "webhooks_failed"})
                sleep_s = _TROUBLE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep_s):
                    await self._news.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._news.set()

    async def _deliver(self, parcel: Parcel) -> None:
        at = self._clock()
        body, timestamp = parcel.body.encode(), int(at.timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": parcel.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": webhooks.signature(parcel.secrets, parcel.delivery_id, timestamp, body),
        }
        # Whoever is told goes on with the run's trace.
        span = parcel.trace.new() if parcel.trace is not None and self._spans.is_on else parcel.trace
        if span is not None:
            headers[HEADER] = str(span)
        began_ns = time.time_ns()
        try:
            answer = await self._poster.post(parcel.url, headers, body)
            self._metrics.webhook_tried(answer.error or "delivered")
            if span is not None:
                about = {"sandgraph.webhook": parcel.webhook_id, "sandgraph.delivery": parcel.delivery_id}
                self._spans.record(
                    "webhook",
                    span,
                    parcel.trace,
                    began_ns,
                    time.time_ns(),
                    about,
                    kind=SpanKind.CLIENT,
                    error=answer.error,
                )
            await self._settle(parcel, at, answer)
        except asyncio.CancelledError:
            with suppress(SandgraphError):
                await asyncio.shield(self._store.release(parcel.delivery_id, at))
            raise
        except Exception:
            # It is taken again once it is no longer hidden.
            logger.exception("delivery failed", extra={"action": "delivery_crashed", "delivery": parcel.delivery_id})

    async def _settle(self, parcel: Parcel, at: datetime, answer: Answer) -> None:
        # What decides the time of the next try is chosen once, whatever the store has to do again.
        chance = random.random()  # noqa: S311 - it spreads load, and guards nothing
        await self._store.settle(
            parcel.delivery_id,
            Try(at, answer.status, answer.latency_ms, answer.error),
            is_delivered=answer.error is None,
            is_gone=answer.status == _GONE,
            next_at=partial(webhooks.next_try, at=at, chance=chance, asked_s=answer.retry_after_s),
        )
        if answer.error is not None:
            logger.info(
                "delivery not made: %s",
                answer.error,
                extra={"action": "delivery_failed", "delivery": parcel.delivery_id, "webhook": parcel.webhook_id},
            )
