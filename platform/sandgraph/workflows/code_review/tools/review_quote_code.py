"""Show a short expression as text that is safe inside a docstring."""

import ast

LONGEST = 60


def review_quote_code(node: ast.expr) -> str:
    """The expression in backquotes, or nothing where it is long or would not survive between triple quotes."""
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        return ""
    if len(text) > LONGEST or not text.isprintable() or any(mark in text for mark in ("\\", '"""', "`", ">>>")):
        return ""
    return f"`{text}`"
