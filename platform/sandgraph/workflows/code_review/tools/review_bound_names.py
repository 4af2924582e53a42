"""List every name that a module binds anywhere."""

import ast
from typing import Any


def review_bound_names(model: dict[str, Any]) -> set[str]:
    """Names that are assigned, imported, defined, captured or parameters, in any scope; `*` for a star import.

    A builtin among them may not be the builtin, and a new name must be none of them.

    Args:
        model: From review_model.
    """
    bound: set[str] = set()
    for node in model["nodes"]:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            bound.update(node.names)
        elif isinstance(node, ast.MatchMapping):
            bound.add(node.rest or "")
        elif isinstance(getattr(node, "name", None), str):
            bound.add(node.name)
    return bound
