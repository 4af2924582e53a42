"""Compare with None by identity, and use truth values as they are."""

import ast
from typing import Any

from sandgraph import tools

# Their objects give == a meaning of its own: an SQL condition, an array of answers.
OVERLOADERS = {"sqlalchemy", "sqlmodel", "peewee", "pony", "django"} | {"numpy", "pandas", "polars", "torch", "sympy"}
Edit = tuple[int, int, int, int, str]


def review_fix_comparisons(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`x == None` becomes `x is None`; `x == True` becomes `x`, where x can only be a truth value.

    Left alone: chained comparisons, f-strings, comparisons over several lines, and `== None` in modules that import a
    library whose objects overload it.

    Args:
        model: From review_model.
        issues: `comparison_to_none` and `comparison_to_bool` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    overloaded = any(_imported(node) & OVERLOADERS for node in model["nodes"])
    fixes = []
    for issue in issues:
        node = issue["node"]
        if len(node.ops) != 1 or node.lineno != node.end_lineno or model["context"].get(node) == "fstring":
            continue
        line: bytes = model["lines"][node.lineno - 1]
        right = node.comparators[0]
        between = line[node.left.end_col_offset : right.col_offset]
        symbol = b"==" if isinstance(node.ops[0], ast.Eq) else b"!="
        if between.count(symbol) != 1:
            continue
        operator = node.left.end_col_offset + between.index(symbol)
        if issue["type"] == "comparison_to_bool":
            transformation, done = "boolean_comparison", "use the truth value itself"
            edits = _plain(model, node, line, operator)
        else:
            word = "is" if symbol == b"==" else "is not"
            transformation, done = "identity_comparison", f"compare with None by {word}"
            edits = [] if overloaded else [_spaced(node.lineno, line, operator, word)]
        if edits:
            fixes.append(
                {
                    "issues": [issue],
                    "transformation": transformation,
                    "line": node.lineno,
                    "description": done,
                    "edits": edits,
                }
            )
    return fixes


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return set()


def _spaced(number: int, line: bytes, operator: int, word: str) -> Edit:
    before = "" if line[operator - 1 : operator].isspace() else " "
    after = "" if line[operator + 2 : operator + 3].isspace() else " "
    return number, operator, number, operator + 2, f"{before}{word}{after}"


def _plain(model: dict[str, Any], node: ast.Compare, line: bytes, operator: int) -> list[Edit]:
    """The edits that leave the operand alone, or negated."""
    left, right = node.left, node.comparators[0]
    yoda = isinstance(left, ast.Constant) and isinstance(left.value, bool)
    constant, operand = (left, right) if yoda else (right, left)
    if not isinstance(constant, ast.Constant) or not tools.invoke("review_is_boolean", model, operand):
        return []
    number, start, end = node.lineno, node.col_offset, node.end_col_offset or 0
    if yoda:
        rest = line[operator + 2 : end]
        cut = (number, start, number, operator + 2 + len(rest) - len(rest.lstrip()), "")
    else:
        cut = (number, len(line[:operator].rstrip()), number, end, "")
    negated = constant.value is isinstance(node.ops[0], ast.NotEq)
    if not negated:
        return [cut]
    glued = line[start - 1 : start].isalnum() if start else False
    word = " not " if glued else "not "
    return [(*cut[:4], word)] if yoda else [(number, start, number, start, word), cut]
