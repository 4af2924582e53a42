"""Give magic numbers names."""

import ast
import builtins
import keyword
import re
from collections import Counter
from typing import Any

from sandgraph import tools

LITERAL = re.compile(rb"[0-9.][0-9a-zA-Z_.]*(?:(?<=[eE])[+-][0-9_]+)?")
Use = tuple[str, str, type, str]
IDENTIFIER = re.compile(rb"[\w\x80-\xff]")


def review_fix_numbers(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Numbers become constants of the module, defined after its imports; like uses of one number share a constant.

    The names are new to the module, so they hide nothing, and begin with an underscore where `__all__` says what is
    public. Left alone are modules that import `*` or look at their own
    variables, where a new name could be noticed.

    Args:
        model: From review_model.
        issues: `magic_number` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    place = tools.invoke("review_module_start", model, after_imports=True)
    taken = tools.invoke("review_bound_names", model)
    if place is None or "*" in taken or tools.invoke("review_is_dynamic", model["tree"]):
        return []
    taken |= {node.id for node in model["nodes"] if isinstance(node, ast.Name)} | set(dir(builtins))
    groups: dict[Use, list[dict[str, Any]]] = {}
    for issue in issues:
        node = issue["node"]
        if node.lineno >= place and _literal(model, node) is not None:
            groups.setdefault(_use(model, issue, groups), []).append(issue)
    fixes = []
    last: Counter[str] = Counter()
    mark = "_" if "__all__" in taken else ""
    for (label, role, _, _), members in groups.items():
        name = _unique(mark, f"{label}_{role}".strip("_"), members[0]["function"] or "", taken, last)
        fixes.append(_fix(model, place, name, members))
    _space(model, place, fixes)
    return fixes


def _literal(model: dict[str, Any], node: ast.Constant) -> str | None:
    """The number as it is written, or None where a name in its place would run into its neighbour."""
    line: bytes = model["lines"][node.lineno - 1]
    text = line[node.col_offset : node.end_col_offset]
    before, after = line[: node.col_offset][-1:], line[node.end_col_offset or 0 :][:1]
    if not LITERAL.fullmatch(text) or IDENTIFIER.match(before) or IDENTIFIER.match(after):
        return None
    return text.decode()


def _use(model: dict[str, Any], issue: dict[str, Any], known: dict[Use, list[dict[str, Any]]]) -> Use:
    node = issue["node"]
    label, role = tools.invoke("review_name_number", model, node)
    limit = (label, "THRESHOLD", type(node.value), repr(node.value))
    # What is compared with a threshold is often measured from it too: x > 20 … x - 20.
    if role == "OFFSET" and any(member["function"] == issue["function"] for member in known.get(limit, ())):
        return limit
    return label, role, type(node.value), repr(node.value)


def _unique(mark: str, proposal: str, function: str, taken: set[str], last: Counter[str]) -> str:
    """The proposal, made unlike all other names: by its function's name, then by a number."""
    base = proposal if not proposal[:1].isdigit() else f"VALUE_{proposal}"
    local = re.sub(r"[^A-Z0-9]+", "_", function.rpartition(".")[2].upper()).strip("_")
    longer = mark + (f"{local}_{base}" if re.match("[A-Z]", local) and not base.startswith(local) else base)
    name = longer if mark + base in taken else mark + base
    while name in taken or keyword.iskeyword(name):
        last[longer] += 1
        name = f"{longer}_{last[longer] + 1}"
    taken.add(name)
    return name


def _fix(model: dict[str, Any], place: int, name: str, members: list[dict[str, Any]]) -> dict[str, Any]:
    literal = _literal(model, members[0]["node"])
    uses = [
        (node.lineno, node.col_offset, node.lineno, node.end_col_offset, name)
        for node in (issue["node"] for issue in members)
    ]
    count = f" ({len(uses)} uses)" if len(uses) > 1 else ""
    return {
        "issues": members,
        "transformation": "name_constant",
        "line": members[0]["line"],
        "description": f"name {literal} {name}{count}",
        "edits": [(place, 0, place, 0, f"{name} = {literal}{model['newline']}"), *uses],
    }


def _space(model: dict[str, Any], place: int, fixes: list[dict[str, Any]]) -> None:
    """Blank lines around the new block, where there are none."""
    lines, newline = model["lines"], model["newline"]
    if not fixes:
        return
    if place > 1 and lines[place - 2].strip():
        _wrap(fixes[0], newline, "")
    if place <= len(lines) and lines[place - 1].strip():
        _wrap(fixes[-1], "", newline * 2)


def _wrap(fix: dict[str, Any], before: str, after: str) -> None:
    line, column, end_line, end_column, text = fix["edits"][0]
    fix["edits"][0] = (line, column, end_line, end_column, before + text + after)
