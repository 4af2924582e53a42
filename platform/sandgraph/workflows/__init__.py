"""The workflows that every platform has: sources and graphs, to be registered at start as a user's would be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType


@dataclass(frozen=True)
class ToolSource:
    """A tool's source, which defines a function of the tool's name, and what the tool list says of it."""

    code: str
    description: str


@dataclass(frozen=True)
class BuiltinWorkflow:
    """A workflow that comes with the platform.

    `functions` (name to source) and `tools` are to be registered before `graph`, a document as POST /graph/create takes
    it, which refers to them by name.
    """

    name: str
    functions: Mapping[str, str]
    tools: Mapping[str, ToolSource]
    graph: Mapping[str, object]


@cache
def builtin_workflows() -> tuple[BuiltinWorkflow, ...]:
    """All of them; today the code review."""
    root = resources.files(__name__) / "code_review"
    tools = {name: ToolSource(code, _summary(code)) for name, code in _sources(root / "tools")}
    return (
        BuiltinWorkflow(
            name="code_review",
            functions=MappingProxyType(dict(_sources(root / "nodes"))),
            tools=MappingProxyType(tools),
            graph=MappingProxyType(_code_review_graph()),
        ),
    )


def sample_source() -> str:
    """A module that is worth a review, for demonstrations: orders, badly processed."""
    return (resources.files(__name__) / "code_review" / "sample.py.txt").read_text(encoding="utf-8")


def _sources(folder: Traversable) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py") and entry.name != "__init__.py":
            yield entry.name.removesuffix(".py"), entry.read_text(encoding="utf-8")


def _summary(code: str) -> str:
    """The first line of a source's docstring, with which each of ours begins."""
    return code.removeprefix('"""').partition("\n")[0].removesuffix('"""').rstrip(".")


def _code_review_graph() -> dict[str, object]:
    steps = (
        "extract_functions",
        "calculate_complexity",
        "detect_issues",
        "suggest_improvements",
        "score_quality",
        "apply_improvements",
    )
    nodes: list[dict[str, object]] = [{"name": "start", "type": "start"}]
    nodes += [{"name": step, "type": "standard", "function": f"review_{step}", "limits": _LIMITS} for step in steps]
    nodes += [{"name": "end", "type": "end"}]
    edges: list[dict[str, object]] = [
        {"source": source, "target": target} for source, target in zip(("start", *steps[:4]), steps[:5], strict=True)
    ]
    edges += [
        {
            "source": "score_quality",
            "target": "end",
            "condition": "state.quality_score >= state.quality_threshold or not state.can_improve",
        },
        {"source": "score_quality", "target": "apply_improvements", "default": True},
        {"source": "apply_improvements", "target": "extract_functions"},
    ]
    return {"name": "code_review", "start_node": "start", "nodes": nodes, "edges": edges, "max_steps": _MAX_STEPS}


_LIMITS = {"timeout_s": 60}
# Twenty rounds, the most that may be asked for, of six nodes each, and the last round's five with start and end.
_MAX_STEPS = 20 * 6 + 7
