"""API keys at the pace of requests: looked up once in a while, and their use noted now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sandgraph.api.auth.admission import Admission, denied
from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem, SandgraphError
from sandgraph.model.api_key import ApiKey, digest_of, read_key

logger = logging.getLogger(__name__)

#: Seconds for which a key is known without being looked up: so late is seen at most what another process did to it.
TRUSTED_S = 2.0

#: Seconds between two notes that a key was used.
NOTED_S = 60.0

#: Keys that are known at the same time; further ones are looked up.
_MOST = 10_000

#: What a secret is held against where there is no key: as much work as where there is one.
_NO_DIGEST = digest_of("")


class Keys(Protocol):
    """Where keys are kept."""

    async def get(self, key_id: str) -> ApiKey | None:
        """Return a key; None where there is none of that id."""

    async def used(self, key_id: str, at: datetime) -> None:
        """Note that a key was used."""


@dataclass(slots=True)
class _Known:
    key: ApiKey
    read_at: float
    noted_at: float | None = None


class KeyRing:
    """Tells whose key a text is.

    Args:
        keys: Where they are kept.
        clock: Seconds that only go forward.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def admit(self, text: str) -> Admission:
        """Return whose key it is.

        Raises:
            HttpError: It is no key, or one that opens nothing any more. Only who has the secret is told which.
            Unavailable: The store does not answer.
        """
        parts = read_key(text)
        key = None if parts is None else await self._find(parts.key_id)
        if parts is None or key is None:
            digest_of(_NO_DIGEST)
            raise _unknown()
        if not key.fits(parts.secret):
            raise _unknown()
        check(key)
        self._note(key.key_id)
        return Admission(key.principal, key.expires_at)

    async def check(self, key_id: str) -> None:
        """Do nothing, unless the key opens nothing any more; raises as `admit`."""
        key = await self._find(key_id)
        if key is None:
            raise _unknown()
        check(key)

    def forget(self, key_id: str) -> None:
        """Look a key up anew: it was changed by this process."""
        self._known.pop(key_id, None)
        self._lookups.pop(key_id, None)

    async def close(self) -> None:
        """Finish what was begun."""
        await asyncio.gather(*self._notes, *self._lookups.values(), return_exceptions=True)

    async def _find(self, key_id: str) -> ApiKey | None:
        known = self._known.get(key_id)
        if known is not None and self._clock() - known.read_at < TRUSTED_S:
            return known.key
        lookup = self._lookups.get(key_id)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(key_id), name="key")
            self._lookups[key_id] = lookup
        # Many ask at the same time, and the one of them that goes away takes the answer from no other.
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> ApiKey | None:
        began, task = self._clock(), asyncio.current_task()
        try:
            key = await self._keys.get(key_id)
            # Nobody changed it meanwhile. What is not there is not kept: anybody can make up any number of ids.
            if key is not None and self._lookups.get(key_id) is task:
                self._keep(key, began)
            return key
        finally:
            if self._lookups.get(key_id) is task:
                del self._lookups[key_id]

    def _keep(self, key: ApiKey, read_at: float) -> None:
        before = self._known.get(key.key_id)
        self._known[key.key_id] = _Known(key, read_at, before.noted_at if before else None)
        self._known.move_to_end(key.key_id)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def _note(self, key_id: str) -> None:
        """Note the use of a key, unless that was done just now; nobody waits for it."""
        known = self._known.get(key_id)
        if known is None or (known.noted_at is not None and self._clock() - known.noted_at < NOTED_S):
            return
        known.noted_at = self._clock()
        task = asyncio.create_task(self._write_note(key_id), name="key-use")
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _write_note(self, key_id: str) -> None:
        try:
            await self._keys.used(key_id, datetime.now(UTC))
        except SandgraphError as error:
            logger.warning("the use of a key was not noted: %s", error, extra={"action": "key_use", "key": key_id})


def check(key: ApiKey) -> None:
    """Do nothing, unless a key opens nothing any more; for who has its secret.

    Raises:
        HttpError: It does not.
    """
    if key.revoked_at is not None:
        raise denied(Problem("", "key_revoked", "This API key was revoked."))
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise denied(Problem("", "key_expired", "This API key has expired."))


def _unknown() -> HttpError:
    return denied(Problem("", "key_invalid", "This is no API key of this deployment."))
