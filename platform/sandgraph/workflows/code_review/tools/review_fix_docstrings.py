"""Put docstrings where they are missing."""

import ast
from typing import Any

from sandgraph import tools


def review_fix_docstrings(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A first docstring for each module, class and function without one.

    Left alone: modules that mention `__doc__`, and one-line functions.

    Args:
        model: From review_model.
        issues: `missing_docstring` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    if any("__doc__" in (getattr(node, field, None) for field in ("id", "attr", "value")) for node in model["nodes"]):
        return []
    fixes = []
    for issue in issues:
        node = issue["node"]
        if isinstance(node, ast.Module):
            line, indent = tools.invoke("review_module_start", model, after_imports=False), ""
        else:
            place = tools.invoke("review_body_start", model, node)
            line, indent = (place["line"], place["indent"]) if place else (None, "")
        if line is None:
            continue
        end = line + 1 if line == _lone_pass(model, node) else line
        text = _literal(tools.invoke("review_write_docstring", model, node), indent, model["newline"])
        if _wants_blank_line(model, node, line) and end == line:
            text += model["newline"]
        fixes.append(
            {
                "issues": [issue],
                "transformation": "add_docstring",
                "line": issue["line"],
                "description": f"add a docstring: {issue['message'].removesuffix(' has no docstring')}",
                "edits": [(line, 0, end, 0, text)],
            }
        )
    return fixes


def _lone_pass(model: dict[str, Any], node: ast.AST) -> int | None:
    """The line of a `pass` that is all of a body, which a docstring makes superfluous."""
    body: list[ast.stmt] = getattr(node, "body", [])
    if len(body) == 1 and isinstance(body[0], ast.Pass) and model["lines"][body[0].lineno - 1].strip() == b"pass":
        return body[0].lineno
    return None


def _wants_blank_line(model: dict[str, Any], node: ast.AST, line: int) -> bool:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return not is_function and bool(model["lines"][line - 1].strip())


def _literal(lines: list[str], indent: str, newline: str) -> str:
    if len(lines) == 1:
        return f'{indent}"""{lines[0]}"""{newline}'
    body = newline.join(f"{indent}{line}".rstrip() for line in lines[1:])
    return f'{indent}"""{lines[0]}{newline}{body}{newline}{indent}"""{newline}'
