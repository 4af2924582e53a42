"""What starts a run: a graph's id and an initial state within its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import ConfigDict, Field

from sandgraph.api.schemas.annotations import AnnotatedDocument
from sandgraph.api.schemas.bounds import check_state
from sandgraph.api.schemas.graph import Label
from sandgraph.api.schemas.validation import parse
from sandgraph.model.annotations import NO_ANNOTATIONS, Annotations
from sandgraph.model.state import Json
from sandgraph.settings import Settings


class RunDocument(AnnotatedDocument):
    """What to run, and what it starts with."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0", "initial_state": {"input": 5}},
                {
                    "graph_id": "graph_01M83P6AAQTJJHCZVMJRSGVCH0",
                    "tags": ["team:a"],
                    "metadata": {"ticket": "OPS-17"},
                },
            ]
        }
    )

    graph_id: Label = Field(description="The graph version to execute.")
    initial_state: dict[str, object] = Field(default_factory=dict, description="The state that the run starts with.")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A request to start a run, checked."""

    graph_id: str
    initial_state: Mapping[str, Json]
    annotations: Annotations = NO_ANNOTATIONS


def parse_run(document: object, settings: Settings) -> NewRun:
    """Read a request to start a run; the state's size in bytes is for who stores it to judge.

    Raises:
        InvalidInput: Everything that is wrong with it, at the path of each value.
    """
    read = parse(RunDocument, document)
    check_state(read.initial_state, "initial_state", settings)
    return NewRun(read.graph_id, cast("Mapping[str, Json]", read.initial_state), read.annotations())
