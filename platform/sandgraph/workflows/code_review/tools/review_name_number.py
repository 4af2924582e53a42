"""Propose a name for a number from what is done with it."""

import ast
import re
from http import HTTPStatus
from typing import Any

LONGEST = 40
KNOWN: dict[float, str] = {
    3.14: "PI",
    3.1416: "PI",
    3.14159: "PI",
    2.71828: "EULER_NUMBER",
    3600: "SECONDS_PER_HOUR",
    86400: "SECONDS_PER_DAY",
}
OF_CALL = {"sleep": "SECONDS", "range": "LIMIT", "round": "DIGITS", "exit": "CODE"}
OF_OPERATOR: dict[type[ast.operator], str] = {
    ast.Add: "OFFSET",
    ast.Sub: "OFFSET",
    ast.Div: "DIVISOR",
    ast.FloorDiv: "DIVISOR",
    ast.Mod: "MODULUS",
    ast.Pow: "EXPONENT",
    ast.LShift: "SHIFT",
    ast.RShift: "SHIFT",
    ast.BitAnd: "MASK",
    ast.BitOr: "MASK",
    ast.BitXor: "MASK",
}


def review_name_number(model: dict[str, Any], node: ast.Constant) -> tuple[str, str]:
    """What the number belongs to and what it does there, as parts of a constant's name: `("TOTAL", "THRESHOLD")`.

    Args:
        model: From review_model.
        node: A number of its tree.
    """
    if isinstance(node.value, int | float) and node.value in KNOWN:
        return "", KNOWN[node.value]
    whole: ast.expr = node
    holder = model["parents"][whole]
    while isinstance(holder, ast.UnaryOp):
        whole, holder = holder, model["parents"][holder]
    record = model["owners"].get(node)
    here = record["node"].name if record else "module"
    label, role = here, "VALUE"
    if isinstance(holder, ast.Compare):
        label, role = _compared(holder, node, here)
    elif isinstance(holder, ast.BinOp):
        label, role = _calculated(model, holder, whole, here)
    elif isinstance(holder, ast.AugAssign):
        label, role = _label(holder.target) or here, _operator(holder.op, node.value)
    elif isinstance(holder, ast.Call):
        label, role = _passed(holder, whole, here)
    elif isinstance(holder, ast.Return):
        label, role = re.sub(r"^(get|calculate|compute|find)_", "", here), "RESULT"
    return _upper(label), role


def _compared(holder: ast.Compare, node: ast.Constant, here: str) -> tuple[str, str]:
    operands = [holder.left, *holder.comparators]
    label = next(filter(None, map(_label, operands)), here)
    if not isinstance(holder.ops[0], ast.Eq | ast.NotEq):
        return label, "THRESHOLD"
    if re.search("status|code", label.lower()) and isinstance(node.value, int):
        try:
            return "HTTP", HTTPStatus(node.value).name
        except ValueError:
            pass
    return label, _upper(str(node.value))


def _calculated(model: dict[str, Any], holder: ast.BinOp, whole: ast.expr, here: str) -> tuple[str, str]:
    role = _operator(holder.op, whole.value if isinstance(whole, ast.Constant) else None)
    other = _label(holder.left if whole is holder.right else holder.right)
    statement: ast.AST = model["parents"][holder]
    is_whole_value = isinstance(statement, ast.stmt)
    while isinstance(statement, ast.BinOp):
        statement = model["parents"][statement]
    target = ""
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        target = _label(statement.targets[0] if isinstance(statement, ast.Assign) else statement.target)
    return (target or other or here) if is_whole_value else (other or target or here), role


def _passed(call: ast.Call, whole: ast.expr, here: str) -> tuple[str, str]:
    called = _label(call.func) or here
    if called in {"min", "max"}:
        others = (_label(argument) for argument in call.args if argument is not whole)
        return next(filter(None, others), called), "LIMIT"
    return called, OF_CALL.get(called, "ARGUMENT")


def _operator(operator: ast.operator, value: object) -> str:
    if isinstance(operator, ast.Mult):
        return "RATE" if isinstance(value, float) and 0 < value < 1 else "FACTOR"
    return OF_OPERATOR.get(type(operator), "VALUE")


def _label(node: ast.expr) -> str:
    """What an expression is called in the code, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        key = node.slice
        return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else _label(node.value)
    if isinstance(node, ast.Call):
        called = _label(node.func)
        return f"{_label(node.args[0])}_count" if called == "len" and node.args else called
    return ""


def _upper(label: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", label)
    return re.sub(r"[^A-Z0-9]+", "_", words[:LONGEST].upper()).strip("_")
