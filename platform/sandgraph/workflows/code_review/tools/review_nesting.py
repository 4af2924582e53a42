"""Measure how deeply a function's blocks are nested."""

import ast
from typing import Any

BLOCKS: tuple[type[ast.AST], ...] = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def review_nesting(record: dict[str, Any]) -> int:
    """The largest number of compound statements around any statement of the function.

    `elif` is as deep as its `if`. What a nested function or class holds is not counted here.

    Args:
        record: A function's record from review_model.
    """
    deepest = 0
    stack: list[tuple[ast.AST, int]] = [(statement, 0) for statement in record["node"].body]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, (ast.expr, *SCOPES)):
            continue
        inner = depth + isinstance(node, BLOCKS)
        deepest = max(deepest, inner)
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    is_elif = (
                        field == "orelse"
                        and isinstance(node, ast.If)
                        and isinstance(child, ast.If)
                        and child.col_offset == node.col_offset
                    )
                    stack.append((child, depth if is_elif else inner))
    return deepest
