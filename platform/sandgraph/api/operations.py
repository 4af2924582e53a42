"""What the API's description says of every operation, whichever module it is in."""

from __future__ import annotations

from typing import Any

from sandgraph.api.once import HEADER

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}

_KEY: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: the same key with the same body is answered as before.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
    "example": "order-17",
}
_REPLAYED: dict[str, Any] = {
    "description": "`true` where the Idempotency-Key was seen before: this is what was answered then.",
    "schema": {"type": "string", "enum": ["true"]},
}
_REQUEST_ID: dict[str, Any] = {
    "description": "Names the request; the platform's log has it too.",
    "schema": {"type": "string"},
    "example": "0f8fad5bd9cb469fa16570867728950e",
}


def complete(document: dict[str, Any]) -> None:
    """Add to each operation what all of its kind have."""
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if method == "post":
                _do_once(operation)
            for answer in operation["responses"].values():
                answer.setdefault("headers", {}).setdefault("X-Request-Id", _REQUEST_ID)


def _do_once(operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    if not any(each["name"].lower() == HEADER.lower() for each in parameters):
        parameters.append(_KEY)
    responses = operation["responses"]
    responses.setdefault("409", {"description": "Not in the present state of things.", "content": _PROBLEM})
    for status, answer in responses.items():
        if status.startswith("2"):
            answer.setdefault("headers", {}).setdefault("Idempotent-Replayed", _REPLAYED)
    operation["responses"] = dict(sorted(responses.items()))
