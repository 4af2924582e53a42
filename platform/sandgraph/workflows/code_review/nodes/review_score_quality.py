"""Score the code and decide whether another round is worth it."""
# ruff: noqa: T201 - what a node prints is its log

from sandgraph import WorkflowState, tools


def review_score_quality(state: WorkflowState) -> None:
    """Write `quality_score`, `quality_history`, `diff`, `can_improve` and `outcome`.

    The diff is from the original to the improved code, and there at the end only.

    `outcome` has a `status`: `improving` while rounds follow, and at the end `threshold_reached`,
    `no_further_improvement`, `round_limit`, `syntax_error` or `invalid_input`; and a `message` in words.
    """
    problem = state["outcome"]["problem"]
    unreadable = next((issue for issue in state["issues"] if issue["type"] == "syntax_error"), None)
    sound = problem is None and unreadable is None
    score = tools.invoke("review_score", state["issue_counts"], state["statements"]) if sound else 0.0
    counts = sum(state["issue_counts"].values())
    state["quality_score"] = score
    state["quality_history"] = [*state["quality_history"], {"round": state["round"], "score": score, "issues": counts}]
    if problem is not None:
        status, message = "invalid_input", problem
    elif unreadable is not None:
        place = f"line {unreadable['line']}, column {unreadable['column']}"
        status, message = "syntax_error", f"The code cannot be parsed: {unreadable['message']} ({place})."
    else:
        status, message = _judge(state, score)
    if sound and status != "improving":
        state["diff"] = tools.invoke("review_diff", state["code"], state["improved_code"], state["filename"])
    state["can_improve"] = status == "improving"
    state["outcome"] = {"status": status, "message": message, "problem": problem}
    print(f"round {state['round']}: quality {score}, threshold {state['quality_threshold']}: {status}")
    if status != "improving":
        print(message)


def _judge(state: WorkflowState, score: float) -> tuple[str, str]:
    threshold, rounds = state["quality_threshold"], state["round"]
    after = f"after {rounds} round{'s' if rounds != 1 else ''} of improvement"
    below = f"The quality is {score} {after}, below the threshold of {threshold}"
    if score >= threshold:
        return "threshold_reached", f"The quality is {score} {after}; the threshold is {threshold}."
    if not state["automatic_suggestions"] or not state["changed"]:
        left = ", ".join(f"{count} {kind}" for kind, count in state["issue_counts"].items())
        return "no_further_improvement", f"{below}. What is left needs a person: {left}."
    if rounds >= state["max_rounds"]:
        most = state["max_rounds"]
        return "round_limit", f"{below}, and no more than {most} round{' is' if most == 1 else 's are'} allowed."
    return "improving", f"{below}."
