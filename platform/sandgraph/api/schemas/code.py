"""Functions and tools as clients hand them in."""

from __future__ import annotations

import keyword
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.validation import Submitted


def _no_keyword(name: str) -> str:
    if keyword.iskeyword(name):
        raise PydanticCustomError("invalid_name", "It is a keyword of Python and cannot name a function.")
    return name


# ASCII only: Python would normalise other identifiers, and the name would not be found again.
Identifier = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_no_keyword)
]


class FunctionSource(Submitted):
    """A node function."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "double", "code": 'def double(state):\n    state.set("output", state.get("input") * 2)\n'}
            ]
        }
    )

    name: Identifier = Field(description="What graphs call it, and what the code defines.")
    code: str = Field(min_length=1, description="Python source; it runs in sandboxes only.")


class ToolSource(Submitted):
    """A helper that node functions call."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "greet",
                    "code": 'def greet(name):\n    return f"Hello, {name}!"\n',
                    "description": "Greets somebody.",
                }
            ]
        }
    )

    name: Identifier = Field(description="What functions call it, and what the code defines.")
    code: str = Field(min_length=1, description="Python source; it runs in sandboxes only.")
    description: str = Field(default="", max_length=2_000, description="What it does, for people.")
