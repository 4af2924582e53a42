"""Improve a module by one round of fixes."""

import ast
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from sandgraph import tools

PRIORITIES = ("high", "medium", "low")
MAX_PASSES = 10
MAX_TRIALS = 60
MAX_FIXES = 500
Span = tuple[tuple[int, int], tuple[int, int]]


def review_improve(code: str, filename: str = "") -> dict[str, Any]:
    """Apply the fixes of the highest priority that has any, until that priority has none left or 500 are made.

    A change is kept only if the result compiles, keeps every public name of the module, and scores no less than before.

    Returns:
        `code`, `priority` (None where nothing changed) and `applied`, each with `transformation`, `line` (in the code
        as it was when the fix was made), `description` and `resolves` (the issue type).
    """
    current = tools.invoke("review_analyse", code, filename)
    applied: list[dict[str, Any]] = []
    refused: set[str] = set()
    trials = MAX_TRIALS
    for priority in PRIORITIES:
        for _ in range(MAX_PASSES):
            fixes = [fix for fix in tools.invoke("review_plan", current, priority) if _identity(fix) not in refused]
            groups = [list(_compatible(fixes[: max(MAX_FIXES - len(applied), 0)]))]
            progress = False
            while groups and groups[0] and trials and not progress:
                group = groups.pop(0)
                trials -= 1
                better = _try(current, group)
                if better is not None:
                    current, progress = better, True
                    applied += [_report(fix) for fix in group]
                elif len(group) == 1:
                    refused.add(_identity(group[0]))
                else:
                    groups[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]
            if not progress:
                break
        if applied:
            return {"code": current["model"]["code"], "priority": priority, "applied": applied}
    return {"code": code, "priority": None, "applied": []}


def _identity(fix: dict[str, Any]) -> str:
    return f"{fix['transformation']} {fix['description']} {fix['issues'][0]['function']}"


def _report(fix: dict[str, Any]) -> dict[str, Any]:
    return {
        "transformation": fix["transformation"],
        "line": fix["line"],
        "description": fix["description"],
        "resolves": fix["issues"][0]["type"],
    }


def _compatible(fixes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Fixes that can be made together: no two touch the same text, or lines that one needs for itself."""
    taken: list[Span] = []
    for fix in fixes:
        spans: list[Span] = [((edit[0], edit[1]), (edit[2], edit[3])) for edit in fix["edits"]]
        if "lines" in fix:
            first, last = fix["lines"]
            spans = [((first, 0), (last + 1, 0))]
        if not any(_collides(span, taken) for span in spans):
            for span in spans:
                insort(taken, span)
            yield fix


def _collides(span: Span, taken: list[Span]) -> bool:
    """Whether a span touches one of those taken, which touch each other only where they insert at one place."""
    position = bisect_left(taken, span)
    return any(
        span[0] <= other[1] and other[0] <= span[1] and not span == other == (span[0], span[0])
        for other in taken[max(position - 1, 0) : position + 1]
    )


def _try(current: dict[str, Any], fixes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The analysis of the code with these fixes, or None where they do harm."""
    model = current["model"]
    changed = tools.invoke("review_edit", model, [edit for fix in fixes for edit in fix["edits"]])
    analysis: dict[str, Any] = tools.invoke("review_analyse", changed, model["filename"])
    removed = {name for fix in fixes for name in fix.get("removes", ())}
    if analysis["model"]["error"] is not None or changed == model["code"]:
        return None
    lost = _public_names(model["tree"]) - _public_names(analysis["model"]["tree"]) - removed
    return None if lost or analysis["score"] < current["score"] else analysis


def _public_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.split(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            names.update(node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
    return names
