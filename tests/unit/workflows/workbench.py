"""The code review's sources, loaded as a sandbox loads them, and a walk along its graph without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from textwrap import dedent
from typing import Any

from sandgraph.workflows import builtin_workflows
from sandgraph_runner.jobs import Source
from sandgraph_runner.loading import Loader
from sandgraph_runner.state import ExpressionState, WorkflowState
from sandgraph_runner.tools import job_tools, tools

MOST_STEPS = 200
(WORKFLOW,) = builtin_workflows()
_LOADER = Loader()


@cache
def tool(name: str) -> Callable[..., Any]:
    return _LOADER.function(Source(name, WORKFLOW.tools[name].code), "tool")


def invoke(name: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the tool returns
    with job_tools({known: partial(tool, known) for known in WORKFLOW.tools}):
        return tools.invoke(name, *args, **kwargs)


def call_node(name: str, state: WorkflowState) -> None:
    with job_tools({known: partial(tool, known) for known in WORKFLOW.tools}):
        _LOADER.function(Source(name, WORKFLOW.functions[name]))(state)


def code(text: str) -> str:
    """A test's code, without the indent of the test."""
    return dedent(text.removeprefix("\n"))


def found(source: str, kind: str | None = None, filename: str = "") -> list[tuple[str, int]]:
    """Type and line of every issue, or of those of one type."""
    issues = invoke("review_analyse", source, filename)["issues"]
    return [(issue["type"], issue["line"]) for issue in issues if kind in (None, issue["type"])]


def lines_of(source: str, kind: str, filename: str = "") -> list[int]:
    return [line for _, line in found(source, kind, filename)]


def fixed(source: str, fixer: str, filename: str = "") -> str:
    """The source after one fixer alone, as often as it changes anything; nested blocks one after the other."""
    rules = {kind for kind, rule in invoke("review_rules").items() if rule.fixer == fixer}
    for _ in range(10):
        analysis = invoke("review_analyse", source, filename)
        assert analysis["model"]["error"] is None, analysis["model"]["error"]
        issues = [issue for issue in analysis["issues"] if issue["type"] in rules]
        fixes = invoke(fixer, analysis["model"], issues)
        chosen = fixes[:1] if any("lines" in fix for fix in fixes) else fixes
        edits = [edit for fix in chosen for edit in fix["edits"]]
        if not edits:
            return source
        source = invoke("review_edit", analysis["model"], edits)
    raise AssertionError("the fixer never comes to an end")


def improved(source: str, filename: str = "") -> str:
    """The source after as many rounds as change anything."""
    for _ in range(10):
        result = invoke("review_improve", source, filename)
        if not result["applied"]:
            return source
        source = result["code"]
    raise AssertionError("the improvement never comes to an end")


def score(source: str) -> float:
    return float(invoke("review_analyse", source)["score"])


def review(initial: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """The final state of a run, and the nodes it went through; the state is JSON between two nodes."""
    functions = {node["name"]: node.get("function") for node in _listed("nodes")}
    data = json.loads(json.dumps(initial))
    node, path = "start", ["start"]
    while node != "end":
        assert len(path) < MOST_STEPS
        function = functions[node]
        if function is not None:
            state = WorkflowState(data)
            call_node(function, state)
            data = json.loads(json.dumps(state.to_dict(), allow_nan=False))
        node = _next(node, data)
        path.append(node)
    return data, path


def _next(node: str, data: dict[str, Any]) -> str:
    edges = [edge for edge in _listed("edges") if edge["source"] == node]
    taken = [edge for edge in edges if "condition" in edge and _holds(edge["condition"], data)]
    taken = taken or [edge for edge in edges if "condition" not in edge]
    assert len(taken) == 1
    return str(taken[0]["target"])


def _holds(condition: str, data: dict[str, Any]) -> bool:
    return bool(_LOADER.evaluate(_LOADER.compile_expression(condition), {"state": ExpressionState(data)}))


def _listed(part: str) -> list[dict[str, Any]]:
    value = WORKFLOW.graph[part]
    assert isinstance(value, list)
    return value
