"""Describe a parameter by what its function does with it."""

import ast
from collections.abc import Iterator
from typing import Any

from sandgraph import tools

LISTED = 4
ARITHMETIC = (ast.Mult, ast.Div, ast.FloorDiv, ast.Sub, ast.Pow)
ORDERING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
KINDS = {
    "A list": {"append", "extend", "insert", "pop", "sort", "reverse", "remove"},
    "A mapping": {"get", "items", "keys", "values", "setdefault"},
    "A text": {"strip", "split", "splitlines", "lower", "upper", "startswith", "endswith", "replace", "encode"},
}


def review_describe_parameter(record: dict[str, Any], argument: ast.arg) -> str:
    """A phrase without a full stop, from the annotation or else from the uses in the body.

    Args:
        record: A function's record from review_model.
        argument: One of its parameters.
    """
    if argument.annotation is not None:
        quoted = tools.invoke("review_quote_code", argument.annotation)
        return str(quoted) if quoted else _by_name(argument)
    name = argument.arg
    if not any(_is(node, name) for node in ast.walk(record["node"])):
        return "Not used"
    keys = [key for node in record["own"] for key in _keys(node, name)]
    if keys:
        return f"A mapping with {_listing(keys)}"
    attributes = [node.attr for node in record["own"] if isinstance(node, ast.Attribute) and _is(node.value, name)]
    if attributes:
        kind = next((kind for kind, methods in KINDS.items() if methods.issuperset(attributes)), None)
        return kind or f"An object with {_listing(attributes)}"
    phrases = (phrase for node in record["own"] for phrase in _phrases(node, name))
    choices = [choice for node in record["own"] for choice in _choices(node, name)]
    return next(phrases, f"One of {_listing(choices)} or another" if choices else _by_name(argument))


def _by_name(argument: ast.arg) -> str:
    return f"The {argument.arg.strip('_').replace('_', ' ') or argument.arg}"


def _listing(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:LISTED]) + (" …" if len(unique) > LISTED else "")


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_number(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    return isinstance(node, ast.Name) and node.id.isupper()


def _phrases(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension) and _is(node.iter, name):
        yield f"An iterable of {node.target.id}" if isinstance(node.target, ast.Name) else "An iterable"
    elif isinstance(node, ast.Call) and _is(node.func, name):
        yield "A callable"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ARITHMETIC) and name in {_id(node.left), _id(node.right)}:
        yield "A number"
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ORDERING) and _is(node.left, name):
        yield from ["A number"] * _is_number(node.comparators[0])
    elif isinstance(node, ast.If | ast.IfExp) and _is(node.test, name):
        yield "A switch"


def _id(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _keys(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.Subscript) and _is(node.value, name):
        yield from _texts(node.slice)


def _choices(node: ast.AST, name: str) -> Iterator[str]:
    """The strings that the parameter is compared with."""
    if isinstance(node, ast.Compare) and _is(node.left, name):
        right = node.comparators[0]
        for item in right.elts if isinstance(right, ast.Tuple | ast.List | ast.Set) else [right]:
            yield from _texts(item)


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        quoted = tools.invoke("review_quote_code", node)
        if quoted:
            yield quoted
