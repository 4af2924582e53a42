"""Describe a function's parameters, results and exceptions from its code."""

import ast
from typing import Any

from sandgraph import tools

YIELDS = (ast.Yield, ast.YieldFrom)
TRUTHS = (True, False)
TRUTH = (ast.Compare, ast.BoolOp)


def review_function_sections(record: dict[str, Any]) -> dict[str, list[str]]:
    """The sections `Args`, `Returns` or `Yields`, and `Raises` of a docstring, each with its lines; only those needed.

    Args:
        record: A function's record from review_model.
    """
    sections = {"Args": _arguments(record)}
    values = [node.value for node in record["own"] if isinstance(node, ast.Return) and node.value is not None]
    if any(isinstance(node, YIELDS) for node in record["own"]):
        sections["Yields"] = ["One item after the other."]
    elif any(not (isinstance(value, ast.Constant) and value.value is None) for value in values):
        sections["Returns"] = [_result(record["node"], values)]
    sections["Raises"] = _exceptions(record)
    return {title: lines for title, lines in sections.items() if lines}


def _arguments(record: dict[str, Any]) -> list[str]:
    arguments = record["node"].args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    named = list(zip(positional, defaults + arguments.defaults, strict=True))
    named += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    lines = [
        f"{argument.arg}: {tools.invoke('review_describe_parameter', record, argument)}{_default(default)}."
        for position, (argument, default) in enumerate(named)
        if position or argument.arg not in {"self", "cls"}
    ]
    if arguments.vararg:
        lines.append(f"*{arguments.vararg.arg}: Further positional arguments.")
    if arguments.kwarg:
        lines.append(f"**{arguments.kwarg.arg}: Further keyword arguments.")
    return lines


def _default(default: ast.expr | None) -> str:
    text = tools.invoke("review_quote_code", default) if default is not None else ""
    return f", {text} by default" if text else ""


def _result(function: ast.FunctionDef | ast.AsyncFunctionDef, values: list[ast.expr]) -> str:
    if function.returns is not None:
        quoted = tools.invoke("review_quote_code", function.returns)
        if quoted:
            return f"{quoted}."
    constants = [value.value for value in values if isinstance(value, ast.Constant)]
    if all(isinstance(value, TRUTH) or (isinstance(value, ast.Constant) and value.value in TRUTHS) for value in values):
        return "True or False."
    names = {value.id.replace("_", " ") for value in values if isinstance(value, ast.Name) and not value.id.isupper()}
    text = f"The {names.pop()}" if len(names) == 1 else "The result"
    return f"{text}, or None." if None in constants else f"{text}."


def _exceptions(record: dict[str, Any]) -> list[str]:
    found: dict[str, str] = {}
    conditions = {}
    for node in record["own"]:
        if isinstance(node, ast.If):
            conditions.update(dict.fromkeys(node.body, node.test))
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if not isinstance(raised, ast.Name) or not raised.id[0].isupper():
            continue
        condition = conditions.get(node)
        quoted = tools.invoke("review_quote_code", condition) if condition is not None else ""
        found.setdefault(raised.id, f"When {quoted}." if quoted else "When the work cannot be done.")
    return [f"{name}: {text}" for name, text in found.items()]
