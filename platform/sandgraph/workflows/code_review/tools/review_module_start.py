"""Find where a statement can be put at the start of a module."""

import ast
from typing import Any

HARMLESS = (ast.Import, ast.ImportFrom, ast.Pass)


def review_module_start(model: dict[str, Any], *, after_imports: bool) -> int | None:
    """The line before which whole lines can be inserted.

    Args:
        model: From review_model.
        after_imports: Whether the place is after docstring and leading imports (those in a `try` or `if` with nothing
            but imports and constants in it too), or where a docstring goes: after the comments that head the file.

    Returns:
        The line, or None where statements share a line with what stands before.
    """
    lines: list[bytes] = model["lines"]
    last = _last_leading_statement(model["tree"].body) if after_imports else None
    if last is None:
        return _after_heading(lines)
    end_line = last.end_lineno or last.lineno
    rest = lines[end_line - 1][last.end_col_offset or 0 :].strip()
    return end_line + 1 if not rest or rest.startswith(b"#") else None


def _last_leading_statement(body: list[ast.stmt]) -> ast.stmt | None:
    last = None
    for position, statement in enumerate(body):
        if isinstance(statement, ast.Import | ast.ImportFrom) or (position == 0 and _is_text(statement)):
            last = statement
        elif isinstance(statement, ast.Try | ast.If):
            if not all(_is_harmless(inner) for inner in _inner_statements(statement)):
                break
            last = statement
        else:
            break
    return last


def _inner_statements(statement: ast.Try | ast.If) -> list[ast.stmt]:
    inner = [*statement.body, *statement.orelse]
    if isinstance(statement, ast.Try):
        inner += statement.finalbody
        for handler in statement.handlers:
            inner += handler.body
    return inner


def _is_harmless(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign):
        return isinstance(statement, HARMLESS)
    return isinstance(statement.value, ast.Constant) and all(isinstance(name, ast.Name) for name in statement.targets)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _after_heading(lines: list[bytes]) -> int:
    """After the first block of comments, so that `#!` and the encoding stay where they are read."""
    start = 0
    while start < len(lines) and not lines[start].strip():
        start += 1
    end = start
    while end < len(lines) and lines[end].lstrip().startswith(b"#"):
        end += 1
    return end + 1 if end > start else 1
