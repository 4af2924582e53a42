"""Find functions that are too long, too complex, too deep or too wide."""

import ast
from typing import Any

from sandgraph import tools

MAX_LINES = 50
MAX_CYCLOMATIC = 10
MAX_COGNITIVE = 15
MAX_NESTING = 3
MAX_PARAMETERS = 5
LIMITS = (
    ("long_function", "code_lines", MAX_LINES, "has {value} lines of code, more than {limit}"),
    ("high_complexity", "cyclomatic", MAX_CYCLOMATIC, "has a cyclomatic complexity of {value}, over {limit}"),
    ("high_cognitive_complexity", "cognitive", MAX_COGNITIVE, "has a cognitive complexity of {value}, over {limit}"),
    ("deep_nesting", "nesting_depth", MAX_NESTING, "nests blocks {value} deep, more than {limit}"),
    ("too_many_parameters", "parameters", MAX_PARAMETERS, "takes {value} parameters, more than {limit}"),
)


def review_detect_size(model: dict[str, Any]) -> list[tuple[str, ast.AST, str]]:
    """Issues `long_function`, `high_complexity`, `high_cognitive_complexity`, `deep_nesting`, `too_many_parameters`.

    Args:
        model: From review_model.

    Returns:
        Issue type, node and message of each.
    """
    found = []
    for record, facts in zip(model["functions"], tools.invoke("review_measure", model), strict=True):
        for kind, measure, limit, text in LIMITS:
            if facts[measure] > limit:
                message = text.format(value=facts[measure], limit=limit)
                found.append((kind, record["node"], f"{facts['name']} {message}"))
    return found
