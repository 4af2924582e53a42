"""What clients get who ask about keys and tickets, described."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from sandgraph.api.schemas.answers import Answer
from sandgraph.model.access import Scope

_Time = Annotated[AwareDatetime, Field(description="UTC.")]


class ApiKeyAnswer(Answer):
    """An API key, without its secret."""

    key_id: str
    prefix: str = Field(description="How the key begins, for who finds one and wonders which it is.")
    tenant: str = Field(description="Whose graphs, functions, tools, runs and logs it opens.")
    name: str
    scopes: list[Scope]
    created_at: _Time
    created_by: str = Field(description="Id of the key, name of the user, or what else made it.")
    expires_at: AwareDatetime | None = Field(description="From when on it opens nothing; null for never.")
    last_used_at: AwareDatetime | None = Field(description="To the minute; null where it never was.")
    revoked_at: AwareDatetime | None = Field(description="Since when it opens nothing; null where nobody revoked it.")


class ApiKeyMade(ApiKeyAnswer):
    """An API key that was just made."""

    key: str = Field(description="The key. It is shown now, and never again.")


class ApiKeyList(Answer):
    """API keys, newest first."""

    keys: list[ApiKeyAnswer]
    next_cursor: Annotated[str | None, Field(description="Asks for what follows; null at the end of the list.")]


class WhoamiAnswer(Answer):
    """Who asks."""

    tenant: str = Field(description="Whose graphs, functions, tools, runs and logs are seen.")
    subject: str = Field(description="What it is called in logs.")
    scopes: list[Scope] = Field(description="What it may do.")
    key_id: str | None = Field(description="Of the API key; null where it came with none.")
    expires_at: AwareDatetime | None = Field(description="When what it came with ends; null for never.")
    open: bool = Field(description="Whether everybody is let in: there are no keys, and no issuer of tokens.")


class TicketAnswer(Answer):
    """A ticket for one stream."""

    ticket: str = Field(description="For the parameter `ticket` of the stream's address; good once.")
    path: str = Field(description="The stream that it is for.")
    expires_at: _Time
