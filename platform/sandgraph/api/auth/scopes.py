"""What a route lets people do, by its own words."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute

from sandgraph.model.access import Scope


def scopes_of(route: object) -> frozenset[Scope]:
    """Return the scopes that a route's parts name."""
    if not isinstance(route, APIRoute | APIWebSocketRoute):
        return frozenset()
    return frozenset(_named(route.dependant))


def _named(dependant: Dependant) -> Iterator[Scope]:
    for each in dependant.dependencies:
        yield from (Scope(name) for name in each.own_oauth_scopes or ())
        yield from _named(each)
