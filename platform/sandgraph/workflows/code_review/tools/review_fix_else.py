"""Take the else away after branches that never fall through."""

import ast
import re
from typing import Any

from sandgraph import tools

ELSE = re.compile(rb"(\s*)else[ \t]*:[ \t]*")
Edit = tuple[int, int, int, int, str]


def review_fix_else(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`elif` becomes `if`; the body of an `else` moves one level out.

    Lines inside strings keep their indent, since it belongs to the string. Left alone is a body whose lines do not all
    begin with the same indent.

    Args:
        model: From review_model.
        issues: `needless_else` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits` and `lines` (first and last that it needs).
    """
    fixes = []
    for issue in issues:
        head = issue["node"]
        edits: list[Edit] | None = []
        last = head.lineno
        for branch in tools.invoke("review_needless_branches", model, head):
            follower = branch.orelse[0]
            line: bytes = model["lines"][follower.lineno - 1]
            if line[follower.col_offset :].startswith(b"elif"):
                column = follower.col_offset
                step: list[Edit] | None = [(follower.lineno, column, follower.lineno, column + len("elif"), "if")]
            else:
                step = _dissolve(model, branch)
            edits = None if step is None or edits is None else edits + step
            last = max(last, branch.orelse[-1].end_lineno + _comments_after(model, branch))
        if edits:
            fixes.append(
                {
                    "issues": [issue],
                    "transformation": "remove_else_after_jump",
                    "line": head.lineno,
                    "description": f"no {issue['message'].replace(' after ', ' is needed after ')}",
                    "edits": edits,
                    "lines": (head.lineno, last),
                }
            )
    return fixes


def _dissolve(model: dict[str, Any], branch: ast.If) -> list[Edit] | None:
    """The edits that remove `else:` and move its body out, or None where that is not safe."""
    lines: list[bytes] = model["lines"]
    first = branch.orelse[0]
    decorators = getattr(first, "decorator_list", None)
    start = decorators[0].lineno if decorators else first.lineno
    found = None
    for number in range((branch.body[-1].end_lineno or 0) + 1, start + 1):
        match = ELSE.match(lines[number - 1])
        if match:
            found = (number, match)
            break
    if found is None:
        return None
    number, match = found
    outer = match.group(1)
    rest = lines[number - 1][match.end() :]
    if number == start:
        return [(number, len(outer), number, match.end(), "")]
    if rest.startswith(b"#"):
        removal = (number, len(outer), number, match.end(), "")
    elif rest.strip():
        return None
    else:
        removal = (number, 0, number + 1, 0, "")
    text = lines[start - 1]
    inner = text[: len(text) - len(text.lstrip())]
    last = (branch.orelse[-1].end_lineno or 0) + _comments_after(model, branch)
    dedents = _dedent(model, branch.orelse, (number + 1, last), outer, inner)
    return None if dedents is None else [removal, *dedents]


def _dedent(
    model: dict[str, Any], body: list[ast.stmt], span: tuple[int, int], outer: bytes, inner: bytes
) -> list[Edit] | None:
    if not inner.startswith(outer) or inner == outer:
        return None
    lines: list[bytes] = model["lines"]
    inside_strings: set[int] = set()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.stmt):
                before = lines[node.lineno - 1][: node.col_offset]
                if not before.strip() and not before.startswith(inner):
                    return None
            elif _is_text(node) and model["context"].get(node) != "fstring":
                inside_strings.update(range(node.lineno + 1, node.end_lineno + 1))  # type: ignore[attr-defined]
    return [
        (number, len(outer), number, len(inner), "")
        for number in range(span[0], span[1] + 1)
        if number not in inside_strings and lines[number - 1].startswith(inner) and lines[number - 1].strip()
    ]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _comments_after(model: dict[str, Any], branch: ast.If) -> int:
    """How many lines of comments follow the else's body and are indented like it."""
    lines: list[bytes] = model["lines"]
    last = branch.orelse[-1]
    text = lines[branch.orelse[0].lineno - 1]
    indent = text[: len(text) - len(text.lstrip())]
    count = 0
    end = last.end_lineno or 0
    while end + count < len(lines) and lines[end + count].startswith(indent + b"#"):
        count += 1
    return count
