"""Apply the most important improvements to the code."""
# ruff: noqa: T201 - what a node prints is its log

from sandgraph import WorkflowState, tools


def review_apply_improvements(state: WorkflowState) -> None:
    """Change `improved_code` by one round; add what was done to `improvements_applied` and one to `round`.

    `changed` says whether anything could be done.
    """
    result = tools.invoke("review_improve", state["improved_code"], state["filename"])
    number = state["round"] + 1
    applied = [{"round": number, **improvement} for improvement in result["applied"]]
    state.update(
        {
            "improved_code": result["code"],
            "improvements_applied": [*state["improvements_applied"], *applied],
            "round": number,
            "changed": bool(applied),
        }
    )
    count = f"{len(applied)} improvement{'s' if len(applied) != 1 else ''}"
    print(f"round {number}: {count} of {result['priority']} priority" if applied else f"round {number}: {count}")
    for improvement in applied:
        print(f"  line {improvement['line']}: {improvement['description']}")
