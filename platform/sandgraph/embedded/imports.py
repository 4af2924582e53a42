"""What submitted code can import in a sandbox, and the statement that imports it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import ModuleType

from sandgraph_runner.state import WorkflowState
from sandgraph_runner.tools import get_global_registry, tool, tools

#: What ``from sandgraph import …`` offers inside a sandbox.
GIVEN: dict[str, object] = {
    "WorkflowState": WorkflowState,
    "get_global_registry": get_global_registry,
    "tool": tool,
    "tools": tools,
}

#: Parts of the path of a file that an installer wrote.
_INSTALLED = ("site-packages", "dist-packages")

_MISSING = object()


def is_shared(module: str) -> bool:
    """Tell whether a sandbox can have this module: the standard library's, and installed packages.

    Whether the sandboxes' image holds an installed package shows when the code is checked there.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return True
    # Both lie in site-packages or a checkout; a sandbox has the names of GIVEN and nothing else of them.
    if top in {"", "__main__", "sandgraph", "sandgraph_runner"} or module not in sys.modules:
        return False
    found = sys.modules[module]
    places = [getattr(found, "__file__", None) or "", *map(str, getattr(found, "__path__", ()))]
    return any(part in place for place in places for part in _INSTALLED)


def import_of(name: str, value: object, tree: ast.Module | None) -> str | None:
    """Return the statement that binds ``name`` to ``value`` in a sandbox, or None where no import does.

    Args:
        name: To bind.
        value: Anything.
        tree: The source in which the value is used, whose own imports come first.
    """
    for given, known in GIVEN.items():
        if value is known:
            return _from("sandgraph", given, name)
    if isinstance(value, ModuleType) and value is sys.modules.get("sandgraph"):
        return _import("sandgraph", name)
    for module, attribute in _written(tree, value):
        return _from(module, attribute, name)
    if isinstance(value, ModuleType):
        return _import(value.__name__, name) if is_shared(value.__name__) else None
    # A proxy or a mock makes attributes up.
    home, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(own, str) or not own.isidentifier():
        return None
    return _from(home, own, name) if is_shared(home) and _attribute(home, own) is value else None


def submodules(name: str, module: ModuleType, tree: ast.AST) -> Iterator[str]:
    """Yield the submodules that code reads as attributes of ``name``: ``import a`` alone does not load ``a.b``."""
    for node in ast.walk(tree):
        dotted = _dotted(node)
        if not dotted or dotted[0] != name:
            continue
        path = module.__name__
        for attribute in dotted[1:]:
            path += f".{attribute}"
            if not isinstance(sys.modules.get(path), ModuleType):
                break
            yield path


def _written(tree: ast.Module | None, value: object) -> Iterator[tuple[str, str]]:
    """Yield module and name of each ``from … import`` in the source that leads to the value."""
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and node.module and not node.level and is_shared(node.module):
            for alias in node.names:
                if _attribute(node.module, alias.name) is value:
                    yield node.module, alias.name


def _attribute(module: str, name: str) -> object:
    found = sys.modules.get(module)
    return vars(found).get(name, _MISSING) if found is not None else _MISSING


def _dotted(node: ast.AST) -> list[str]:
    """Return ``["a", "b", "c"]`` for the expression ``a.b.c``, and nothing for others."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) and names else []


def _import(module: str, name: str) -> str:
    return f"import {module}" if module == name else f"import {module} as {name}"


def _from(module: str, attribute: str, name: str) -> str:
    return f"from {module} import {attribute}" if attribute == name else f"from {module} import {attribute} as {name}"
