"""What clients get who look a code up, described."""

from __future__ import annotations

from pydantic import Field

from sandgraph.api.schemas.answers import Answer


class ErrorCodeAnswer(Answer):
    """What a code means, and what to do about it."""

    code: str = Field(description="Stable, for programs.")
    type: str = Field(description="Where its page is; also the `type` of problems that have it.")
    title: str
    statuses: list[int] = Field(description="Of the answers that have it; empty where only runs fail with it.")
    means: str
    todo: str = Field(description="What to do about it.")
    example: dict[str, object] = Field(description="A problem as it is answered; or a run's error.")


class ErrorCodeList(Answer):
    """Every code that there is, by topic."""

    errors: list[ErrorCodeAnswer]
