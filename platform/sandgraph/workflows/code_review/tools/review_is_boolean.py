"""Tell whether an expression can only be True or False."""

import ast
from typing import Any

from sandgraph import tools

PREDICATES = {"isinstance", "issubclass", "callable", "hasattr", "bool", "any", "all"}
TEXT_PREDICATES = {"startswith", "endswith", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower"}


def review_is_boolean(model: dict[str, Any], node: ast.expr) -> bool:
    """Whether `node` is a truth value for certain.

    That is: `not …`, `… is …` and `… in …`, calls of predicates among builtins, and methods of string literals; a local
    variable that is only ever set to True or False; a parameter annotated `bool` that is never set.

    Args:
        model: From review_model.
        node: An expression of its tree.
    """
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Compare):
        return all(isinstance(operator, ast.Is | ast.IsNot | ast.In | ast.NotIn) for operator in node.ops)
    if isinstance(node, ast.Call):
        return _is_predicate(model, node.func)
    if isinstance(node, ast.Name) and node in model["owners"]:
        return _is_flag(model, node)
    return False


def _is_predicate(model: dict[str, Any], function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in TEXT_PREDICATES and isinstance(function.value, ast.Constant | ast.JoinedStr)
    if not isinstance(function, ast.Name) or function.id not in PREDICATES:
        return False
    return not {function.id, "*"} & tools.invoke("review_bound_names", model)


def _binds(node: ast.AST, name: str) -> bool:
    """Whether this node may give the name another value."""
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Global | ast.Nonlocal):
        return name in node.names
    if isinstance(node, ast.alias):
        return (node.asname or node.name.split(".")[0]) == name
    return name in {getattr(node, "arg", None), getattr(node, "name", None), getattr(node, "rest", None)}


def _is_flag(model: dict[str, Any], name: ast.Name) -> bool:
    """Whether all that is ever bound to a name of a function are truth values, and it is a name of that function."""
    record = model["owners"][name]
    sources = []
    for node in ast.walk(record["node"]):
        if isinstance(node, ast.keyword) or not _binds(node, name.id):
            continue
        if isinstance(node, ast.arg):
            sources.append(_is_annotated(record["node"].args, node))
            continue
        statement = model["parents"][node]
        if model["owners"].get(node) is not record or not isinstance(statement, ast.Assign):
            return False
        sources.append(_is_truth(statement.value))
    return bool(sources) and all(sources)


def _is_annotated(arguments: ast.arguments, argument: ast.arg) -> bool:
    """Whether a parameter is annotated bool, and its default, if any, is one."""
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = dict(zip(reversed(named), reversed(arguments.defaults), strict=False))
    defaults |= {name: value for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
    if argument not in [*named, *arguments.kwonlyargs]:
        return False
    default_fits = argument not in defaults or _is_truth(defaults[argument])
    return default_fits and isinstance(argument.annotation, ast.Name) and argument.annotation.id == "bool"


def _is_truth(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)
