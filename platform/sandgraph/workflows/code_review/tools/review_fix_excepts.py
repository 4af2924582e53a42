"""Name the exceptions of a bare except."""

import ast
from typing import Any

from sandgraph import tools


def review_fix_excepts(model: dict[str, Any], issues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`except:` becomes `except Exception:`, or `except BaseException:` where the handler raises again.

    A handler that passes the exception on is for cleaning up, and must keep doing that for KeyboardInterrupt. The
    others stop catching KeyboardInterrupt and SystemExit, which is the point.

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
        name = "BaseException" if _raises_again(handler) else "Exception"
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


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
