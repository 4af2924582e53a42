"""Find names that hide others."""

import ast
import builtins
from collections.abc import Iterator
from typing import Any

SITE_ONLY = {"copyright", "credits", "exit", "license", "quit", "help"}
BUILTINS = {name for name in dir(builtins) if not name.startswith("_")} - SITE_ONLY
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module, ast.Lambda)
Finding = tuple[str, ast.AST, str]


def review_detect_names(model: dict[str, Any]) -> list[Finding]:
    """Issues `shadowed_builtin` (one a name and scope; attributes of a class shadow nothing) and `star_import`.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    found: list[Finding] = []
    seen = set()
    for node in model["nodes"]:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found.append(("star_import", node, f"import * from {node.module or '.'} brings in names unseen"))
        for name in _bound(node):
            scope = _scope(model, node)
            if name in BUILTINS and not isinstance(scope, ast.ClassDef) and (scope, name) not in seen:
                seen.add((scope, name))
                found.append(("shadowed_builtin", node, f"{name} hides the builtin of that name"))
    return found


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name


def _scope(model: dict[str, Any], node: ast.AST) -> ast.AST:
    scope: ast.AST = model["parents"][node]
    while not isinstance(scope, SCOPES):
        scope = model["parents"][scope]
    return scope
