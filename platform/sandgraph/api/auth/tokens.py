"""Tokens of an OIDC issuer: believed where the issuer signed them, for us and for now, and they read one way alone."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuedAtError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from sandgraph.api.auth.admission import Admission, denied
from sandgraph.api.auth.jwks import ALGORITHMS, IssuerKeys
from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem
from sandgraph.model.access import DEFAULT_TENANT, TENANT_PATTERN, Principal, Scope
from sandgraph.settings import Settings

#: Seconds by which the issuer's clock and ours may differ.
LEEWAY_S = 30

#: Longest token.
LARGEST = 8 * 1024

#: Longest name of a user.
_LONGEST_SUBJECT = 255

_ALLOWED = frozenset(name for names in ALGORITHMS.values() for name in names)
_TENANT = re.compile(TENANT_PATTERN)
_REQUIRED = ["exp", "iss", "aud", "sub"]

#: Why a token of the issuer's own is refused, for its user; the first class that fits.
_REASONS: tuple[tuple[type[PyJWTError], str], ...] = (
    (ImmatureSignatureError, "It is not valid yet."),
    (InvalidIssuedAtError, "It is from the future, or says no time at which it was made."),
    (InvalidAudienceError, "It is for another audience."),
    (InvalidIssuerError, "It is of another issuer."),
    (MissingRequiredClaimError, f"It lacks one of {', '.join(_REQUIRED)}."),
)


class Tokens:
    """Tells who a token names.

    Args:
        settings: Of the deployment: the issuer, the audience, and what claims mean.
        keys: Of the issuer.
    """

    def __init__(self, settings: Settings, keys: IssuerKeys) -> None:
        self._issuer = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._tenant_claim = settings.oidc_tenant_claim
        self._scope_claim = settings.oidc_scope_claim
        self._scopes = [(claim, Scope(scope)) for claim, scope in settings.oidc_scopes]
        self._keys = keys

    async def admit(self, token: str) -> Admission:
        """Return who a token names, for whom, with what scopes, and until when.

        Raises:
            HttpError: It is not to be believed.
            Unavailable: Nobody can tell: the issuer does not answer.
        """
        kid, algorithm = _header(token)
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise _invalid("It is signed with no key of the issuer's.")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
            _parsed(token.split(".")[1])
            expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
        except ExpiredSignatureError:
            raise _expired() from None
        except PyJWTError as wrong:
            reason = next((said for kind, said in _REASONS if isinstance(wrong, kind)), "It cannot be verified.")
            raise _invalid(reason) from None
        except (ValueError, TypeError, OverflowError, OSError, RecursionError):
            raise _invalid("Its claims cannot be read.") from None
        return Admission(self._principal(claims), expires_at)

    def check(self, admission: Admission) -> None:
        """Do nothing, unless a token has ended; raises as `admit`."""
        ends = admission.expires_at
        if ends is not None and ends.timestamp() + LEEWAY_S <= datetime.now(UTC).timestamp():
            raise _expired()

    async def close(self) -> None:
        """Let go of the issuer."""
        await self._keys.close()

    def _principal(self, claims: Mapping[str, object]) -> Principal:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise _invalid("Its sub names nobody.")
        tenant = _at(claims, self._tenant_claim) if self._tenant_claim else DEFAULT_TENANT
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise _invalid(f"It names no tenant: {self._tenant_claim} must be one, as {TENANT_PATTERN}.")
        said = _at(claims, self._scope_claim)
        names = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        return Principal(tenant, subject, frozenset(scope for claim, scope in self._scopes if claim in names))


def _header(token: str) -> tuple[str, str]:
    """Return which key and algorithm a token names; nothing else of its header counts, as `jku` and `jwk` may not."""
    parts = token.split(".")
    if len(token) > LARGEST or len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        raise _invalid(f"It is no signed JWT of at most {LARGEST} bytes.")
    try:
        header = _parsed(parts[0])
    except (ValueError, RecursionError):
        raise _invalid("Its header cannot be read.") from None
    kid, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALLOWED or "crit" in header or not header.get("b64", True):
        raise _invalid(f"It must be signed by one of {', '.join(sorted(_ALLOWED))}, with no further demands.")
    if not isinstance(kid, str) or not kid:
        raise _invalid("It does not say which key it is signed with (kid).")
    return kid, algorithm


def _parsed(part: str) -> dict[str, object]:
    """Return an object that names each of its members once: what two readers would read differently is refused."""
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None
    document = json.loads(text, object_pairs_hook=_once)
    if not isinstance(document, dict):
        raise ValueError("no object")  # noqa: TRY004 - of what came, not of a call
    return document


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a member is there twice")
    return made


def _at(claims: Mapping[str, object], name: str) -> object:
    """Return a claim by its name, or by the path to it, as ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _invalid(reason: str) -> HttpError:
    return denied(Problem("", "token_invalid", f"This token is not accepted. {reason}"))


def _expired() -> HttpError:
    return denied(Problem("", "token_expired", "This token has expired."))
