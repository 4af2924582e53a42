"""Find where a statement can be put at the start of a function's or class's body."""

import ast
from typing import Any


def review_body_start(
    model: dict[str, Any], node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
) -> dict[str, Any] | None:
    """The place for a new first statement, after the docstring where there is one.

    Args:
        model: From review_model.
        node: A function or class of its tree.

    Returns:
        `line` (insert whole lines before it), `indent` (of the body) and `unit` (one level more), or None where the
        body has no line of its own: `def f(): return 1`.
    """
    lines: list[bytes] = model["lines"]
    after_docstring = _is_text(node.body[0])
    if after_docstring and len(node.body) == 1:
        return None
    anchor = node.body[1] if after_docstring else node.body[0]
    first, indent = _line_start(lines, anchor)
    if first is None or not indent or b"\x0c" in indent:
        return None
    line = (node.body[0].end_lineno or 0) + 1 if after_docstring else _after_header(lines, first)
    if lines[line - 2].rstrip(b"\r\n").endswith(b"\\"):
        return None
    head_text = lines[node.lineno - 1]
    head = head_text[: len(head_text) - len(head_text.lstrip())]
    deeper = indent.removeprefix(head) if indent.startswith(head) else b""
    return {"line": line, "indent": indent.decode(), "unit": (deeper or b"    ").decode()}


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _line_start(lines: list[bytes], statement: ast.stmt) -> tuple[int | None, bytes]:
    """The statement's first line, decorators included, and its indent; no line where something stands before it."""
    decorators = getattr(statement, "decorator_list", [])
    if decorators:
        number = decorators[0].lineno
        text = lines[number - 1]
        indent = text[: len(text) - len(text.lstrip())]
        return (number if text.lstrip().startswith(b"@") else None), indent
    indent = lines[statement.lineno - 1][: statement.col_offset]
    return (statement.lineno if not indent.strip() else None), indent


def _after_header(lines: list[bytes], first: int) -> int:
    """The line after the header's colon: comments and blank lines may stand between it and the first statement."""
    line = first
    while line > 1:
        before = lines[line - 2].strip()
        # A type comment must stay next to the header.
        if (before and not before.startswith(b"#")) or before.startswith(b"# type:"):
            break
        line -= 1
    return line
