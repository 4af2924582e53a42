"""Keys and tickets as clients ask for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.validation import Submitted
from sandgraph.model.access import TENANT_PATTERN, Scope

#: The shortest and the longest life that can be asked for: a minute, and some ten years.
LEAST_LIFE_S, LONGEST_LIFE_S = 60, 315_360_000

_LONGEST_NAME = 200


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("control_character", "It must have no control characters.")
    return text


def _scope(value: object) -> object:
    # Strictly, only a member of the enumeration would be one.
    return Scope(value) if isinstance(value, str) and value in set(Scope) else value


class ApiKeyDocument(Submitted):
    """An API key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "ci", "scopes": ["submit", "read"], "expires_in_s": 7_776_000}]}
    )

    name: Annotated[str, AfterValidator(_printable)] = Field(
        min_length=1, max_length=_LONGEST_NAME, description="What people call it."
    )
    scopes: list[Annotated[Scope, BeforeValidator(_scope)]] = Field(
        min_length=1, max_length=len(Scope), description="What it lets do; none that its maker has not."
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=LEAST_LIFE_S,
        le=LONGEST_LIFE_S,
        description="Seconds that it is good for; without it, for good.",
    )
    tenant: str | None = Field(
        default=None,
        pattern=TENANT_PATTERN,
        description="Whose it is; without it, its maker's. Administrators of the tenant default may name another.",
    )

    @property
    def expires_in(self) -> timedelta | None:
        """How long it is good for; None is for good."""
        return None if self.expires_in_s is None else timedelta(seconds=self.expires_in_s)


class TicketDocument(Submitted):
    """A ticket to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "/graph/ws/run_01M83P6WKPG4A75175D707R5SQ"}]})

    path: str = Field(
        min_length=1,
        max_length=256,
        description="The stream that it is for: a path, without a query.",
        # For who reads schemas; the route says which streams there are.
        json_schema_extra={"pattern": "^/graph/(ws|logs)/[^/?]+$"},
    )
