"""Find every issue of a module and score it."""

import ast
from collections import Counter
from typing import Any

from sandgraph import tools

DETECTORS = (
    "review_detect_size",
    "review_detect_mistakes",
    "review_detect_comparisons",
    "review_detect_numbers",
    "review_detect_unused",
    "review_detect_names",
    "review_detect_flow",
    "review_detect_docstrings",
)


def review_analyse(code: str, filename: str = "") -> dict[str, Any]:
    """Run all detectors over `code`.

    Returns:
        `model` (from review_model), `issues` in source order, each with `type`, `severity`, `line`, `column`,
        `function`, `message` and `node`; `counts` of issues by type; `statements`; `score`. Code that cannot be parsed
        has the score 0 and one issue, `syntax_error`.
    """
    model = tools.invoke("review_model", code, filename)
    if model["error"] is not None:
        return {
            "model": model,
            "issues": [_syntax_error(model)],
            "counts": {"syntax_error": 1},
            "statements": 0,
            "score": 0.0,
        }
    rules = tools.invoke("review_rules")
    own_names = {record["node"]: record["qualname"] for record in model["functions"]}
    issues = []
    for detector in DETECTORS:
        for kind, node, message in tools.invoke(detector, model):
            owner = model["owners"].get(node)
            issues.append(
                {
                    "type": kind,
                    "severity": rules[kind].severity,
                    **_position(model, node),
                    "function": own_names.get(node, owner["qualname"] if owner else None),
                    "message": message,
                    "node": node,
                }
            )
    issues.sort(key=lambda issue: (issue["line"], issue["column"], issue["type"]))
    counts = dict(Counter(issue["type"] for issue in issues))
    statements = _statements(model)
    score = tools.invoke("review_score", counts, statements)
    return {"model": model, "issues": issues, "counts": counts, "statements": statements, "score": score}


def _syntax_error(model: dict[str, Any]) -> dict[str, Any]:
    error = model["error"]
    place = {"line": error["line"], "column": error["column"]}
    return {"type": "syntax_error", "severity": "high", **place, "function": None, "message": error["message"]}


def _position(model: dict[str, Any], node: ast.AST) -> dict[str, int]:
    """Line and column, both from 1, the column in characters. A module is at its first line."""
    line = getattr(node, "lineno", 1)
    before = model["lines"][line - 1][: getattr(node, "col_offset", 0)] if model["lines"] else b""
    return {"line": line, "column": len(before.decode("utf-8", "replace")) + 1}


def _statements(model: dict[str, Any]) -> int:
    total = 0
    for node in model["nodes"]:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        total += isinstance(node, ast.stmt) and not is_text
    return total
