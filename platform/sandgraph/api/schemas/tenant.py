"""Tenants: their quotas as operators hand them in, and as they get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field

from sandgraph.api.schemas.answers import Answer
from sandgraph.api.schemas.validation import Submitted, parse
from sandgraph.settings import Settings

_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
_Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]

_ACTIVE = "Runs in progress at the same time; further ones wait."
_QUEUED = "Runs that wait for their turn; further ones are refused."
_CPU = "CPU-seconds of its attempts a day, in UTC."
_STORED = "Megabytes that are stored of its runs."
_REQUESTS = "Requests of all its keys and users."


class QuotaDocument(Submitted):
    """The quotas that a tenant has of its own; what is not named, or null, is as the deployment has it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_active_runs": 8, "cpu_s_per_day": 36_000}]})

    max_active_runs: _Count | None = Field(default=None, description=f"{_ACTIVE} 0 is any number.")
    max_queued_runs: _Count | None = Field(default=None, description=f"{_QUEUED} 0 is any number.")
    cpu_s_per_day: _Seconds | None = Field(default=None, description=f"{_CPU} 0 is any number.")
    stored_mb: _Count | None = Field(default=None, description=f"{_STORED} 0 is any amount.")
    requests_per_minute: _Count | None = Field(default=None, description=f"{_REQUESTS} 0 is any number.")


class QuotaAnswer(Answer):
    """Quotas; 0 is any amount."""

    max_active_runs: int = Field(description=_ACTIVE)
    max_queued_runs: int = Field(description=_QUEUED)
    cpu_s_per_day: float = Field(description=_CPU)
    stored_mb: int = Field(description=_STORED)
    requests_per_minute: int = Field(description=_REQUESTS)


class QuotaUseAnswer(Answer):
    """What is used now."""

    active_runs: int
    queued_runs: int
    cpu_s_today: float
    stored_bytes: int = Field(description="States, diffs, lines and events; counted anew every minute.")


class TenantAnswer(Answer):
    """A tenant."""

    tenant: str
    quotas: QuotaAnswer = Field(description="Those that hold: its own, and the deployment's.")
    own: list[str] = Field(description="Names of those that are its own.")
    use: QuotaUseAnswer
    version: int = Field(description="Raised with every change of its quotas; the ETag. 0 before the first.")
    created_at: AwareDatetime | None = Field(description="When it was first given quotas of its own.")
    updated_at: AwareDatetime | None = Field(description="When they were changed last.")


class TenantList(Answer):
    """A page of tenants."""

    tenants: list[TenantAnswer]
    next_cursor: str | None = Field(description="Asks for what follows; null at the end of the list.")


def parse_quotas(document: object, _settings: Settings) -> Mapping[str, float]:
    """Return the quotas that a document names.

    Raises:
        InvalidInput: At each field that is wrong.
    """
    return parse(QuotaDocument, document).model_dump(exclude_none=True)
