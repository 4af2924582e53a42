"""What is asked of a run that is there: events for it, runs made from it, an attempt to be tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import ConfigDict, Field

from sandgraph.api.schemas.annotations import AnnotatedDocument
from sandgraph.api.schemas.bounds import check_state, check_value
from sandgraph.api.schemas.graph import Label
from sandgraph.api.schemas.tree import shown
from sandgraph.api.schemas.validation import Submitted, parse
from sandgraph.errors import InvalidInput, Problem
from sandgraph.model.annotations import UNCHANGED, AnnotationChange
from sandgraph.model.run import NodeRunKey
from sandgraph.model.state import DeleteKey, Json, Op, SetKey, StateDiff
from sandgraph.settings import Settings

_LARGEST = 2**63 - 1

#: Longest path of a scope: subgraphs in each other, by the names of their nodes.
_LONGEST_SCOPE = 8_192

Functions = Literal["pinned", "latest"]

_FUNCTIONS = (
    "`pinned`: the functions and tools of the run that it is made from. `latest`: as they are registered by now."
)


class EventDocument(Submitted):
    """An event for a run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "approved", "payload": {"by": "Ada"}, "event_id": "approval-17"},
                {"name": "approved"},
            ]
        }
    )

    name: Label = Field(description="What a node of type wait waits for.")
    payload: object = Field(
        default=None, description="Any JSON; it comes into the state where the wait says. Null is none."
    )
    event_id: Label | None = Field(
        default=None,
        description="Unique in the run: the same id again, with the same name and payload, is the same event.",
    )


class ForkDocument(AnnotatedDocument):
    """From where a new run goes on. Tags and metadata are those of the other one, where they are not given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"at": 3, "state": {"threshold": 5}, "delete": ["draft"], "functions": "latest"}, {"at": 0}]
        }
    )

    at: int = Field(ge=0, le=_LARGEST, description="The checkpoint that it begins at; 0 is the initial state.")
    state: dict[str, object] = Field(default_factory=dict, description="Keys to be set in the state there.")
    delete: list[str] = Field(default_factory=list, description="Keys to be removed from it.")
    functions: Functions = Field(default="pinned", description=_FUNCTIONS)


class ResumeDocument(AnnotatedDocument):
    """How a run that ended goes on. Tags and metadata are that run's, where they are not given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"functions": "latest"}, {}]})

    functions: Functions = Field(default="pinned", description=_FUNCTIONS)


class ReplayDocument(Submitted):
    """Which attempt is tried again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"node": "double"}, {"node": "count", "iteration": 3, "attempt": 2}]}
    )

    node: Label = Field(description="The node.")
    iteration: int = Field(default=1, ge=1, le=_LARGEST, description="Which pass of it, or which item of a map.")
    attempt: int | None = Field(
        default=None, ge=1, le=_LARGEST, description="Which try; without it, the last that ended."
    )
    scope: str = Field(
        default="", max_length=_LONGEST_SCOPE, description="Scope of the node run, as the run's status shows it."
    )


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event, checked."""

    name: str
    payload: Json
    event_id: str | None


@dataclass(frozen=True, slots=True)
class NewFork:
    """A request to fork a run, checked."""

    at: int
    changes: StateDiff
    latest: bool
    annotated: AnnotationChange = UNCHANGED


@dataclass(frozen=True, slots=True)
class NewResume:
    """A request to go on with a run that ended."""

    latest: bool
    annotated: AnnotationChange = UNCHANGED


@dataclass(frozen=True, slots=True)
class NewReplay:
    """A request to try an attempt again."""

    key: NodeRunKey
    attempt: int | None


def parse_event(document: object, settings: Settings) -> NewEvent:
    """Read an event.

    Raises:
        InvalidInput: Everything that is wrong with it, at the path of each value.
    """
    read = parse(EventDocument, document)
    check_value(read.payload, "payload", settings)
    return NewEvent(read.name, cast("Json", read.payload), read.event_id)


def parse_fork(document: object, settings: Settings) -> NewFork:
    """Read a request to fork a run; whether the state is too large then is for who has it to judge.

    Raises:
        InvalidInput: Everything that is wrong with it, at the path of each value.
    """
    read = parse(ForkDocument, document)
    check_state(read.state, "state", settings)
    changes = _changes(cast("Mapping[str, Json]", read.state), read.delete)
    return NewFork(read.at, changes, read.functions == "latest", read.change())


def parse_resume(document: object, _settings: Settings) -> NewResume:
    """Read how a run goes on.

    Raises:
        InvalidInput: Everything that is wrong with the request.
    """
    read = parse(ResumeDocument, document)
    return NewResume(read.functions == "latest", read.change())


def parse_replay(document: object, _settings: Settings) -> NewReplay:
    """Read which attempt is tried again.

    Raises:
        InvalidInput: Everything that is wrong with the request.
    """
    read = parse(ReplayDocument, document)
    return NewReplay(NodeRunKey(read.node, read.iteration, read.scope), read.attempt)


def _changes(values: Mapping[str, Json], deleted: list[str]) -> StateDiff:
    ops: dict[str, Op] = {key: SetKey(key, value) for key, value in values.items()}
    for index, key in enumerate(deleted):
        if key in ops:
            message = f"The key {shown(key)!r} is named already, here or in state."
            raise InvalidInput([Problem(f"delete[{index}]", "duplicate_name", message)])
        ops[key] = DeleteKey(key)
    return StateDiff(tuple(ops[key] for key in sorted(ops)))
