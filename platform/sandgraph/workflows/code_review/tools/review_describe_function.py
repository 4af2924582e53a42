"""Describe one function of a reviewed module as plain data."""

import ast
from typing import Any


def review_describe_function(model: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The facts of a function that need no judgement.

    Args:
        model: From review_model.
        record: One of its `functions`.

    Returns:
        `name`, `qualname`, `class`, `line`, `end_line`, `args` (names, with `*` and `**`), `parameters` (how many a
        caller may give: neither the bound first one nor star arguments), `length` (lines in all), `code_lines` (neither
        blank, comment nor docstring), `has_docstring`, `is_async`, `is_method`, `is_nested`, `decorators`.
    """
    node = record["node"]
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    if arguments.vararg:
        names.append("*" + arguments.vararg.arg)
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append("**" + arguments.kwarg.arg)
    decorators = [_dotted(decorator) for decorator in node.decorator_list]
    bound = record["class"] is not None and "staticmethod" not in decorators and bool(named)
    return {
        "name": node.name,
        "qualname": record["qualname"],
        "class": record["class"],
        "line": node.lineno,
        "end_line": node.end_lineno,
        "args": names,
        "parameters": len(named) - bound,
        "length": node.end_lineno - node.lineno + 1,
        "code_lines": _code_lines(model["lines"], node),
        "has_docstring": _docstring(node) is not None,
        "is_async": isinstance(node, ast.AsyncFunctionDef),
        "is_method": record["class"] is not None,
        "is_nested": record["nested"],
        "decorators": decorators,
    }


def _dotted(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    parts = []
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(target.id if isinstance(target, ast.Name) else "…")
    return ".".join(reversed(parts))


def _docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.expr | None:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first.value
    return None


def _code_lines(lines: list[bytes], node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docstring = _docstring(node)
    skipped = range(docstring.lineno, (docstring.end_lineno or 0) + 1) if docstring else range(0)
    count = 0
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        text = lines[number - 1].strip()
        count += bool(text) and not text.startswith(b"#") and number not in skipped
    return count
