"""The public keys of an OIDC issuer: fetched when they are needed, kept for a while, and never asked for too often."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping

import httpx2
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from sandgraph.errors import Unavailable

logger = logging.getLogger(__name__)

#: Seconds for which keys are used without asking again: so late is seen that the issuer withdrew one.
FRESH_S = 300.0

#: Seconds for which keys are used although the issuer does not answer.
STALE_S = 24 * 3600.0

#: Seconds between two times that the issuer is asked, whatever tokens come.
PAUSE_S = 10.0

_TIMEOUT_S = 5.0
_LARGEST = 256 * 1024
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048

#: What a key of a type, and of a curve, may sign with. There is nothing in it that needs a shared secret.
ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}


class IssuerKeys:
    """The keys of one issuer.

    Args:
        issuer: Its address, by which its configuration is found.
        jwks_url: Where its keys are; else where its configuration says.
        clock: Seconds that only go forward.
    """

    def __init__(self, issuer: str, jwks_url: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._keys: dict[str, dict[str, object]] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._failed = False
        self._asking: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> PyJWK | None:
        """Return the key of that id, to be used with that algorithm; None where the issuer has none.

        Raises:
            Unavailable: It is not known here, and the issuer does not answer.
        """
        if not self._is_younger(FRESH_S):
            await self._refresh()
        if kid not in self._keys:
            # Perhaps a new one.
            await self._refresh()
        if not self._is_younger(STALE_S):
            self._keys = {}
        found = self._keys.get(kid)
        if found is not None:
            return _usable(found, algorithm)
        if self._failed or self._fetched_at is None:
            raise Unavailable("The issuer of this token does not answer.", code="issuer_unavailable")
        return None

    async def close(self) -> None:
        """Let go of the issuer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def _is_younger(self, seconds: float) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < seconds

    async def _refresh(self) -> None:
        """Ask the issuer, unless that was done just now; who asks at the same time waits for the same answer."""
        if self._asking is None:
            if self._asked_at is not None and self._clock() - self._asked_at < PAUSE_S:
                return
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._ask(), name="jwks")
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                keys = _keys_of(await self._get(self._jwks_url or await self._discover()))
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            self._failed = True
            logger.warning(
                "the issuer's keys could not be fetched: %s",
                str(error) or type(error).__name__,
                extra={"action": "issuer_unavailable", "issuer": self._issuer},
            )
        else:
            self._keys, self._fetched_at, self._failed = keys, self._clock(), False
        finally:
            self._asking = None

    async def _discover(self) -> str:
        found = await self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._issuer:
            raise ValueError("the configuration is of another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_safe(url, self._issuer):
            raise ValueError("the configuration names no address of keys that can be trusted")
        return url

    async def _get(self, url: str) -> dict[str, object]:
        """Return the object at an address: of bounded size, and from there, not from where it would lead."""
        if self._client is None:
            self._client = httpx2.AsyncClient(follow_redirects=False, timeout=_TIMEOUT_S)
        async with self._client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise ValueError(f"{url} answered {answer.status_code}")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST:
                    raise ValueError(f"{url} answered more than {_LARGEST} bytes")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError(f"{url} did not answer an object")  # noqa: TRY004 - of what came, not of a call
        return document


def is_safe(url: str, issuer: str = "") -> bool:
    """Tell whether what comes from an address is what its owner sent: by TLS, or from this machine.

    Args:
        url: The address.
        issuer: One that was trusted already; another one without TLS has to be of a machine as near.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    if parsed.scheme == "https" and parsed.host:
        return True
    is_near = parsed.scheme == "http" and parsed.host in {"127.0.0.1", "::1", "localhost"}
    return is_near and not issuer.startswith("https")


def _keys_of(document: Mapping[str, object]) -> dict[str, dict[str, object]]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise ValueError("there is no list of keys, or it is too long")
    found: dict[str, dict[str, object]] = {}
    for key in listed:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        kid = key.get("kid")
        if isinstance(kid, str) and kid and _algorithms(key):
            found.setdefault(kid, key)
    return found


def _algorithms(key: Mapping[str, object]) -> tuple[str, ...]:
    kind, curve = key.get("kty"), key.get("crv")
    if not isinstance(kind, str) or not (curve is None or isinstance(curve, str)):
        return ()
    return ALGORITHMS.get((kind, curve), ())


def _usable(key: Mapping[str, object], algorithm: str) -> PyJWK | None:
    """Return a key to verify with; None where it is not meant for that algorithm."""
    if algorithm not in _algorithms(key) or key.get("alg", algorithm) != algorithm:
        return None
    public = {name: value for name, value in key.items() if name in {"kty", "crv", "kid", "n", "e", "x", "y"}}
    try:
        made = PyJWK(public, algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError):
        return None
    size = getattr(made.key, "key_size", _LEAST_RSA_BITS)
    return None if key["kty"] == "RSA" and size < _LEAST_RSA_BITS else made
