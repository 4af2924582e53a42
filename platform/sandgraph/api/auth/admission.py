"""What somebody is let in with, and the words for who is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from sandgraph.api.problem import HttpError
from sandgraph.errors import Problem
from sandgraph.model.access import ANYBODY, Principal, Scope

#: Whoever asks for what is public: it has nothing, and may do nothing.
NOBODY = Principal("", "nobody", frozenset())

_REALM = 'Bearer realm="sandgraph"'


@dataclass(frozen=True, slots=True)
class Admission:
    """Who was let in, and until when.

    Attributes:
        principal: Who asks.
        expires_at: When what they came with ends; None where it has no end of its own, or the store knows it.
    """

    principal: Principal
    expires_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody was asked for anything."""
        return self.principal is ANYBODY


def denied(problem: Problem, *, asked: bool = True) -> HttpError:
    """Return the error for who is not let in.

    Args:
        problem: Why not.
        asked: Whether credentials were sent at all.
    """
    challenge = f'{_REALM}, error="invalid_token", error_description="{problem.message}"' if asked else _REALM
    return HttpError(HTTPStatus.UNAUTHORIZED, problem, {"WWW-Authenticate": challenge})


def demand(principal: Principal, needed: frozenset[Scope]) -> None:
    """Do nothing, unless a principal lacks a scope.

    Raises:
        HttpError: It does: 403, with the scope's name.
    """
    missing = sorted(needed - principal.scopes)
    if not missing:
        return
    held = ", ".join(sorted(principal.scopes)) or "none"
    message = f"This needs the scope {' and '.join(missing)}; what you came with has {held}."
    challenge = f'{_REALM}, error="insufficient_scope", scope="{" ".join(missing)}"'
    problem = Problem("", "scope_missing", message)
    raise HttpError(HTTPStatus.FORBIDDEN, problem, {"WWW-Authenticate": challenge})
