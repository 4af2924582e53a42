"""Plan the fixes of a module's issues."""

from typing import Any

from sandgraph import tools


def review_plan(analysis: dict[str, Any], priority: str | None = None) -> list[dict[str, Any]]:
    """Every fix that the fixers of review_rules find safe, the most important issue types first.

    Args:
        analysis: From review_analyse.
        priority: Only issues of this severity, or None for all.

    Returns:
        Fixes, each with the `issues` it resolves, `transformation`, `line`, `description`, `edits` (see review_edit)
        and perhaps `lines` (a range it needs for itself) and `removes` (names that leave the module).
    """
    by_fixer: dict[str, list[dict[str, Any]]] = {}
    for kind, rule in tools.invoke("review_rules").items():
        if rule.fixer is None or priority not in (None, rule.severity):
            continue
        matching = [issue for issue in analysis["issues"] if issue["type"] == kind]
        if matching:
            by_fixer.setdefault(rule.fixer, []).extend(matching)
    fixes: list[dict[str, Any]] = []
    for fixer, issues in by_fixer.items():
        fixes += tools.invoke(fixer, analysis["model"], issues)
    return fixes
