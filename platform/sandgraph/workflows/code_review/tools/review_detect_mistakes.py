"""Find constructs that are mistakes more often than not."""

import ast
from collections.abc import Iterator
from typing import Any

BROAD = {"Exception", "BaseException"}
MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter"}
Finding = tuple[str, ast.AST, str]


def review_detect_mistakes(model: dict[str, Any]) -> list[Finding]:
    """Issues of constructs, not of names.

    `bare_except`, `swallowed_exception`, `mutable_default`, `assert_on_tuple`, `duplicate_key`, `dangerous_call`.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    found: list[Finding] = []
    for node in model["nodes"]:
        if isinstance(node, ast.ExceptHandler):
            found += _handler(node)
        elif isinstance(node, ast.arguments):
            found += _defaults(node)
        elif isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
            found.append(("assert_on_tuple", node, "the assertion is on a tuple and can never fail"))
        elif isinstance(node, ast.Dict):
            found += _duplicates(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            found.append(("dangerous_call", node, f"{node.func.id} runs whatever text it is given"))
    return found


def _handler(node: ast.ExceptHandler) -> Iterator[Finding]:
    if node.type is None:
        yield "bare_except", node, "a bare except also catches KeyboardInterrupt and SystemExit"
    broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in BROAD)
    if broad and all(_does_nothing(statement) for statement in node.body):
        yield "swallowed_exception", node, "any exception is swallowed without a trace"


def _does_nothing(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, ast.Pass | ast.Continue)


def _defaults(arguments: ast.arguments) -> Iterator[Finding]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True))
    pairs += [(name, value) for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    for argument, default in pairs:
        if isinstance(default, MUTABLE_DISPLAYS) or (
            isinstance(default, ast.Call) and _last_name(default.func) in MUTABLE_CALLS
        ):
            yield "mutable_default", argument, f"every call shares the default of {argument.arg}"


def _last_name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _duplicates(node: ast.Dict) -> Iterator[Finding]:
    seen = set()
    for key in node.keys:
        if isinstance(key, ast.Constant):
            identity = (type(key.value), key.value)
            if identity in seen:
                yield "duplicate_key", key, f"the key {key.value!r:.60} is there twice"
            seen.add(identity)
