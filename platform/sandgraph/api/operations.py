"""What the API's description says of every operation, whichever module it is in."""

from __future__ import annotations

from typing import Any

from sandgraph.api.once import HEADER
from sandgraph.api.problems import PAGES

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


_GRAPH, _RUN = "graph_01M83P6AAQTJJHCZVMJRSGVCH0", "run_01M83P6WKPG4A75175D707R5SQ"

#: What parameters look like, by their names: those that have no example of their own.
_EXAMPLES: dict[str, object] = {
    "run_id": _RUN,
    "forked_from": _RUN,
    "graph_id": _GRAPH,
    "graph_name": "double",
    "key_id": "key_01M83P6AAQTJJHCZVMJRSGVCH0",
    "webhook_id": "webhook_01M83P6AAQTJJHCZVMJRSGVCH0",
    "delivery_id": "delivery_01M83P6AAQTJJHCZVMJRSGVCH0",
    "tenant": "acme",
    "code": "unknown_function",
    "cursor": "cnVuczpydW5fMDFNODNQNldLUEc0QTc1MTc1RDcwN1I1U1E",
    "limit": 50,
    "name": "double",
    "name_prefix": "dou",
    "latest": True,
    "version": 1,
    "sort": "-created_at",
    "status": ["failed"],
    "tag": ["team:a"],
    "failure": "too_many_recoveries",
    "paused": False,
    "created_after": "2026-11-23T12:00:00Z",
    "created_before": "2026-11-24T12:00:00Z",
    "finished_after": "2026-11-23T12:00:00Z",
    "finished_before": "2026-11-24T12:00:00Z",
    "ticket": "tkt_4f1b9c",
    "at": 0,
    "node": "double",
    "scope": "",
    "iteration": 1,
    "attempt": 1,
    "after": 5,
    "before": 100,
    "tail": 100,
    "since": "10m",
    "stream": "stderr",
    "level": "warning",
    "grep": "doubling",
    "ignore_case": True,
    "events": False,
    "follow": False,
    "format": "json",
    "download": False,
    "idempotency-key": "order-17",
    "if-match": '"3"',
    "if-none-match": '"9f86d081884c7d659a2feaa0"',
    "last-event-id": "5",
}

_HEADERS: dict[str, object] = {
    "Location": f"/graph/status/{_RUN}",
    "Idempotent-Replayed": "true",
    "ETag": '"9f86d081884c7d659a2feaa0"',
}


def complete(document: dict[str, Any]) -> None:
    """Add to each operation what all of its kind have, and to problems which there are of each status."""
    by_status: dict[str, list[str]] = {}
    for page in PAGES.values():
        for status in page.statuses:
            by_status.setdefault(str(status), []).append(page.code)
    document["components"]["examples"] = {
        page.code: {"summary": page.means, "value": dict(page.example())} for page in PAGES.values() if page.statuses
    }
    _add(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                _show(parameter)
            for status, answer in operation["responses"].items():
                for name, header in answer.get("headers", {}).items():
                    if name in _HEADERS:
                        header.setdefault("example", _HEADERS[name])
                problem = answer.get("content", {}).get("application/problem+json")
                if problem is not None:
                    codes = by_status[status]
                    problem["examples"] = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}


def _show(parameter: dict[str, Any]) -> None:
    schema = parameter.get("schema", {})
    if "example" in parameter or "examples" in parameter or "examples" in schema:
        return
    if "enum" in schema:
        parameter["example"] = schema["enum"][0]
        return
    example = _EXAMPLES.get(parameter["name"].lower())
    if example is not None:
        parameter["example"] = example


def _add(document: dict[str, Any]) -> None:
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
