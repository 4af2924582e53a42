"""What the store gives back of webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sandgraph.model.webhooks import DeliveryStatus
from sandgraph.telemetry.trace import SpanRef


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that is told of runs that end.

    Attributes:
        webhook_id: Sorts by the time of creation.
        tenant: Whose runs it is told of.
        url: Where that is sent.
        events: Which ends.
        graph: Of runs of graphs of this name; None for all.
        description: For people.
        is_enabled: Whether anything is sent.
        disabled_reason: Why nothing is, where the platform decided so.
        version: Raised by one with every change that somebody made.
        failures: Deliveries that failed in a row.
        closed_until: Until when it is left alone, as it failed too often.
        pending: Deliveries that wait.
        dropped: Deliveries that were not kept, as too many waited.
        created_at: Made.
        updated_at: Changed last.
    """

    webhook_id: str
    tenant: str
    url: str
    events: tuple[str, ...]
    graph: str | None
    description: str
    is_enabled: bool
    disabled_reason: str | None
    version: int
    failures: int
    closed_until: datetime | None
    pending: int
    dropped: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a delivery; ``status`` is the answer's, None where there was none, and ``error`` says why."""

    at: datetime
    status: int | None
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that a webhook is told.

    Attributes:
        delivery_id: Sorts by the time of creation; receivers get it as ``webhook-id``, the same with every try.
        webhook_id: Who is told.
        event: What it is about.
        run_id: The run that ended; None where somebody tries the webhook out.
        status: Where it stands.
        attempts: Tries that were made.
        tries: The last ones of them.
        next_at: When it is tried again.
        created_at: When the run ended.
        finished_at: When it was delivered or given up.
    """

    delivery_id: str
    webhook_id: str
    event: str
    run_id: str | None
    status: DeliveryStatus
    attempts: int
    tries: tuple[Try, ...]
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that is to be made now.

    Attributes:
        delivery_id: Of it.
        webhook_id: Of whom it is made to.
        url: Where.
        secrets: That sign it, the present one first.
        body: Exactly what is sent.
        attempts: Tries that were made before.
        give_up_at: When it is given up.
        failures: Deliveries to the endpoint that failed in a row before.
        trace: The span of the run that it tells of, where that is of a trace.
    """

    delivery_id: str
    webhook_id: str
    url: str
    secrets: tuple[str, ...]
    body: str
    attempts: int
    give_up_at: datetime
    failures: int
    trace: SpanRef | None = None


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What a webhook is made of; see `Webhook`."""

    url: str
    events: tuple[str, ...]
    graph: str | None
    description: str
    secret: str
    is_enabled: bool = True


#: Names of a webhook's columns that somebody may change, with their values.
Changes = Mapping[str, object]
