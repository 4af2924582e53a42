"""What the API's description says of who may ask: the schemes, and the scopes that each operation needs."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute, APIRouter

from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.public import SELF_DECIDING, is_public_path
from sandgraph.api.auth.scopes import scopes_of

_KEY: dict[str, object] = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "sgk_…",
    "description": "An API key: `sandgraph keys create`, or `POST /keys`.",
}

_ANSWERS = {
    "401": "No key or token came, or none that is good here.",
    "403": "What came lacks the scope, or a web page of another origin sent this.",
    "503": "A part that is needed does not answer; Retry-After says when to try again.",
}


def describe_security(document: dict[str, Any], router: APIRouter, gate: Gate | None) -> None:
    """Add to an OpenAPI document what each operation asks of whoever calls it, and how they are refused.

    A scope is named with both schemes: of tokens, it is what `oidc_scope_map` makes of theirs.
    """
    token: dict[str, object] = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the OIDC issuer that the deployment trusts.",
    }
    if gate is not None and gate.issuer:
        url = f"{gate.issuer.rstrip('/')}/.well-known/openid-configuration"
        token = {"type": "openIdConnect", "openIdConnectUrl": url, "description": token["description"]}
    document.setdefault("components", {})["securitySchemes"] = {"key": _KEY, "token": token}
    for route in router.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is None:
                continue
            if is_public_path(route.path_format):
                operation["security"] = []
                continue
            named = sorted(str(scope) for scope in scopes_of(route))
            without: list[dict[str, list[str]]] = [{}] if route.path_format in SELF_DECIDING else []
            operation["security"] = [*without, {"key": named}, {"token": named}]
            for status, description in _ANSWERS.items():
                operation["responses"].setdefault(status, _refusal(description))


def _refusal(description: str) -> dict[str, object]:
    schema = {"$ref": "#/components/schemas/ProblemAnswer"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}
