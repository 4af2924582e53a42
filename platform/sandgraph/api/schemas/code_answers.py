"""What clients get who read registered code, described."""

from __future__ import annotations

from pydantic import Field

from sandgraph.api.schemas.answers import Answer, CodeAnswer


class SourceAnswer(CodeAnswer):
    """A version of a function or a tool, with its code."""

    code: str = Field(description="Python source.")


class VersionList(Answer):
    """The versions of a function or a tool, the latest first."""

    name: str
    versions: list[SourceAnswer]
    next_cursor: str | None = Field(description="Asks for what follows; null at the end of the list.")
