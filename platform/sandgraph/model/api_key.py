"""API keys: what is kept of them, and how they are written.

A key is ``sgk_<id>_<secret>_<checksum>``. The fixed beginning and the checksum let scanners for leaked secrets tell a
key from other text without asking anybody; the id is how it is looked up, so that no comparison's time tells of the
secret.

Of the secret, the SHA-256 is kept, and no slow hash with a salt: those are for what people choose. This one has 256
random bits, which nobody tries out at any speed, and is looked at with every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass
from datetime import datetime

from sandgraph.model.access import Principal, Scope

#: How every key begins.
MARK = "sgk_"

#: Random bytes of a secret.
SECRET_BYTES = 32

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
_ID = "key_"
_FORM = re.compile(
    rf"{MARK}(?P<id>[0-9A-HJKMNP-TV-Z]{{26}})_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}})"
    rf"_(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: everything but its secret.

    Attributes:
        key_id: Names it.
        tenant: Whose graphs, functions, tools, runs and logs it opens.
        name: What people call it.
        scopes: What it lets do.
        digest: Of the secret; see `digest_of`.
        created_at: When it was made.
        created_by: Who made it: another key, a user, or the command line.
        expires_at: From when on it opens nothing; None is never.
        last_used_at: To the minute; None where it never was.
        revoked_at: From when on it opens nothing, as somebody wanted.
    """

    key_id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    digest: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def prefix(self) -> str:
        """The beginning of the key, by which people know it again; nothing of the secret is in it."""
        return f"{MARK}{self.key_id.removeprefix(_ID)}"

    @property
    def principal(self) -> Principal:
        """Who asks with it."""
        return Principal(self.tenant, self.key_id, self.scopes, self.key_id)

    def fits(self, secret: str) -> bool:
        """Tell whether this is its secret, in a time that tells nothing."""
        return hmac.compare_digest(self.digest, digest_of(secret))


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as it is sent."""

    key_id: str
    secret: str


def write_key(key_id: str, secret: bytes) -> str:
    """Return the text of a key, which is shown to whoever made it and kept by nobody else."""
    body = f"{MARK}{key_id.removeprefix(_ID)}_{_base62(int.from_bytes(secret), _SECRET_LENGTH)}"
    return f"{body}_{_checksum(body)}"


def read_key(text: str) -> KeyText | None:
    """Return the parts of a key; None for what is no key, or was not copied as a whole."""
    found = _FORM.fullmatch(text)
    if found is None or found["checksum"] != _checksum(text[: found.end("secret")]):
        return None
    return KeyText(_ID + found["id"], found["secret"])


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
