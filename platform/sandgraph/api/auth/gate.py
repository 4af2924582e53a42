"""The gate of a deployment: whom it lets in, with what, and how long."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol

from sandgraph.api.auth.admission import Admission, denied
from sandgraph.api.auth.jwks import IssuerKeys
from sandgraph.api.auth.keyring import TRUSTED_S, KeyRing
from sandgraph.api.auth.keyring import Keys as StoredKeys
from sandgraph.api.auth.tickets import Tickets
from sandgraph.api.auth.tokens import Tokens
from sandgraph.errors import Problem
from sandgraph.model.access import ANYBODY, Scope
from sandgraph.model.api_key import MARK, ApiKey
from sandgraph.settings import Access, Settings
from sandgraph.store.records import Page


class Keys(StoredKeys, Protocol):
    """Where keys are kept."""

    async def create(
        self, tenant: str, name: str, scopes: Iterable[Scope], *, created_by: str, expires_in: timedelta | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; return what is kept of it, and its text."""

    async def page(self, tenant: str | None, *, cursor: str | None = None, limit: int = 100) -> Page[ApiKey]:
        """Return the keys of a tenant, newest first."""

    async def revoke(self, key_id: str, tenant: str | None = None) -> ApiKey:
        """Let a key open nothing from now on; raise NotFound if that tenant, or without one anybody, has none such."""

    async def exist(self) -> bool:
        """Tell whether any key was ever made."""


class Gate:
    """Lets in who has a key, a token or a ticket; and everybody, as long as a deployment has no keys and runs open.

    Args:
        keys: Where keys are kept.
        settings: Of the deployment.
        clock: Seconds that only go forward.

    Attributes:
        keys: The same.
        tickets: That are out.
        issuer: Where its tokens come from; empty where it takes none.
        is_local: Whether, while it is open, it is so for this machine alone.
    """

    def __init__(self, keys: Keys, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = keys
        self._clock = clock
        self._ring = KeyRing(keys, clock)
        self._tokens: Tokens | None = None
        if settings.oidc_issuer:
            self._tokens = Tokens(settings, IssuerKeys(settings.oidc_issuer, settings.oidc_jwks_url, clock))
        self._may_be_open = settings.access is not Access.CLOSED and not settings.oidc_issuer
        self._open_until = -math.inf
        self._turn = asyncio.Lock()
        self.issuer = settings.oidc_issuer
        self.is_local = settings.listens_on_loopback and settings.access is Access.AUTO
        self.tickets = Tickets(clock)

    async def is_open(self) -> bool:
        """Tell whether everybody is let in; once that is over, it is so for good.

        Raises:
            Unavailable: The store does not answer.
        """
        if self._may_be_open and self._clock() >= self._open_until:
            async with self._turn:
                await self._look()
        return self._may_be_open

    def shut(self) -> None:
        """Let nobody in any more without a key: there is one."""
        self._may_be_open = False

    def forget(self, key_id: str) -> None:
        """Look a key up anew: it was changed."""
        self._ring.forget(key_id)

    async def admit(self, credential: str | None) -> Admission:
        """Return who asks.

        Args:
            credential: A key or a token; None where nothing was sent.

        Raises:
            HttpError: Nobody who is let in.
            Unavailable: Nobody can tell at present.
        """
        if await self.is_open():
            return Admission(ANYBODY)
        if credential is None:
            message = "Send an API key or a token: the header Authorization with Bearer and the key."
            raise denied(Problem("", "authentication_required", message), asked=False)
        if credential.startswith(MARK) or self._tokens is None:
            return await self._ring.admit(credential)
        return await self._tokens.admit(credential)

    async def check(self, admission: Admission) -> None:
        """Do nothing, unless who was let in once would not be so any more; raises as `admit`."""
        if admission.is_open:
            await self.admit(None)
        elif admission.principal.key_id is not None:
            await self._ring.check(admission.principal.key_id)
        elif self._tokens is not None:
            self._tokens.check(admission)

    async def _look(self) -> None:
        began = self._clock()
        if began < self._open_until:
            return  # somebody else did meanwhile
        if await self.keys.exist():
            self.shut()
        self._open_until = began + TRUSTED_S

    async def close(self) -> None:
        """Finish what was begun."""
        await self._ring.close()
        if self._tokens is not None:
            await self._tokens.close()
