"""Count the cyclomatic complexity of a function (McCabe 1976)."""

import ast
from typing import Any

DECISIONS = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
)


def review_cyclomatic(record: dict[str, Any]) -> int:
    """One, and one for each decision in the function's own code.

    After T. J. McCabe, "A Complexity Measure" (IEEE TSE, 1976), counted on the syntax tree as the `mccabe` and `radon`
    packages do. Decisions are: `if` and `elif`, a conditional expression, `for`, `while`, each `except`, `assert`, each
    `and` and `or`, each `for` and each `if` of a comprehension, and each `case` other than a plain `case _`. `else`,
    `finally` and `with` decide nothing. A nested function has a complexity of its own and adds nothing to this one.

    Args:
        record: A function's record from review_model.
    """
    total = 1
    for node in record["own"]:
        if isinstance(node, DECISIONS):
            total += 1
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            total += 1 + len(node.ifs)
        elif isinstance(node, ast.match_case):
            total += not _matches_everything(node)
    return total


def _matches_everything(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
