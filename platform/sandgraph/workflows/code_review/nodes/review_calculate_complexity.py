"""Calculate the complexity of every function."""
# ruff: noqa: T201 - what a node prints is its log

from typing import Any

from sandgraph import WorkflowState, tools

MOST_LISTED = 500


def review_calculate_complexity(state: WorkflowState) -> None:
    """Write `complexity_results`: each function's measures, and the averages and maxima over all of them."""
    model = tools.invoke("review_model", state["improved_code"], state["filename"])
    measured: list[dict[str, Any]] = tools.invoke("review_measure", model)
    results: dict[str, Any] = {"functions": measured[:MOST_LISTED], "function_count": len(measured)}
    for measure in ("cyclomatic", "cognitive", "nesting_depth"):
        values = [facts[measure] for facts in measured]
        results[f"average_{measure}"] = round(sum(values) / len(values), 2) if values else 0.0
        results[f"max_{measure}"] = max(values, default=0)
    state["complexity_results"] = results
    if measured:
        hardest = max(measured, key=lambda facts: (facts["cognitive"], facts["cyclomatic"]))
        print(
            f"cyclomatic {results['average_cyclomatic']} on average, {results['max_cyclomatic']} at most; "
            f"hardest to follow is {hardest['qualname']} (cognitive {hardest['cognitive']})"
        )
    else:
        print("no functions to measure")
