"""Make mutable defaults anew for every call."""

import ast
import re
from typing import Any

from sandgraph import tools

CONTAINERS = {"list", "dict", "set", "List", "Dict", "Set"}
ANNOTATIONS = CONTAINERS | {"Sequence", "Iterable", "Mapping", "MutableMapping", "MutableSequence", "Collection"}
KNOWN_DECORATORS = {"staticmethod", "classmethod", "abstractmethod", "contextmanager", "override"}
CHANGES = {"append", "add", "clear", "extend", "insert", "pop", "remove", "setdefault", "sort", "update"}
INTROSPECTION = {"__defaults__", "__kwdefaults__", "signature", "getfullargspec"}


def review_fix_defaults(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`def f(a=[])` becomes `def f(a=None)` with `if a is None: a = []` at the start of the body.

    Left alone: lambdas and one-line functions, defaults whose value depends on names, parameters that are there to be
    shared (`_x`, `cache`, `memo`, or not empty and changed by the body), functions that test the parameter for None
    already, that have decorators which may look at the signature, or whose annotation cannot take `| None`.

    Args:
        model: From review_model.
        issues: `mutable_default` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    bound = tools.invoke("review_bound_names", model)
    mentioned = {getattr(node, "attr", getattr(node, "id", None)) for node in model["nodes"]}
    if mentioned & INTROSPECTION:
        return []
    fixes = []
    for issue in issues:
        argument = issue["node"]
        function = model["parents"][model["parents"][argument]]
        default = _default(function.args, argument)
        if (
            not _is_eligible(function, argument)
            or _is_counter(function, argument, default)
            or not _is_self_contained(default, bound)
        ):
            continue
        place = tools.invoke("review_body_start", model, function)
        annotation = _optional(model, argument.annotation)
        if place is None or annotation is None or default.lineno != default.end_lineno:
            continue
        text = model["lines"][default.lineno - 1][default.col_offset : default.end_col_offset].decode("utf-8")
        newline, indent, line = model["newline"], place["indent"], place["line"]
        guard = f"{indent}if {argument.arg} is None:{newline}{indent}{place['unit']}{argument.arg} = {text}{newline}"
        fixes.append(
            {
                "issues": [issue],
                "transformation": "none_default",
                "line": argument.lineno,
                "description": f"default {argument.arg} to None and make {text} in the body",
                "edits": [
                    (default.lineno, default.col_offset, default.lineno, default.end_col_offset, "None"),
                    (line, 0, line, 0, guard),
                    *annotation,
                ],
            }
        )
    return fixes


def _default(arguments: ast.arguments, argument: ast.arg) -> ast.expr:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)
    )
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return next(value for name, value in pairs if name is argument and value is not None)


def _is_eligible(function: ast.AST, argument: ast.arg) -> bool:
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    if re.match("_|.*(cache|memo)", argument.arg.lower()):
        return False
    for decorator in function.decorator_list:
        name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
        if name not in KNOWN_DECORATORS:
            return False
    tests_none = any(
        isinstance(node, ast.Compare)
        and isinstance(node.left, ast.Name)
        and node.left.id == argument.arg
        and any(isinstance(right, ast.Constant) and right.value is None for right in node.comparators)
        for node in ast.walk(function)
    )
    return not tests_none and not all(_does_nothing(statement) for statement in function.body)


def _is_counter(function: ast.AST, argument: ast.arg, default: ast.expr) -> bool:
    """Whether the default begins with something and the body changes it in place: then it is kept from call to call."""
    changed = {
        id(node.value)
        for node in ast.walk(function)
        if (isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Attribute) and node.attr in CHANGES)
    }
    is_empty = isinstance(default, ast.Call) or not any(isinstance(node, ast.Constant) for node in ast.walk(default))
    return not is_empty and any(
        id(node) in changed for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == argument.arg
    )


def _does_nothing(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Pass)


def _is_self_contained(default: ast.expr, bound: set[str]) -> bool:
    """Whether the value is the same wherever and whenever it is made."""
    if isinstance(default, ast.Call):
        name = default.func.id if isinstance(default.func, ast.Name) else ""
        return name in CONTAINERS and name not in bound and not default.args and not default.keywords
    allowed = (ast.List, ast.Dict, ast.Set, ast.Tuple, ast.Constant, ast.UnaryOp, ast.expr_context, ast.unaryop)
    return isinstance(default, ast.List | ast.Dict | ast.Set) and all(
        isinstance(node, allowed) for node in ast.walk(default)
    )


def _optional(model: dict[str, Any], annotation: ast.expr | None) -> list[tuple[int, int, int, int, str]] | None:
    """The edits that let an annotation take None; None where that is not certain to be valid."""
    if annotation is None:
        return []
    future = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in model["tree"].body
    )
    base = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    if isinstance(annotation, ast.Constant) or not (future or name in ANNOTATIONS):
        return None
    line, column = annotation.end_lineno or 0, annotation.end_col_offset or 0
    return [(line, column, line, column, " | None")]
