"""Reads request bodies: bounded while they arrive, then as JSON in the strict sense."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NoReturn, TypeVar

from starlette.requests import Request

from sandgraph.api.problem import HttpError
from sandgraph.api.routes.common import Uses
from sandgraph.api.schemas.tree import containers, items, path, shown
from sandgraph.errors import Problem
from sandgraph.settings import Settings

T = TypeVar("T")

#: Deepest nesting that is parsed at all: more than any setting allows a state, less than the parser's recursion.
MAX_NESTING = 520

#: Bodies above this are parsed on a thread, so that other requests go on.
_LARGE_BYTES = 32 * 1024

#: Seconds for which a body may be as slow as it likes.
_GRACE_S = 5

#: How many times the limit is read and thrown away, so that the client gets to read why.
_DRAINED = 4

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]++")
_NOT_JSON = re.compile(r'"(?:[^"\\]++|\\.)*+"?|(NaN|-?Infinity)', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONG_INTEGER = re.compile(r"\d{20}")


def body_of(convert: Callable[[object, Settings], T], *, may_be_empty: bool = False) -> Callable[..., Awaitable[T]]:
    """Return a dependency that reads a request's body and converts the document in it.

    Args:
        convert: Reads the document.
        may_be_empty: Whether an empty body stands for an empty object.
    """

    async def read(request: Request, uses: Uses) -> T:
        settings = uses.settings
        body = await read_body(request, settings.max_body_kb * 1024, Pace(settings))
        if may_be_empty and not body.strip():
            body = b"{}"

        def work() -> T:
            return convert(parse_json(body), settings)

        return await asyncio.to_thread(work) if len(body) > _LARGE_BYTES else work()

    return read


class Pace:
    """How long a body may take to arrive: so long in all, and no less than so much a second."""

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.body_timeout_s
        self._bytes_s = settings.body_min_kb_s * 1024

    def until(self, began: float, received: int) -> float:
        """Return when more has to be there."""
        allowed = _GRACE_S + received / self._bytes_s if self._bytes_s else self._seconds
        return began + min(self._seconds, allowed)


async def read_body(request: Request, limit: int, pace: Pace) -> bytes:
    """Return a request's body.

    Raises:
        HttpError: It is larger than ``limit``, takes too long, or has a form that cannot be JSON.
    """
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Send JSON: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", "Send the body uncompressed.")
    announced = request.headers.get("content-length", "")
    if "expect" in request.headers and announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit, is_unread=True)  # before the client sends it
    body, dropped, received, began = bytearray(), 0, 0, asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(pace.until(began, 0)) as deadline:
            async for chunk in request.stream():
                received += len(chunk)
                deadline.reschedule(pace.until(began, received))
                if dropped or len(body) + len(chunk) > limit:
                    dropped += len(body) + len(chunk)
                    body.clear()
                    if dropped > _DRAINED * limit:
                        raise _too_large(limit, is_unread=True)
                else:
                    body += chunk
    except TimeoutError:
        message = "The body took too long to arrive."
        raise _refused(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", message, is_unread=True) from None
    if dropped:
        raise _too_large(limit)
    return bytes(body)


def parse_json(body: bytes) -> object:
    """Return the document of a body.

    Raises:
        HttpError: It is not JSON (RFC 8259), nested too deeply, names a key twice, or has text that is not Unicode.
    """
    try:
        text = body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as invalid:
        raise _malformed("invalid_utf8", f"The body is not UTF-8: byte {invalid.start} cannot be decoded.") from None
    if not text.strip():
        raise _malformed("empty_body", "The body is empty; send a JSON document.")
    if _is_too_deep(text):
        raise _malformed("nesting_too_deep", f"The body is nested more than {MAX_NESTING} deep.")
    doubled: list[_Doubled] = []

    def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) != len(pairs):
            made = _Doubled(made)
            made.key = _first_double(pairs)
            doubled.append(made)
        return made

    def refuse_constant(name: str) -> NoReturn:
        at = next((match.start(1) for match in _NOT_JSON.finditer(text) if match[1]), 0)
        raise json.JSONDecodeError(f"{name} is not JSON", text, at)

    # int() refuses thousands of digits. The first twenty are already out of every range, which is then said in place.
    parse_int = _clipped if _LONG_INTEGER.search(text) else None
    try:
        document: object = json.loads(
            text, object_pairs_hook=make_object, parse_constant=refuse_constant, parse_int=parse_int
        )
    except json.JSONDecodeError as invalid:
        problem = Problem("", "invalid_json", f"The body is not JSON: {invalid.msg}.", invalid.lineno, invalid.colno)
        raise HttpError(HTTPStatus.BAD_REQUEST, problem) from None
    if doubled:
        found = ((place, part) for place, _, part in containers(document) if isinstance(part, _Doubled))
        place, part = next(found, (None, doubled[0]))  # an object that was doubled itself may have been dropped
        raise _malformed(
            "duplicate_key", f"The key {shown(part.key)!r} is there more than once.", path((place, part.key))
        )
    if _SURROGATE.search(text):
        _refuse_halves(document)
    return document


def _refuse_halves(document: object) -> None:
    """Refuse text with half of a surrogate pair, which no UTF-8 can say."""
    for place, _, part in containers([document]):
        for key, value in items(part):
            if not (_is_unicode(key) and _is_unicode(value)):
                root = place is None
                where = "" if root else path((place, key)).removeprefix("[0]").removeprefix(".")
                raise _malformed("invalid_text", "It has half of a surrogate pair, which is no text.", where)


class _Doubled(dict[str, object]):
    """An object that named a key more than once."""

    key: str = ""


def _first_double(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return ""


def _clipped(digits: str) -> int:
    return int(digits[:21])


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return False
    depth = 0
    for bracket in _NOT_BRACKETS.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_NESTING:
            return True
    return False


def _is_unicode(value: object) -> bool:
    return not isinstance(value, str) or not any("\ud800" <= char <= "\udfff" for char in value)


def _malformed(code: str, message: str, path: str = "") -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, Problem(path, code, message))


def _too_large(limit: int, *, is_unread: bool = False) -> HttpError:
    message = f"A request's body may have {limit} bytes."
    return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message, is_unread=is_unread)


def _refused(status: HTTPStatus, code: str, message: str, *, is_unread: bool = False) -> HttpError:
    # What was not read of the body is in the way of the connection's next request.
    return HttpError(status, Problem("", code, message), {"Connection": "close"} if is_unread else None)
