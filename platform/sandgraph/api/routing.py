"""Routes as the API has them: found at a glance, and knowing by themselves what they demand and take.

The framework tries the pattern of each route in turn, twice where routers are included in others, and leaves it to
each request to look through the parts of its route: that took as long as many an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.routing import Match
from starlette.types import Scope

from sandgraph.api.auth.scopes import scopes_of
from sandgraph.api.schemas.tree import shown
from sandgraph.errors import InvalidInput, Problem
from sandgraph.model import access


class ApiRoute(APIRoute):
    """A route of ours; made by a router of `router_of`.

    Args:
        path: Of its requests, with names in braces.
        endpoint: Answers them.
        about: As the framework takes it.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **about: Any) -> None:  # noqa: ANN401 - as it is there
        super().__init__(path, endpoint, **about)
        self._begins, brace, _ = path.partition("{")
        self._is_fixed = not brace

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether a request is this route's, without a look at its pattern where the path says that it is not."""
        path: str = scope["path"]
        # Mounted in somebody's application, paths begin with where that was.
        if scope.get("root_path") or (path == self._begins if self._is_fixed else path.startswith(self._begins)):
            return super().matches(scope)
        return Match.NONE, {}

    @cached_property
    def scopes(self) -> frozenset[access.Scope]:
        """What its parts demand, all of it."""
        return scopes_of(self)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters of a query that it takes."""
        return frozenset(_names(self.dependant))


async def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Refuse parameters of a query that the route does not have, which are told, and never passed over.

    Raises:
        InvalidInput: At each of them.
    """
    route = connection.scope.get("route")
    if not connection.scope["query_string"] or not isinstance(route, ApiRoute):
        return
    problems = [
        Problem(shown(name), "unknown_field", f"There is no parameter {shown(name)!r} here.")
        for name in connection.query_params
        if name not in route.parameters
    ]
    if problems:
        raise InvalidInput(problems)


def router_of(*tags: str) -> APIRouter:
    """Return a router whose routes are described under these tags."""
    return APIRouter(
        tags=[*tags],
        route_class=ApiRoute,
        dependencies=[Depends(refuse_unknown_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (each.alias or name for name, each in model.model_fields.items())
        else:
            yield field.alias
    for each in dependant.dependencies:
        yield from _names(each)
