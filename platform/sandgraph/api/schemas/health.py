"""What is answered of the platform's health, described."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CheckAnswer(BaseModel):
    """What a check found."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: Literal["ok"]
    detail: str | None = Field(default=None, description="For operators: programs on the same machine.")


class HealthAnswer(BaseModel):
    """That the platform lives, or is ready; for operators, facts beside it."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "ready"]
    checks: list[CheckAnswer] | None = Field(default=None, description="Of the readiness.")
