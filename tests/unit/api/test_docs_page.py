"""docs/api.md leaves nothing out: no route, no parameter, no field, no code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandgraph.api.schemas.control import EventDocument, ForkDocument, ReplayDocument, ResumeDocument
from sandgraph.api.schemas.graph import EdgeDocument, GraphDocument, LimitsDocument, NodeDocument, RetryDocument
from sandgraph.api.schemas.keys import KeyDocument
from sandgraph.model.graph import NodeType, Outcome
from sandgraph.model.reducers import Reducer

SOURCE = Path(__file__).parents[3] / "platform" / "sandgraph"
PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
ROUTES = PAGE.partition("\n## ")[0]

#: How problems and failures are made: what the call is of, and which argument is the code.
MAKERS = {"Problem": 1, "at": 1, "PydanticCustomError": 0, "Failure": 0}

#: What only programs that have the platform inside can come to, and what clients never see.
ELSEWHERE = {"event_conflict", "run_not_waiting"}

#: Where clients never see what is wrong.
_APART = ("embedded", "cli", "workflows")


def codes() -> Iterator[tuple[str, str]]:
    """Yield each code that is written down in the source, with its file."""
    for file in sorted(SOURCE.rglob("*.py")):
        if file.relative_to(SOURCE).parts[0] in _APART:
            continue
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            place = MAKERS.get(name)
            given = [each.value for each in call.keywords if each.arg == "code"]
            if place is not None and place < len(call.args):
                given.append(call.args[place])
            for each in given:
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
                    yield each.value, file.name


def test_every_code_is_on_the_page() -> None:
    found = dict(codes())
    assert len(found) > 90
    assert {code: file for code, file in found.items() if code not in ELSEWHERE and f"`{code}`" not in PAGE} == {}


def test_every_route_and_parameter_is_on_the_page(openapi: dict[str, Any]) -> None:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            rows = [row for row in ROUTES.splitlines() if row.startswith(f"| {method.upper()} |")]
            row = next((row for row in rows if f"`{path}`" in row), "")
            assert row, (method, path)
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query" and parameter["name"] not in {"cursor", "limit"}:
                    assert f"`?{parameter['name']}=" in row, (path, parameter["name"])


FIELDS = [
    *((model, name) for model in (GraphDocument, NodeDocument, EdgeDocument) for name in model.model_fields),
    *((model, name) for model in (LimitsDocument, RetryDocument) for name in model.model_fields),
    *((model, name) for model in (EventDocument, ForkDocument, ResumeDocument) for name in model.model_fields),
    *((model, name) for model in (ReplayDocument, KeyDocument) for name in model.model_fields),
]


@pytest.mark.parametrize("model", sorted({model for model, _ in FIELDS}, key=str))
def test_every_field_is_on_the_page(model: type[Any]) -> None:
    missing = [name for each, name in FIELDS if each is model and not re.search(rf'[`"]{name}[`"]', PAGE)]
    assert missing == []


@pytest.mark.parametrize("word", [*NodeType, *Reducer, *Outcome])
def test_every_word_is_on_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE


@pytest.mark.parametrize("name", sorted({"RunSummaryAnswer", "RunStatusAnswer", "StateAnswer", "HistoryAnswer"}))
def test_what_is_told_of_runs_is_on_the_page(openapi: dict[str, Any], name: str) -> None:
    fields = openapi["components"]["schemas"][name]["properties"]
    assert [field for field in fields if not re.search(rf'[`"]{field}[`"]', PAGE)] == []
