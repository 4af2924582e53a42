"""Answers as JSON, written without a detour: states may be large, and are checked where they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response


def to_json(value: object) -> str:
    """Return the JSON text of what is already plain data; what is no Unicode in it is replaced."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "replace").decode()


def reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer."""
    return Response(to_json(value), status_code=status, headers=headers, media_type="application/json")
