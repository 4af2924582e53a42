"""Webhooks: as clients hand them in, and as they get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, ConfigDict, Field

from sandgraph.api.schemas.answers import Answer
from sandgraph.api.schemas.graph import Label
from sandgraph.api.schemas.validation import Submitted, parse
from sandgraph.errors import InvalidInput
from sandgraph.model.destinations import MAX_URL
from sandgraph.model.webhooks import DeliveryStatus, is_secret
from sandgraph.settings import Settings

Event = Literal["run.completed", "run.failed", "run.cancelled", "run.interrupted"]

_URL = "Where it is told, by POST: https, a public address, and a port that the deployment allows."
_EVENTS = "Which ends of runs it is told of."
_GRAPH = "Only of runs of graphs of this name; null for all."

_Url = Annotated[str, Field(min_length=1, max_length=MAX_URL)]
_Events = Annotated[list[Event], Field(min_length=1, max_length=8)]
_Description = Annotated[str, Field(max_length=500)]
_Time = Annotated[AwareDatetime, Field(description="UTC.")]
_Cursor = Annotated[str | None, Field(description="Asks for what follows; null at the end of the list.")]


class WebhookDocument(Submitted):
    """An endpoint to be told of runs that end."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/hooks/sandgraph", "events": ["run.completed", "run.failed"]},
                {"url": "https://example.com/hooks", "graph": "double", "description": "Tells the team."},
            ]
        }
    )

    url: _Url = Field(description=_URL)
    events: _Events = Field(default=list(get_args(Event)), description=f"{_EVENTS} All, without it.")
    graph: Label | None = Field(default=None, description=_GRAPH)
    description: _Description = Field(default="", description="For people.")
    secret: str | None = Field(
        default=None,
        max_length=128,
        description="`whsec_` and 24 to 64 bytes in base64; without it one is made, which is the better way.",
    )
    enabled: bool = Field(default=True, description="Whether anything is sent.")


class WebhookChange(Submitted):
    """What changes of a webhook; what is not named stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}, {"events": ["run.failed"]}]})

    url: _Url = Field(default="", description=_URL)
    events: _Events = Field(default=list(get_args(Event)), description=_EVENTS)
    graph: Label | None = Field(default=None, description=_GRAPH)
    description: _Description = Field(default="", description="For people.")
    enabled: bool = Field(default=True, description="Whether anything is sent; true begins anew after failures.")


class WebhookAnswer(Answer):
    """A webhook."""

    webhook_id: str
    url: str
    events: list[Event]
    graph: str | None
    description: str
    enabled: bool
    disabled_reason: str | None = Field(
        description="`gone` where the endpoint answered 410; null where somebody did it."
    )
    version: int = Field(description="Raised with every change; the ETag.")
    failures: int = Field(description="Tries that failed in a row.")
    paused_until: AwareDatetime | None = Field(description="Until then nothing is sent, as too many tries failed.")
    pending: int = Field(description="Deliveries that wait.")
    dropped: int = Field(description="Deliveries that were not kept, as too many waited.")
    created_at: _Time
    updated_at: _Time


class WebhookCreated(WebhookAnswer):
    """A webhook, with its secret: that is shown at no other time."""

    secret: str = Field(description="Signs what is sent.")


class WebhookList(Answer):
    """Webhooks, newest first."""

    webhooks: list[WebhookAnswer]
    next_cursor: _Cursor


class TryAnswer(Answer):
    """One try of a delivery."""

    at: _Time
    status: int | None = Field(description="Of the answer; null where there was none.")
    latency_ms: float
    error: str | None = Field(
        description="Null where all is well; else `refused` (no 2xx), `redirected`, `timeout`, `connect_failed`, "
        "`name_not_resolved`, `address_not_allowed`, `url_not_allowed` or `answer_invalid`."
    )


class DeliveryAnswer(Answer):
    """Something that a webhook is told."""

    delivery_id: str = Field(description="What the receiver gets as `webhook-id`, the same with every try.")
    webhook_id: str
    event: str
    run_id: str | None = Field(description="Null for a test.")
    status: DeliveryStatus
    attempts: int = Field(description="Tries since it was made, or made once more.")
    tries: list[TryAnswer] = Field(description="The last 20, first ones first.")
    next_attempt_at: AwareDatetime | None
    created_at: _Time
    finished_at: AwareDatetime | None


class DeliveryList(Answer):
    """Deliveries, newest first."""

    deliveries: list[DeliveryAnswer]
    next_cursor: _Cursor


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A webhook to be made, checked."""

    url: str
    events: tuple[str, ...]
    graph: str | None
    description: str
    secret: str | None
    enabled: bool


def parse_webhook(document: object, _settings: Settings) -> WebhookRequest:
    """Read a webhook; whether its URL may be is for who knows the deployment's rules to judge.

    Raises:
        InvalidInput: Everything that is wrong with it.
    """
    read = parse(WebhookDocument, document)
    if read.secret is not None and not is_secret(read.secret):
        message = "It must be whsec_ and 24 to 64 bytes in base64."
        raise InvalidInput.at("secret", "invalid_value", message)
    events = tuple(dict.fromkeys(read.events))
    return WebhookRequest(read.url, events, read.graph, read.description, read.secret, read.enabled)


def parse_change(document: object, _settings: Settings) -> Mapping[str, object]:
    """Read what changes of a webhook, by the names of what is stored.

    Raises:
        InvalidInput: Everything that is wrong with it.
    """
    read = parse(WebhookChange, document)
    named = {"enabled": "is_enabled"}
    return {
        named.get(name, name): list(dict.fromkeys(read.events)) if name == "events" else getattr(read, name)
        for name in sorted(read.model_fields_set)
    }
