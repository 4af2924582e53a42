"""Routes as the API has them: found at a glance, and knowing by themselves what they demand and take.

The framework tries the pattern of each route in turn, twice where routers are included in others, and leaves it to
each request to look through the parts of its route: that took as long as many an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import cached_property
from typing import Any

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
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

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request; parameters that the route does not have are told, and never passed over."""
        answer = super().get_route_handler()

        async def answer_if_known(request: Request) -> Response:
            if request.scope["query_string"]:
                self._refuse_unknown(request.query_params)
            return await answer(request)

        return answer_if_known

    @cached_property
    def scopes(self) -> frozenset[access.Scope]:
        """What its parts demand, all of it."""
        return scopes_of(self)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters of a query that it takes."""
        return frozenset(_names(self.dependant))

    def _refuse_unknown(self, names: Iterable[str]) -> None:
        problems = [
            Problem(shown(name), "unknown_field", f"There is no parameter {shown(name)!r} here.")
            for name in names
            if name not in self.parameters
        ]
        if problems:
            raise InvalidInput(problems)


def router_of(*tags: str) -> APIRouter:
    """Return a router whose routes are described under these tags."""
    return APIRouter(
        tags=[*tags],
        route_class=ApiRoute,
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
