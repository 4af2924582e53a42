"""Find variables and imports that nothing uses."""

import ast
import re
from collections.abc import Iterator
from typing import Any

from sandgraph import tools

Finding = tuple[str, ast.AST, str]
WORD = re.compile(r"\w+")
CODE_LIKE = re.compile(r"""[\w.\[\]'"]+(?:\s*[,|]\s*[\w.\[\]'"]+)*""")


def review_detect_unused(model: dict[str, Any]) -> list[Finding]:
    """Issues `unused_variable` (plain assignments in functions) and `unused_import`.

    In doubt a name counts as used: a variable that a nested scope mentions, or in a function that looks at its own
    variables (`locals()`, `eval` …); an import that a string or a type comment may mean, that is an explicit re-export
    (`import x as x`, `__all__`, an `__init__.py`, a module of nothing but imports), that sits in a `try`, or whose line
    says `noqa`.

    Args:
        model: From review_model.

    Returns:
        Issue type, node (the statement; the alias of an import) and message of each.
    """
    found: list[Finding] = []
    for record in model["functions"]:
        found += _variables(record)
    if not model["filename"].endswith("__init__.py") and not _is_facade(model["tree"]):
        found += _imports(model)
    return found


def _variables(record: dict[str, Any]) -> Iterator[Finding]:
    candidates = [(target.id, node) for node in record["own"] for target in _targets(node)]
    if not candidates:
        return
    used = _used_in(record["node"])
    if used is None:
        return
    for name, statement in candidates:
        if name not in used and not name.startswith("_"):
            yield "unused_variable", statement, f"{name} is assigned and never used"


def _targets(node: ast.AST) -> list[ast.Name]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return [node.targets[0]]
    if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        return [node.target]
    return []


def _used_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str] | None:
    """Every name that the function or what it holds may read, or None where it may read any."""
    used: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            used.add(node.id)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            used.add(node.target.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            used.update(node.names)
        elif isinstance(node, ast.arg):
            used.add(node.arg)
    return None if tools.invoke("review_is_dynamic", function) else used


def _is_facade(tree: ast.Module) -> bool:
    """A module that only gathers names from others: imports, and assignments to dunder names."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            if isinstance(target, ast.Name) and target.id.startswith("__"):
                continue
        elif isinstance(statement, ast.Import | ast.ImportFrom | ast.Try | ast.If | ast.Expr):
            continue
        return False
    return True


def _imports(model: dict[str, Any]) -> Iterator[Finding]:
    used = _mentioned(model)
    scopes = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in model["nodes"]:
        if not isinstance(node, ast.Import | ast.ImportFrom) or not isinstance(model["parents"][node], scopes):
            continue
        source = b"".join(model["lines"][node.lineno - 1 : node.end_lineno])
        if b"noqa" in source or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            continue
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            if bound not in used and bound != "*" and alias.asname != alias.name:
                yield "unused_import", alias, f"{bound} is imported and never used"


def _mentioned(model: dict[str, Any]) -> set[str]:
    used: set[str] = set()
    for node in model["nodes"]:
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            used.update(node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _may_be_code(node.value):
            used.update(WORD.findall(node.value))
    for line in model["lines"]:
        if b"# type:" in line:
            used.update(WORD.findall(line.decode("utf-8").partition("# type:")[2]))
    return used


def _may_be_code(text: str) -> bool:
    """A doctest, or what could be an annotation or a name."""
    return ">>>" in text or CODE_LIKE.fullmatch(text.strip()) is not None
