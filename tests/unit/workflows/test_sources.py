"""What is registered can be: sources that stand alone, a graph that is valid."""

from __future__ import annotations

import ast
import builtins
import sys

import pytest
from tests.unit.workflows.workbench import WORKFLOW

from sandgraph.api.schemas.graph import parse_graph
from sandgraph.settings import load_settings
from sandgraph.workflows import sample_source

SOURCES = {**WORKFLOW.functions, **{name: tool.code for name, tool in WORKFLOW.tools.items()}}
GIVEN = {"tools", "tool", "get_global_registry", "WorkflowState"}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_stands_alone_and_defines_its_name(name: str) -> None:
    tree = ast.parse(SOURCES[name])
    compile(tree, name, "exec", dont_inherit=True)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "sandgraph":
            assert {alias.name for alias in node.names} <= GIVEN
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= sys.stdlib_module_names
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(SOURCES[name].splitlines()) < 200


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_invokes_only_tools_that_are_registered(name: str) -> None:
    calls = [node for node in ast.walk(ast.parse(SOURCES[name])) if isinstance(node, ast.Call)]
    for call in calls:
        if (
            isinstance(call.func, ast.Attribute)
            and call.func.attr == "invoke"
            and isinstance(call.args[0], ast.Constant)
        ):
            assert call.args[0].value in WORKFLOW.tools


def test_tools_and_functions_hide_no_builtin_and_say_what_they_do() -> None:
    assert not set(SOURCES) & set(dir(builtins))
    assert all(20 < len(tool.description) < 100 for tool in WORKFLOW.tools.values())


def test_the_graph_is_accepted_as_a_submission_would_be() -> None:
    graph = parse_graph(dict(WORKFLOW.graph), load_settings())
    assert graph.name == "code_review"
    assert {function for _, function in graph.functions()} == set(WORKFLOW.functions)


def test_the_sample_is_a_module_of_some_size() -> None:
    source = sample_source()
    compile(source, "sample", "exec", dont_inherit=True)
    assert 80 <= len(source.splitlines()) <= 120
