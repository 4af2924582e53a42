"""Suggest what to improve, the most important first."""
# ruff: noqa: T201 - what a node prints is its log

from typing import Any

from sandgraph import WorkflowState, tools

MOST_LISTED = 500
PRIORITIES = ("high", "medium", "low")


def review_suggest_improvements(state: WorkflowState) -> None:
    """Write `suggestions` and `automatic_suggestions`, the number of those that can be carried out right away.

    A suggestion has `priority`, `action`, `issue` (its type), `line`, `function`, `message` and `automatic`. At most
    500 are listed.
    """
    analysis = tools.invoke("review_analyse", state["improved_code"], state["filename"])
    rules = tools.invoke("review_rules")
    suggestions: list[dict[str, Any]] = []
    if analysis["model"]["error"] is None:
        automatic = {id(issue) for fix in tools.invoke("review_plan", analysis) for issue in fix["issues"]}
        suggestions = [
            {
                "priority": issue["severity"],
                "action": rules[issue["type"]].advice,
                "issue": issue["type"],
                "line": issue["line"],
                "function": issue["function"],
                "message": issue["message"],
                "automatic": id(issue) in automatic,
            }
            for issue in analysis["issues"]
        ]
    order = list(rules)
    suggestions.sort(key=lambda item: (PRIORITIES.index(item["priority"]), order.index(item["issue"]), item["line"]))
    state["suggestions"] = suggestions[:MOST_LISTED]
    state["automatic_suggestions"] = sum(item["automatic"] for item in suggestions)
    count = f"{len(suggestions)} suggestion{'s' if len(suggestions) != 1 else ''}"
    print(f"{count}, {state['automatic_suggestions']} of them can be carried out right away")
