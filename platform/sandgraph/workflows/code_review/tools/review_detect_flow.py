"""Find branches that are not needed and statements that cannot be reached."""

import ast
from itertools import pairwise
from typing import Any

from sandgraph import tools

JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def review_detect_flow(model: dict[str, Any]) -> list[tuple[str, ast.AST, str]]:
    """Issues `needless_else` (one for a chain of if, elif and else) and `unreachable_code` (one for a block).

    Args:
        model: From review_model.

    Returns:
        Issue type, node (the head of the chain; the first unreachable statement) and message of each.
    """
    found: list[tuple[str, ast.AST, str]] = []
    for node in model["nodes"]:
        if isinstance(node, ast.If) and tools.invoke("review_needless_branches", model, node):
            jump = type(node.body[-1]).__name__.lower()
            follower = "elif" if _starts_with_elif(model, node.orelse[0]) else "else"
            found.append(("needless_else", node, f"{follower} after {jump}"))
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                found += _unreachable(block)
    return found


def _unreachable(block: list[ast.stmt]) -> list[tuple[str, ast.AST, str]]:
    for statement, following in pairwise(block):
        if isinstance(statement, JUMPS):
            # A yield that is never reached makes a function a generator.
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Yield | ast.YieldFrom):
                break
            return [("unreachable_code", following, f"nothing after {type(statement).__name__.lower()} can run")]
    return []


def _starts_with_elif(model: dict[str, Any], node: ast.stmt) -> bool:
    line: bytes = model["lines"][node.lineno - 1]
    return line[node.col_offset :].startswith(b"elif")
