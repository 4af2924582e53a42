"""Parameters that no route has: told, and never passed over."""

from __future__ import annotations

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from sandgraph.api.schemas.tree import shown
from sandgraph.errors import InvalidInput, Problem


async def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Refuse parameters of a query that the route does not have.

    Raises:
        InvalidInput: At each of them.
    """
    route = connection.scope.get("route")
    if not connection.query_params or not isinstance(route, APIRoute):
        return
    known = {*_names(route.dependant)}
    problems = [
        Problem(shown(name), "unknown_field", f"There is no parameter {shown(name)!r} here.")
        for name in connection.query_params
        if name not in known
    ]
    if problems:
        raise InvalidInput(problems)


def _names(dependant: Dependant) -> list[str]:
    names: list[str] = []
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            names += [each.alias or name for name, each in model.model_fields.items()]
        else:
            names.append(field.alias)
    return names + [name for each in dependant.dependencies for name in _names(each)]
