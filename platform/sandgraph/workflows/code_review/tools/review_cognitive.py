"""Count the cognitive complexity of a function (SonarSource)."""

import ast
from collections.abc import Iterator
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NESTING = (ast.IfExp, ast.ExceptHandler, ast.Match)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
Weighted = tuple[ast.AST, int]


def review_cognitive(record: dict[str, Any]) -> int:
    """How hard the function is to follow.

    After G. A. Campbell, "Cognitive Complexity: a new way of measuring understandability" (SonarSource, 2018): one and
    one more for each level of nesting for `if`, conditional expression, `match`, loop and `except`; one without nesting
    for `elif`, `else` and a loop's `else`; one for each run of like boolean operators; one for a function that calls
    itself. The bodies of these, and nested functions and lambdas, which count towards the function they stand in, are
    one level deeper, except in the decorator idiom: a function of nothing but an inner one and its return. `try`,
    `with` and comprehensions are free.

    Args:
        record: A function's record from review_model.
    """
    function = record["node"]
    total = int(_calls_itself(record))
    flat = _is_decorator_idiom(function)
    stack: list[Weighted] = [(statement, 0) for statement in function.body]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, ast.If):
            cost, children = _branches(node, depth)
        elif isinstance(node, LOOPS):
            cost = 1 + depth + bool(node.orelse)
            children = _deeper(node, ("body", "orelse"), depth)
        elif isinstance(node, NESTING):
            cost = 1 + depth
            children = _deeper(node, ("body", "orelse", "cases"), depth)
        elif isinstance(node, ast.BoolOp):
            cost = _operator_runs(node)
            children = [(operand, depth) for operand in _operands(node)]
        elif isinstance(node, (*FUNCTIONS, ast.Lambda)) and not flat:
            cost = 0
            children = _deeper(node, ("body",), depth)
        else:
            cost = 0
            children = [(child, depth) for child in ast.iter_child_nodes(node)]
        total += cost
        stack += children
    return total


def _branches(head: ast.If, depth: int) -> tuple[int, list[Weighted]]:
    """An if with its whole chain of elif and else."""
    cost = 1 + depth
    children: list[Weighted] = []
    branch = head
    while True:
        children.append((branch.test, depth))
        children += [(statement, depth + 1) for statement in branch.body]
        rest = branch.orelse
        if not rest:
            return cost, children
        cost += 1
        follower = rest[0]
        # An elif stands in the column of its if; an if inside an else stands deeper.
        if isinstance(follower, ast.If) and len(rest) == 1 and follower.col_offset == head.col_offset:
            branch = follower
            continue
        return cost, children + [(statement, depth + 1) for statement in rest]


def _deeper(node: ast.AST, fields: tuple[str, ...], depth: int) -> list[Weighted]:
    children: list[Weighted] = []
    for field, value in ast.iter_fields(node):
        level = depth + 1 if field in fields else depth
        children += [(child, level) for child in (value if isinstance(value, list) else [value]) if _is_node(child)]
    return children


def _is_node(value: object) -> bool:
    return isinstance(value, ast.AST)


def _operators(node: ast.BoolOp) -> Iterator[type[ast.boolop]]:
    for position, operand in enumerate(node.values):
        if position:
            yield type(node.op)
        if isinstance(operand, ast.BoolOp):
            yield from _operators(operand)


def _operator_runs(node: ast.BoolOp) -> int:
    runs = 0
    previous: type[ast.boolop] | None = None
    for operator in _operators(node):
        runs += operator is not previous
        previous = operator
    return runs


def _operands(node: ast.BoolOp) -> Iterator[ast.expr]:
    for operand in node.values:
        if isinstance(operand, ast.BoolOp):
            yield from _operands(operand)
        else:
            yield operand


def _calls_itself(record: dict[str, Any]) -> bool:
    name = record["node"].name
    for node in record["own"]:
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if record["class"] is None and isinstance(target, ast.Name) and target.id == name:
            return True
        if (
            record["class"] is not None
            and isinstance(target, ast.Attribute)
            and target.attr == name
            and isinstance(target.value, ast.Name)
            and target.value.id in {"self", "cls"}
        ):
            return True
    return False


def _is_decorator_idiom(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    body = function.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        body = body[1:]
    return [type(statement) in FUNCTIONS for statement in body] == [True, False] and isinstance(body[1], ast.Return)
