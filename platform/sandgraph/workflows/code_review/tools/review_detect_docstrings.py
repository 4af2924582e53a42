"""Find what is public and has no docstring."""

import ast
from collections.abc import Iterator
from typing import Any

from sandgraph import tools

Finding = tuple[str, ast.AST, str]
# An overload has no behaviour of its own, a setter speaks through its property, an override through what it overrides.
SPOKEN_FOR = {"overload", "override", "setter", "getter", "deleter"}


def review_detect_docstrings(model: dict[str, Any]) -> list[Finding]:
    """Issues `missing_docstring` of the module, public classes, public functions and methods.

    Nothing is asked of names with a leading underscore (special methods included), of what is defined inside a
    function, or of an empty module.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    return list(_missing(model))


def _missing(model: dict[str, Any]) -> Iterator[Finding]:
    tree = model["tree"]
    if tree.body and not _has_docstring(tree):
        yield "missing_docstring", tree, "the module has no docstring"
    for record in model["classes"]:
        if record["public"] and not _has_docstring(record["node"]):
            yield "missing_docstring", record["node"], f"the class {record['node'].name} has no docstring"
    for record in model["functions"]:
        facts = tools.invoke("review_describe_function", model, record)
        spoken_for = {decorator.rpartition(".")[2] for decorator in facts["decorators"]} & SPOKEN_FOR
        if record["public"] and not facts["has_docstring"] and not spoken_for:
            kind = "method" if facts["is_method"] else "function"
            yield "missing_docstring", record["node"], f"the {kind} {facts['name']} has no docstring"


def _has_docstring(node: ast.Module | ast.ClassDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
