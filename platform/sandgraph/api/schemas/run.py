"""What starts a run: a graph's id and an initial state within its bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import ConfigDict, Field

from sandgraph.api.schemas.graph import Label
from sandgraph.api.schemas.tree import Location, containers, items, path
from sandgraph.api.schemas.validation import Submitted, parse
from sandgraph.errors import InvalidInput, Problem
from sandgraph.model.state import Json, has_more_values
from sandgraph.settings import Settings

_LEAST, _GREATEST = -(2**63), 2**63 - 1

_STATE: Location = (None, "initial_state")


class RunDocument(Submitted):
    """What to run, and what it starts with."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0", "initial_state": {"input": 5}}]
        }
    )

    graph_id: Label = Field(description="The graph version to execute.")
    initial_state: dict[str, object] = Field(default_factory=dict, description="The state that the run starts with.")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A request to start a run, checked."""

    graph_id: str
    initial_state: Mapping[str, Json]


def parse_run(document: object, settings: Settings) -> NewRun:
    """Read a request to start a run; the state's size in bytes is for who stores it to judge.

    Raises:
        InvalidInput: Everything that is wrong with it, at the path of each value.
    """
    read = parse(RunDocument, document)
    state = read.initial_state
    if len(state) > settings.max_state_keys:
        message = f"The state has {len(state)} keys; it may have {settings.max_state_keys}."
        raise InvalidInput.at("initial_state", "too_many_keys", message)
    if has_more_values(cast("Mapping[str, Json]", state), settings.max_state_values):
        message = f"The state has more than the {settings.max_state_values} values that it may have."
        raise InvalidInput.at("initial_state", "too_many_values", message)
    problem = next(_wrong(state, settings.max_state_depth), None)
    if problem is not None:
        raise InvalidInput([problem])
    return NewRun(read.graph_id, cast("Mapping[str, Json]", state))


def _wrong(state: Mapping[str, object], max_depth: int) -> Iterator[Problem]:
    for place, depth, container in containers(state, _STATE):
        if depth > max_depth:
            yield Problem(path(place), "state_too_deep", f"A value of the state may be nested {max_depth} deep.")
        for key, value in items(container):
            if type(value) is int and not _LEAST <= value <= _GREATEST:
                message = "An integer of a state lies within ±2^63; send a larger one as a string."
                yield Problem(path((place, key)), "integer_out_of_range", message)
            elif type(value) is float and not math.isfinite(value):
                yield Problem(path((place, key)), "number_not_finite", "A number of a state is finite.")
