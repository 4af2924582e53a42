"""Remove variables that nothing uses."""

import ast
from typing import Any

from sandgraph import tools

# What these return must be kept for as long as the function runs.
KEPT_ALIVE = {"open", "create_task", "ensure_future", "mkdtemp", "acquire", "lock", "ref", "finalize"}
Edit = tuple[int, int, int, int, str]


def review_fix_variables(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A value without side effects goes with its assignment; of a call or an await only the assignment goes.

    Left alone: other expressions, which may do something nobody can see (an attribute, an operator), and the results of
    calls that look like constructors, since their object may have to live on.

    Args:
        model: From review_model.
        issues: `unused_variable` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    pure = [issue for issue in issues if _is_pure(issue["node"].value) and not _may_be_a_test(model, issue["node"])]
    deletions = tools.invoke("review_delete_statements", model, [issue["node"] for issue in pure])
    fixes = []
    for issue in issues:
        statement: Any = issue["node"]
        target: Any = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        edit: Edit | None = deletions.get(statement)
        description = f"remove {target.id}, which nothing uses"
        if edit is None and _is_worth_running(statement.value):
            edit = _without_target(model, statement)
            description += ", and keep the call"
        if edit is not None:
            fixes.append(
                {
                    "issues": [issue],
                    "transformation": "remove_unused_variable",
                    "line": statement.lineno,
                    "description": description,
                    "edits": [edit],
                }
            )
    return fixes


def _is_pure(value: ast.expr) -> bool:
    if isinstance(value, ast.List | ast.Tuple):
        return all(_is_pure(element) for element in value.elts)
    if isinstance(value, ast.Dict):
        keys_are_plain = all(isinstance(key, ast.Constant) for key in value.keys)
        return keys_are_plain and all(_is_pure(element) for element in value.values)
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.operand, ast.Constant) and type(value.operand.value) in (int, float)
    return isinstance(value, ast.Constant | ast.Lambda | ast.Name)


def _may_be_a_test(model: dict[str, Any], statement: ast.stmt) -> bool:
    """Whether the code may want to find out that a name is missing: it is read in a try."""
    reads = any(isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) for node in ast.walk(statement))
    node: ast.AST = statement
    while reads and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node = model["parents"][node]
        if isinstance(node, ast.Try | ast.TryStar):
            return True
    return False


def _is_worth_running(value: ast.expr) -> bool:
    if isinstance(value, ast.Await):
        value = value.value
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return bool(name) and name not in KEPT_ALIVE and not name.lstrip("_")[:1].isupper()


def _without_target(model: dict[str, Any], statement: ast.Assign | ast.AnnAssign) -> Edit | None:
    """The edit that cuts everything up to and with the equals sign."""
    value = statement.value
    if value is None or statement.lineno != value.lineno:
        return None
    last = statement.targets[0] if isinstance(statement, ast.Assign) else statement.annotation
    line: bytes = model["lines"][statement.lineno - 1]
    begin = last.end_col_offset or 0
    between = line[begin : value.col_offset]
    if last.end_lineno != statement.lineno or between.count(b"=") != 1:
        return None
    rest = line[begin + between.index(b"=") + 1 :]
    end = begin + between.index(b"=") + 1 + len(rest) - len(rest.lstrip())
    return statement.lineno, statement.col_offset, statement.lineno, end, ""
