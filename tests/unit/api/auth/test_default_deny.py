"""No route is forgotten: each says which scope it needs, or is one of the few that need none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api_world import World
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute, Route

from sandgraph.api.app import create_app
from sandgraph.api.auth.gate import Gate
from sandgraph.api.auth.public import ANY_SCOPE, SELF_DECIDING, STREAMS, is_public_path
from sandgraph.api.auth.scopes import scopes_of
from sandgraph.api.openapi import Api
from sandgraph.settings import load_settings

#: What changes nothing although it is posted.
_CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


def application() -> FastAPI:
    return create_app(World.make(load_settings()).services)


ROUTES = {f"{type(route).__name__} {route.path}": route for route in application().routes if hasattr(route, "path")}


def needs_none(route: BaseRoute) -> bool:
    path = getattr(route, "path", "")
    return is_public_path(path) or path in SELF_DECIDING | ANY_SCOPE


def test_the_routes_are_all_there() -> None:
    paths = {getattr(route, "path", "") for route in ROUTES.values()}
    assert {"/graph/run", "/graph/{graph_id}", "/keys", "/livez", "/graph/ws/{run_id}", "/docs"} <= paths
    assert {"ApiRoute", "APIWebSocketRoute", "Route"} <= {type(route).__name__ for route in ROUTES.values()}


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_every_route_names_a_scope_or_is_public(name: str) -> None:
    route = ROUTES[name]
    assert needs_none(route) or scopes_of(route), f"{name}: say Reads, Submits, Operates or Administers"


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_nothing_public_changes_anything(name: str) -> None:
    route = ROUTES[name]
    if isinstance(route, Route) and is_public_path(route.path):
        assert not _CHANGES & (route.methods or set())
    assert not (isinstance(route, APIWebSocketRoute) and needs_none(route))


@pytest.mark.parametrize("name", sorted(name for name, route in ROUTES.items() if isinstance(route, APIRoute)))
def test_what_changes_something_is_not_for_readers(name: str) -> None:
    route = ROUTES[name]
    assert isinstance(route, APIRoute)
    if _CHANGES & (route.methods or set()) and route.path != "/tickets":
        assert scopes_of(route) - {"read"}
    else:
        assert not scopes_of(route) & {"submit", "operate"}


def test_every_stream_takes_tickets() -> None:
    sockets = [route.path for route in ROUTES.values() if isinstance(route, APIWebSocketRoute)]
    assert sockets
    assert all(path.startswith(STREAMS) for path in sockets)


def test_the_description_says_what_each_operation_asks(openapi: dict[str, Any]) -> None:
    assert set(openapi["components"]["securitySchemes"]) == {"key", "token"}
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            if is_public_path(path):
                assert operation["security"] == []
                continue
            *without, key, token = operation["security"]
            assert without == ([{}] if path in SELF_DECIDING else [])
            assert key["key"] == token["token"]
            assert bool(key["key"]) == (path not in ANY_SCOPE | SELF_DECIDING)
            assert {"401", "403"} <= set(operation["responses"])


def test_the_issuer_is_named_where_there_is_one(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, oidc_issuer="https://issuer.example/", oidc_audience="x")
    app = create_app(World.make(settings).services, gate=Gate(None, settings))  # type: ignore[arg-type]
    assert isinstance(app, Api)
    token = app.openapi()["components"]["securitySchemes"]["token"]
    assert token["type"] == "openIdConnect"
    assert token["openIdConnectUrl"] == "https://issuer.example/.well-known/openid-configuration"
