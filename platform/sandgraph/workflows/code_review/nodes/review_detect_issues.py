"""Detect the issues of the code under review."""
# ruff: noqa: T201 - what a node prints is its log

from typing import Any

from sandgraph import WorkflowState, tools

MOST_LISTED = 500
SEVERITIES = ("high", "medium", "low")


def review_detect_issues(state: WorkflowState) -> None:
    """Write `issues` (the severest first), `issue_counts` by type, and `statements`, the size they relate to.

    At most 500 issues are listed; the counts are of all.
    """
    analysis = tools.invoke("review_analyse", state["improved_code"], state["filename"])
    issues: list[dict[str, Any]] = [
        {key: value for key, value in issue.items() if key != "node"} for issue in analysis["issues"]
    ]
    problem = state["outcome"]["problem"]
    if problem is not None:
        place = {"line": 1, "column": 1, "function": None}
        issues = [{"type": "invalid_input", "severity": "high", **place, "message": problem}]
    issues.sort(key=lambda issue: (SEVERITIES.index(issue["severity"]), issue["line"], issue["column"]))
    state["issues"] = issues[:MOST_LISTED]
    state["issue_counts"] = analysis["counts"] if problem is None else {"invalid_input": 1}
    state["statements"] = analysis["statements"]
    by_severity = ", ".join(
        f"{sum(issue['severity'] == severity for issue in issues)} {severity}" for severity in SEVERITIES
    )
    print(f"{len(issues)} issue{'s' if len(issues) != 1 else ''}: {by_severity}")
    for issue in issues[:5]:
        print(f"  line {issue['line']}: {issue['type']}: {issue['message']}")
