"""Plan how statements are deleted from a module's text."""

import ast
from typing import Any

Edit = tuple[int, int, int, int, str]


def review_delete_statements(model: dict[str, Any], statements: list[ast.stmt]) -> dict[ast.stmt, Edit]:
    """The edit that deletes each statement with its lines, and leaves `pass` where a block would be left empty.

    A statement that shares a line with another is left out.

    Args:
        model: From review_model.
        statements: Statements of its tree, to be deleted together.
    """
    edits: dict[ast.stmt, Edit] = {}
    doomed = {statement for statement in statements if _has_lines_of_its_own(model["lines"], statement)}
    for statement in statements:
        if statement not in doomed:
            continue
        block = _block(model["parents"][statement], statement)
        end_line = statement.end_lineno or statement.lineno
        if statement is block[-1] and doomed.issuperset(block):
            edits[statement] = (statement.lineno, statement.col_offset, end_line, statement.end_col_offset or 0, "pass")
        else:
            edits[statement] = (statement.lineno, 0, end_line + 1, 0, "")
    return edits


def _has_lines_of_its_own(lines: list[bytes], statement: ast.stmt) -> bool:
    before = lines[statement.lineno - 1][: statement.col_offset]
    after = lines[(statement.end_lineno or 0) - 1][statement.end_col_offset or 0 :].strip()
    previous = lines[statement.lineno - 2].rstrip(b"\r\n") if statement.lineno > 1 else b""
    return not before.strip() and (not after or after.startswith(b"#")) and not previous.endswith(b"\\")


def _block(parent: ast.AST, statement: ast.stmt) -> list[ast.stmt]:
    for _, value in ast.iter_fields(parent):
        if isinstance(value, list) and statement in value:
            return value
    return [statement]
