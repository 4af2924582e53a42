"""Entity tags: what a client has, and what there is (RFC 9110, 8.8.3 and 13.1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from starlette.requests import Request

from sandgraph.api.problem import HttpError
from sandgraph.errors import PreconditionFailed, Problem

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_WHERE = "If-Match"


def etag_of(body: bytes) -> str:
    """Return the tag of an answer: the same bytes have the same one."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def matches(given: Iterable[str], tag: str) -> bool:
    """Tell whether a client that sent these values of If-None-Match has what the tag names."""
    text = ",".join(given).strip()
    return text == "*" or tag in {each[1] for each in _TAG.findall(text)}


def expected_revisions(request: Request) -> frozenset[int] | None:
    """Return the revisions that a client has seen, one of which is to be there still; None for any (`*`).

    Raises:
        HttpError: It does not say (428).
        PreconditionFailed: It names none of ours.
    """
    given = ",".join(request.headers.getlist("if-match")).strip()
    if not given:
        message = "Say which version you change: send the ETag that you read as If-Match, or `*` for any."
        raise HttpError(428, Problem(_WHERE, "precondition_required", message))
    if given == "*":
        return None
    # Weak tags are not compared: they do not promise that nothing changed.
    strong = [tag.strip('"') for weak, tag in _TAG.findall(given) if not weak]
    found = frozenset(int(tag) for tag in strong if re.fullmatch(r"[0-9]{1,18}", tag))
    if not found:
        raise PreconditionFailed("If-Match names no version of this.")
    return found


def etag_of_revision(revision: int) -> str:
    """Return the tag of what is counted in revisions."""
    return f'"{revision}"'
