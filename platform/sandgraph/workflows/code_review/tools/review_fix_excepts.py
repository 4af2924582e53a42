"""Name the exceptions of a bare except."""

import ast
from typing import Any

from sandgraph import tools

BASE = {"BaseException", "Exception", "GeneratorExit", "KeyboardInterrupt", "SystemExit"}


def review_fix_excepts(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`except:` becomes `except Exception:`, or `except BaseException:` where everything is meant.

    Everything is meant by a handler that raises again, for it cleans up, and by one that follows a handler of Exception
    or of what is none, like KeyboardInterrupt. The others stop catching KeyboardInterrupt and SystemExit, which is the
    point.

    Args:
        model: From review_model.
        issues: `bare_except` issues of it.

    Returns:
        Fixes: `issues`, `transformation`, `line`, `description`, `edits`.
    """
    bound = tools.invoke("review_bound_names", model)
    fixes = []
    for issue in issues:
        handler = issue["node"]
        name = "BaseException" if _means_everything(model["parents"][handler], handler) else "Exception"
        if name in bound:
            continue
        line, end = handler.lineno, handler.col_offset + len("except")
        fixes.append(
            {
                "issues": [issue],
                "transformation": "name_exception",
                "line": line,
                "description": f"catch {name} instead of everything",
                "edits": [(line, end, line, end, f" {name}")],
            }
        )
    return fixes


def _means_everything(statement: ast.Try, handler: ast.ExceptHandler) -> bool:
    for other in statement.handlers:
        if other.type is not None and any(getattr(node, "id", None) in BASE for node in ast.walk(other.type)):
            return True
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
