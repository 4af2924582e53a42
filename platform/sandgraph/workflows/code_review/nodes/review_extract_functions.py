"""Extract the functions of the code under review."""
# ruff: noqa: T201 - what a node prints is its log

import math
from typing import Any

from sandgraph import WorkflowState, tools

DEFAULT_THRESHOLD = 8.0
DEFAULT_ROUNDS = 5
MOST_ROUNDS = 20
MOST_BYTES = 200_000
MOST_LISTED = 500


def review_extract_functions(state: WorkflowState) -> None:
    """List the functions of the current code; in the first round, check the input and set every default.

    Reads `code`, `filename`, `quality_threshold`, `max_rounds`; writes those with their defaults, `functions`,
    `improved_code` and the keys that later rounds add to.
    """
    outcome = state.get("outcome")
    if not isinstance(outcome, dict) or outcome.get("status") != "improving":
        _begin(state)
    model = tools.invoke("review_model", state["improved_code"], state["filename"])
    functions = [tools.invoke("review_describe_function", model, record) for record in model["functions"]]
    state["functions"] = functions[:MOST_LISTED]
    if model["error"] is None:
        print(f"round {state['round']}: {len(functions)} functions in {len(model['lines'])} lines")
    else:
        print(f"cannot be reviewed: {model['error']['message']}, line {model['error']['line']}")


def _begin(state: WorkflowState) -> None:
    code = state.get("code")
    problem = None
    if code is None:
        problem = "the initial state has no code"
    elif not isinstance(code, str):
        problem = f"code must be a string, not {type(code).__name__}"
    elif len(code.encode("utf-8", "replace")) > MOST_BYTES:
        problem = f"code must have {MOST_BYTES} bytes or fewer"
    threshold, rounds, filename = state.get("quality_threshold"), state.get("max_rounds"), state.get("filename")
    state.update(
        {
            "quality_threshold": threshold if _is_number(threshold) else DEFAULT_THRESHOLD,
            "max_rounds": int(min(max(rounds, 0), MOST_ROUNDS)) if _is_number(rounds) else DEFAULT_ROUNDS,
            "filename": filename if isinstance(filename, str) else "",
            "improved_code": code if isinstance(code, str) else "",
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


def _is_number(value: Any) -> bool:  # noqa: ANN401 - a submitted value may be anything
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
