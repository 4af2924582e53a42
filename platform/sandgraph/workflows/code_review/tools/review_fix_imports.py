"""Remove imports that nothing uses."""

import ast
import sys
from typing import Any

from sandgraph import tools

# Importing these changes something.
EFFECTIVE = {"antigravity", "readline", "rlcompleter", "site", "this", "encodings", "idlelib", "__future__"}
Edit = tuple[int, int, int, int, str]


def review_fix_imports(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Unused names leave their import statement, which goes when none is left.

    Only imports of the standard library: importing another module may register or patch something.

    Args:
        model: From review_model.
        issues: `unused_import` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits` and `removes` (the names).
    """
    if tools.invoke("review_is_dynamic", model["tree"]):
        return []
    by_statement: dict[ast.Import | ast.ImportFrom, list[dict[str, Any]]] = {}
    for issue in issues:
        statement = model["parents"][issue["node"]]
        if _is_harmless(statement, issue["node"]):
            by_statement.setdefault(statement, []).append(issue)
    emptied = [statement for statement, unused in by_statement.items() if len(unused) == len(statement.names)]
    deletions = tools.invoke("review_delete_statements", model, emptied)
    fixes = []
    for statement, unused in by_statement.items():
        aliases = [issue["node"] for issue in unused]
        names = [alias.asname or alias.name.split(".")[0] for alias in aliases]
        if statement in emptied:
            edits = [deletions[statement]] if statement in deletions else []
        else:
            edits = _shorten(model, statement, aliases)
        if edits:
            fixes.append(
                {
                    "issues": unused,
                    "transformation": "remove_unused_import",
                    "line": statement.lineno,
                    "description": f"remove the import of {', '.join(names)}",
                    "edits": edits,
                    "removes": names,
                }
            )
    return fixes


def _is_harmless(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> bool:
    if isinstance(statement, ast.ImportFrom):
        root = (statement.module or "").split(".")[0] if not statement.level else ""
    else:
        # The import of a submodule under another name also makes it an attribute of its package.
        root = alias.name
    return root in sys.stdlib_module_names - EFFECTIVE


def _shorten(model: dict[str, Any], statement: ast.Import | ast.ImportFrom, unused: list[ast.alias]) -> list[Edit]:
    """The edits that take some names out of a statement."""
    if statement.lineno != statement.end_lineno:
        lines = [_line_of_its_own(model, alias) for alias in unused]
        return [edit for edit in lines if edit is not None] if None not in lines else []
    line: bytes = model["lines"][statement.lineno - 1]
    head = line[statement.col_offset : statement.names[0].col_offset]
    last = statement.names[-1].end_col_offset or 0
    tail = line[last : statement.end_col_offset]
    kept = [line[a.col_offset : a.end_col_offset] for a in statement.names if a not in unused]
    text = (head + b", ".join(kept) + tail).decode("utf-8")
    return [(statement.lineno, statement.col_offset, statement.lineno, statement.end_col_offset or 0, text)]


def _line_of_its_own(model: dict[str, Any], alias: ast.alias) -> Edit | None:
    line: bytes = model["lines"][alias.lineno - 1]
    continued = model["lines"][alias.lineno - 2].rstrip().endswith(b"\\")
    after = line[alias.end_col_offset or 0 :].strip()
    followed = after in {b"", b","} or after.startswith((b"#", b",#", b", #", b",  #"))
    if continued or line[: alias.col_offset].strip() or not followed or alias.lineno != alias.end_lineno:
        return None
    return alias.lineno, 0, alias.lineno + 1, 0, ""
