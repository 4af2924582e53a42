"""Find comparisons that ask the wrong question."""

import ast
from collections.abc import Iterator
from typing import Any

Finding = tuple[str, ast.AST, str]
EQUALITY = (ast.Eq, ast.NotEq)
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.Tuple)


def review_detect_comparisons(model: dict[str, Any]) -> list[Finding]:
    """Issues `comparison_to_none`, `comparison_to_bool`, `type_comparison`, `literal_identity`.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    found: list[Finding] = []
    for node in model["nodes"]:
        if isinstance(node, ast.Compare):
            found += _judge(node)
    return found


def _judge(node: ast.Compare) -> Iterator[Finding]:
    operands = [node.left, *node.comparators]
    for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
        pair = (left, right)
        if isinstance(operator, EQUALITY):
            if any(_is_constant(operand, None) for operand in pair):
                yield "comparison_to_none", node, "None is compared by equality"
            elif any(_is_constant(operand, truth) for operand in pair for truth in (True, False)):
                yield "comparison_to_bool", node, "a truth value is compared with a constant"
            elif any(_is_type_call(operand) for operand in pair):
                yield "type_comparison", node, "types are compared by equality"
        elif isinstance(operator, ast.Is | ast.IsNot) and any(_is_literal(operand) for operand in pair):
            yield "literal_identity", node, "the identity of a literal is an accident of the implementation"


def _is_constant(node: ast.expr, value: bool | None) -> bool:  # noqa: FBT001 - it is the value that is looked for
    return isinstance(node, ast.Constant) and node.value is value


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float | complex | str | bytes) and not isinstance(node.value, bool)
    return isinstance(node, DISPLAYS)


def _is_type_call(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    return node.func.id == "type" and len(node.args) == 1
