"""What webhooks are told, how that is signed, and when it is tried again: as in the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sandgraph.model.run import RunStatus

#: What a secret begins with.
PREFIX = "whsec_"

#: Bytes of a secret that is made here, and of one that is given.
_BYTES, _LEAST_BYTES, _MOST_BYTES = 32, 24, 64

#: Seconds from each try to the next one.
DELAYS_S = (5, 30, 300, 1_800, 7_200, 18_000, 28_800, 28_800)

#: Of a delay, which are shortened and lengthened at random by at most so much of them.
JITTER = 0.2

#: A delivery that was not made in this time is given up, also where its endpoint was not asked as it failed others.
GIVE_UP_AFTER = timedelta(hours=30)

#: Seconds that a server may ask us to wait for.
_MOST_RETRY_AFTER_S = 3_600

#: Failures in a row after which an endpoint is left alone for a time, and how long that is at first and at most.
CIRCUIT_FAILURES = 5
_CIRCUIT_S, _MOST_CIRCUIT_S = 30, 1_800

#: For how long the secret before the present one signs too.
ROTATION = timedelta(hours=24)


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

    COMPLETED = "run.completed"
    FAILED = "run.failed"
    CANCELLED = "run.cancelled"
    INTERRUPTED = "run.interrupted"


#: Told when somebody tries a webhook out.
TEST_EVENT = "webhook.test"


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def event_of(status: RunStatus) -> WebhookEvent:
    """Return what is told of a run that ended."""
    return WebhookEvent(f"run.{status.value}")


def new_secret() -> str:
    """Return a secret that nobody can guess."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode("ascii")


def is_secret(text: str) -> bool:
    """Tell whether a text has the form of a secret."""
    try:
        return text.startswith(PREFIX) and _LEAST_BYTES <= len(_key(text)) <= _MOST_BYTES
    except (binascii.Error, ValueError):
        return False


def signature(secrets_: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: a signature for each secret.

    Args:
        secrets_: Each with its prefix.
        webhook_id: The header ``webhook-id``.
        timestamp: The header ``webhook-timestamp``.
        body: Exactly as it is sent.
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    made = (hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in secrets_)
    return " ".join(f"v1,{base64.b64encode(each).decode('ascii')}" for each in made)


def next_try(tries: int, at: datetime, chance: float, asked_s: float | None = None) -> datetime | None:
    """Return when a delivery is tried again; None where it was tried often enough.

    Args:
        tries: That were made, the last one at ``at``.
        at: When that was.
        chance: Between 0 and 1.
        asked_s: Seconds that the server asked us to wait for.
    """
    if tries > len(DELAYS_S):
        return None
    delay_s = DELAYS_S[tries - 1] * (1 - JITTER + 2 * JITTER * chance)
    return at + timedelta(seconds=max(delay_s, min(asked_s or 0.0, _MOST_RETRY_AFTER_S)))


def closed_until(failures: int, at: datetime) -> datetime | None:
    """Return until when an endpoint is left alone that failed so many times in a row; None for not at all."""
    if failures < CIRCUIT_FAILURES:
        return None
    seconds = min(_CIRCUIT_S * 2 ** min(failures - CIRCUIT_FAILURES, 16), _MOST_CIRCUIT_S)
    return at + timedelta(seconds=seconds)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
