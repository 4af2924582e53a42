"""Which part of a run's log is asked for: one set of parameters for pages, downloads and live readers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.validation import from_pydantic
from sandgraph.errors import InvalidInput
from sandgraph.model.log_filter import Level, LogFilter
from sandgraph.store.records import LogQuery

_LARGEST = 2**63 - 1

#: Most records of a page.
MOST_RECORDS = 1_000

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# A `+` that was not escaped comes as a space.
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)[0-9]*([Zz]|[ +-][0-9]{2}:[0-9]{2})"
)


def _since(text: str) -> str:
    moment(text, datetime.now(UTC))
    return text


def moment(text: str, now: datetime) -> datetime:
    """Return the time that a text names: itself, or as a duration how long ago."""
    try:
        if ago := _DURATION.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if at := _TIME.fullmatch(text):
            zone = at[3].upper().replace(" ", "+")
            return datetime.fromisoformat(f"{at[1]}T{at[2]}{zone}")
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("invalid_time", "It must be a time as 2026-11-23T12:00:00Z, or a duration as 10m.")


class RecordParameters(BaseModel):
    """Which records are told, and from where on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: int = Field(
        default=0, ge=0, le=_LARGEST, description="Records with higher numbers: `next`, or the last seen."
    )
    tail: int | None = Field(
        default=None, ge=1, le=MOST_RECORDS, description="The last so many; live, and what follows."
    )
    since: Annotated[str, AfterValidator(_since)] | None = Field(
        default=None,
        max_length=64,
        description="Stored then or later: a time of RFC 3339, or how long ago, as `10m` (ms, s, m, h, d).",
        examples=["10m", "2026-11-23T12:00:00Z"],
    )
    node: str | None = Field(default=None, max_length=256, description="Of node runs of this name, in whatever scope.")
    scope: str | None = Field(
        default=None, max_length=2_048, description="Of node runs of this scope; empty for the run's own graph."
    )
    iteration: int | None = Field(default=None, ge=1, le=_LARGEST, description="Of this iteration.")
    attempt: int | None = Field(default=None, ge=1, le=_LARGEST, description="Of this attempt.")
    stream: Literal["stdout", "stderr"] | None = Field(default=None, description="Lines of this stream.")
    level: Level | None = Field(
        default=None,
        description="Lines at least as grave. A line's level is what stands at its head, as Python's logging and others"
        " write it, or in it as a JSON object; else `error` on stderr and `info` on stdout.",
    )
    grep: str | None = Field(
        default=None, min_length=1, max_length=256, description="Lines that have this text in them; it is no pattern."
    )
    ignore_case: bool = Field(default=False, description="Whether `grep` takes A-Z and a-z for the same.")
    ticket: str | None = Field(default=None, max_length=256, description="Lets in who cannot send a header.")

    def wanted(self, *, events: bool) -> LogFilter:
        """Return which records are wanted."""
        return LogFilter(
            self.node,
            self.scope,
            self.iteration,
            self.attempt,
            self.stream,
            self.level,
            self.grep,
            self.ignore_case,
            events,
        )

    @property
    def moment(self) -> datetime | None:
        """The time before which nothing is wanted."""
        return None if self.since is None else moment(self.since, datetime.now(UTC))


class LogParameters(RecordParameters):
    """Which part of a log, and in which form."""

    before: int | None = Field(
        default=None, ge=1, le=_LARGEST, description="The last ones with lower numbers: `previous`."
    )
    limit: int = Field(default=200, ge=1, le=MOST_RECORDS, description="Most records of a page; `tail` says it too.")
    events: bool = Field(default=False, description="Whether the journal's events are told between the lines.")
    format: Literal["json", "text"] | None = Field(
        default=None, description="`json`, the default of pages, or `text`, that of downloads."
    )
    follow: bool = Field(
        default=False, description="Live up to the run's end, as server-sent events or as text; or by `Accept`."
    )
    download: bool = Field(default=False, description="All of it as a file, and not a page; JSON is one record a line.")

    @property
    def is_text(self) -> bool:
        """Whether lines of text are asked for."""
        return self.format == "text" or (self.format is None and self.download)

    def query(self) -> LogQuery:
        """Return the page that is asked for."""
        return LogQuery(
            self.wanted(events=self.events),
            after=self.after,
            before=self.before,
            since=self.moment,
            limit=self.tail or self.limit,
            newest=self.tail is not None or (self.before is not None and self.after == 0 and self.since is None),
        )


class StreamParameters(RecordParameters):
    """Which records a WebSocket is told."""

    events: bool = Field(default=True, description="Whether the journal's events are told between the lines.")


P = TypeVar("P", bound=BaseModel)


def parse_parameters(model: type[P], given: Mapping[str, str]) -> P:
    """Read the parameters that a model knows, and pass over others.

    Raises:
        InvalidInput: Everything that is wrong with them.
    """
    try:
        return model.model_validate({name: given[name] for name in model.model_fields if name in given})
    except ValidationError as invalid:
        raise InvalidInput(from_pydantic(invalid.errors(include_url=False, include_input=False))) from None
