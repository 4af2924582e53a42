"""Extract the functions of the code under review."""
# ruff: noqa: T201 - what a node prints is its log

import math
from typing import Any

from sandgraph import WorkflowState, tools

DEFAULT_THRESHOLD = 8.0
BEST_SCORE = 10
DEFAULT_ROUNDS = 5
MOST_ROUNDS = 20
MOST_BYTES = 200_000
MOST_LISTED = 500


def review_extract_functions(state: WorkflowState) -> None:
    """List the functions of the current code; in the first round, check the input and set every default.

    Reads `code`, `filename`, `quality_threshold`, `max_rounds`; writes those with their defaults, `functions`,
    `improved_code` and the keys that later rounds add to. Of input that is refused nothing comes into `improved_code`,
    so that no later node has anything to do.
    """
    outcome = state.get("outcome")
    if not isinstance(outcome, dict) or outcome.get("status") != "improving":
        _begin(state)
    model = tools.invoke("review_model", state["improved_code"], state["filename"])
    functions = [tools.invoke("review_describe_function", model, record) for record in model["functions"]]
    state["functions"] = functions[:MOST_LISTED]
    problem = state["outcome"]["problem"]
    if problem is not None:
        print(f"cannot be reviewed: {problem}")
    elif model["error"] is None:
        count, lines = len(functions), len(model["lines"])
        print(
            f"round {state['round']}: {count} function{'s' if count != 1 else ''} "
            f"in {lines} line{'s' if lines != 1 else ''}"
        )
    else:
        print(f"cannot be reviewed: {model['error']['message']}, line {model['error']['line']}")


def _begin(state: WorkflowState) -> None:
    code, threshold = state.get("code"), state.get("quality_threshold")
    rounds, filename = state.get("max_rounds"), state.get("filename")
    refused = _threshold_problem(threshold)
    problem = _code_problem(code) or refused
    state.update(
        {
            "quality_threshold": DEFAULT_THRESHOLD if refused or threshold is None else threshold,
            "max_rounds": int(min(max(rounds, 0), MOST_ROUNDS)) if _is_number(rounds) else DEFAULT_ROUNDS,
            "filename": filename if isinstance(filename, str) else "",
            "improved_code": "" if problem else code,
            "improvements_applied": [],
            "quality_history": [],
            "quality_score": 0.0,
            "diff": "",
            "round": 0,
            "changed": True,
            "can_improve": False,
            "outcome": {"status": "improving", "message": problem or "the review is under way", "problem": problem},
        }
    )


def _code_problem(code: Any) -> str | None:  # noqa: ANN401 - a submitted value may be anything
    if code is None:
        return "the initial state has no code"
    if not isinstance(code, str):
        return f"code must be a string, not {type(code).__name__}"
    if len(code.encode("utf-8", "replace")) > MOST_BYTES:
        return f"code must have {MOST_BYTES} bytes or fewer"
    return None


def _threshold_problem(threshold: Any) -> str | None:  # noqa: ANN401 - a submitted value may be anything
    if threshold is None or (_is_number(threshold) and 0 <= threshold <= BEST_SCORE):
        return None
    given = "" if type(threshold) in (int, float) else f", not {type(threshold).__name__}"
    return f"quality_threshold must be a number from 0 to {BEST_SCORE}{given}"


def _is_number(value: Any) -> bool:  # noqa: ANN401 - a submitted value may be anything
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
