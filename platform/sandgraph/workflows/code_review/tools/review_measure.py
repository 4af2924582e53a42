"""Measure every function of a reviewed module."""

from typing import Any

from sandgraph import tools


def review_measure(model: dict[str, Any]) -> list[dict[str, Any]]:
    """Complexity and size of each function, in source order.

    Args:
        model: From review_model.

    Returns:
        For each function `name`, `qualname`, `line`, `cyclomatic`, `cognitive`, `nesting_depth`, `parameters` and
        `code_lines`.
    """
    measured = []
    for record in model["functions"]:
        facts = tools.invoke("review_describe_function", model, record)
        measured.append(
            {
                "name": facts["name"],
                "qualname": facts["qualname"],
                "line": facts["line"],
                "cyclomatic": tools.invoke("review_cyclomatic", record),
                "cognitive": tools.invoke("review_cognitive", record),
                "nesting_depth": tools.invoke("review_nesting", record),
                "parameters": facts["parameters"],
                "code_lines": facts["code_lines"],
            }
        )
    return measured
