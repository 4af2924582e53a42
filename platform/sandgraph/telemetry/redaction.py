"""Keeps secrets out of what is logged, whoever put them there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

HIDDEN = "[redacted]"

#: Fields whose value is never shown, whatever it looks like.
_FIELDS = re.compile(
    r"authorization|cookie|password|passwd|secret|credential|ticket|(^|_)(api_?key|auth_token|access_token|jwt|dsn)($|_)",
    re.IGNORECASE,
)

#: In texts: what is left of each is its first group.
_TEXTS = (
    # A scheme and credentials, as in a header.
    re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE),
    # The password of an address: postgresql://user:password@host.
    re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*:)\S+(?=@)"),
    # A parameter of an address, a form or a connection string.
    re.compile(
        r"\b((?:ticket|token|access_token|api[_-]?key|x-api-key|password|passwd|secret)[\"']?\s*[=:]\s*[\"']?)"
        r"(?!\[redacted\])[^\s&;,\"']+",
        re.IGNORECASE,
    ),
    # Keys and tickets of ours, and signed tokens, wherever they stand.
    re.compile(r"\b(sgk?_)[A-Za-z0-9_-]{12,}"),
    re.compile(r"\b(eyJ)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"),
)

#: Texts without any of these hold none of those: most lines are looked at once.
_SIGNS = re.compile(r"bearer|basic|://|ticket|token|key|passw|secret|sg_|sgk_|eyJ", re.IGNORECASE)

#: Characters of one text; what submitted code says may be long.
_LONGEST = 16_384

_DEEPEST = 4


def redacted(fields: Mapping[str, object]) -> dict[str, object]:
    """Return fields without what is secret in them, and none of them long."""
    return {name: HIDDEN if _is_secret(name, value) else _clean(value, _DEEPEST) for name, value in fields.items()}


def text_without_secrets(text: str) -> str:
    """Return a text without the secrets that can be told by their looks."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    if _SIGNS.search(text) is None:
        return text
    for pattern in _TEXTS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def _is_secret(name: str, value: object) -> bool:
    return value is not None and not isinstance(value, bool | int | float) and _is_secret_name(name)


@lru_cache(512)
def _is_secret_name(name: str) -> bool:
    return _FIELDS.search(name) is not None


def _clean(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth:
        return {
            str(name): HIDDEN if _is_secret(str(name), each) else _clean(each, depth - 1)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_clean(each, depth - 1) for each in value]
    return text_without_secrets(value if isinstance(value, str) else str(value))
