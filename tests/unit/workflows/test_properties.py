"""What holds for every module: generated ones, and those of the standard library."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
from effort import part_of
from hypothesis import HealthCheck, assume, given, settings
from tests.unit.workflows.canonical import canonical
from tests.unit.workflows.programs import compiles, programs
from tests.unit.workflows.workbench import invoke, score

MODULES = (
    "bisect",
    "cmd",
    "colorsys",
    "copy",
    "csv",
    "filecmp",
    "fnmatch",
    "getopt",
    "netrc",
    "sched",
    "shelve",
    "shlex",
)


def check(source: str, filename: str = "") -> list[str]:
    """Improve a module to the end and check every round; the transformations made."""
    made: list[str] = []
    current, quality = source, score(source)
    for _ in range(8):
        result = invoke("review_improve", current, filename)
        if not result["applied"]:
            break
        current = result["code"]
        assert compiles(current)
        assert score(current) >= quality
        quality = score(current)
        made += [improvement["transformation"] for improvement in result["applied"]]
    else:
        raise AssertionError("the improvement never comes to an end")
    assert canonical(current, source) == canonical(source)
    assert definitions(current) == definitions(source)
    return made


def definitions(source: str) -> list[str]:
    tree = ast.parse(source.removeprefix("\ufeff"))
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return sorted(node.name for node in ast.walk(tree) if isinstance(node, named))


@given(source=programs())
@settings(max_examples=part_of(15, 5), deadline=None, suppress_health_check=list(HealthCheck))
def test_generated_programs_keep_their_meaning(source: str) -> None:
    assume(compiles(source))
    check(source)


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_the_standard_library_keep_their_meaning(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    check(Path(spec.origin).read_bytes().decode("utf-8"), f"{name}.py")
