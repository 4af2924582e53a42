"""Find numbers whose meaning the code does not tell."""

import ast
from typing import Any

TELLING = (0, 1, 2)
DATA = (ast.Dict, ast.List, ast.Tuple, ast.Set, ast.keyword, ast.Subscript, ast.Slice)
NAMING = (ast.Assign, ast.AnnAssign, ast.NamedExpr)


def review_detect_numbers(model: dict[str, Any]) -> list[tuple[str, ast.AST, str]]:
    """Issues `magic_number`.

    Not magic are 0, 1, 2 and their negatives, and numbers that something names or explains: assigned to a name as they
    are, part of an assignment to a module's, class's or upper-case name, keyword arguments, defaults, elements of
    displays, indexes, patterns, annotations, decorators and f-strings.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    found: list[tuple[str, ast.AST, str]] = []
    for node in model["nodes"]:
        if not isinstance(node, ast.Constant) or type(node.value) not in (int, float) or node.value in TELLING:
            continue
        if node not in model["context"] and not _is_explained(model, node):
            where = "the function" if node in model["owners"] else "the module"
            found.append(("magic_number", node, f"{node.value!r:.40} stands in {where} without a name"))
    return found


def _is_explained(model: dict[str, Any], node: ast.Constant) -> bool:
    parents = model["parents"]
    whole: ast.AST = node
    holder = parents[whole]
    while isinstance(holder, ast.UnaryOp):
        whole, holder = holder, parents[holder]
    if isinstance(holder, (*DATA, *NAMING, ast.Expr)):
        return True
    if isinstance(holder, ast.Compare) and any(isinstance(operator, ast.Is | ast.IsNot) for operator in holder.ops):
        return True
    statement = holder
    while not isinstance(statement, ast.stmt):
        statement = parents[statement]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return node not in model["owners"] or all(_is_constant_name(target) for target in targets)
    return False


def _is_constant_name(target: ast.expr) -> bool:
    name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
    return name.isupper()
