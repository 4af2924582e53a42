"""Follow a chain of if, elif and else as far as its branches never fall through."""

import ast
from typing import Any

JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def review_needless_branches(model: dict[str, Any], head: ast.If) -> list[ast.If]:
    """The branches of a chain whose `elif` or `else` is not needed, because they and all before them end in a jump.

    Empty for an `elif`, which belongs to the chain of its `if`.

    Args:
        model: From review_model.
        head: Any `if` of its tree.
    """
    if _is_elif(model, head):
        return []
    needless = []
    branch = head
    while branch.orelse and isinstance(branch.body[-1], JUMPS):
        needless.append(branch)
        follower = branch.orelse[0]
        if not isinstance(follower, ast.If) or not _is_elif(model, follower):
            break
        branch = follower
    return needless


def _is_elif(model: dict[str, Any], node: ast.If) -> bool:
    line: bytes = model["lines"][node.lineno - 1]
    return line[node.col_offset :].startswith(b"elif")
