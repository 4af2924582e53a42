"""Runs of the whole graph."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import pytest
from tests.unit.workflows.workbench import code, review

from sandgraph.workflows import sample_source

ROUND = ["extract_functions", "calculate_complexity", "detect_issues", "suggest_improvements", "score_quality"]
KEYS = {
    *("code", "filename", "quality_threshold", "max_rounds"),
    *(
        "functions",
        "complexity_results",
        "issues",
        "issue_counts",
        "statements",
        "suggestions",
        "automatic_suggestions",
    ),
    *("quality_score", "quality_history", "improvements_applied", "improved_code", "diff", "outcome"),
    *("round", "changed", "can_improve"),
}


@pytest.fixture(scope="module")
def sample() -> tuple[dict[str, Any], list[str]]:
    return review({"code": sample_source(), "filename": "orders.py"})


def test_the_sample_reaches_the_threshold_in_a_few_rounds(sample: tuple[dict[str, Any], list[str]]) -> None:
    state, path = sample
    scores = [entry["score"] for entry in state["quality_history"]]
    assert 3 <= scores[0] <= 5
    assert scores == sorted(scores)
    assert scores[-1] == state["quality_score"] > 8
    assert 2 <= state["round"] <= 4
    assert path == ["start", *[*ROUND, "apply_improvements"] * state["round"], *ROUND, "end"]
    assert state["outcome"]["status"] == "threshold_reached"
    assert set(state) == KEYS


def test_the_sample_shows_most_transformations(sample: tuple[dict[str, Any], list[str]]) -> None:
    applied = sample[0]["improvements_applied"]
    assert {improvement["transformation"] for improvement in applied} >= {
        *("name_exception", "none_default", "identity_comparison", "remove_unused_variable", "name_constant"),
        *("add_docstring", "remove_unused_import", "remove_else_after_jump", "boolean_comparison"),
    }
    assert [improvement["round"] for improvement in applied] == sorted(i["round"] for i in applied)
    assert set(applied[0]) == {"round", "transformation", "line", "description", "resolves"}


def test_the_diff_leads_from_the_code_to_the_improved_code(sample: tuple[dict[str, Any], list[str]]) -> None:
    state = sample[0]
    assert state["diff"].startswith("--- a/orders.py\n+++ b/orders.py\n@@ ")
    assert patched(state["code"], state["diff"]) == state["improved_code"]


def patched(before: str, diff: str) -> str:
    lines, done, result = before.splitlines(keepends=True), 0, []
    for line in diff.splitlines(keepends=True)[2:]:
        hunk = re.match(r"@@ -(\d+)", line)
        if hunk:
            result += lines[done : int(hunk[1]) - 1]
            done = int(hunk[1]) - 1
        elif line.startswith("+"):
            result.append(line[1:])
        else:
            assert lines[done] == line[1:]
            result += [] if line.startswith("-") else [line[1:]]
            done += 1
    return "".join(result + lines[done:])


def test_suggestions_come_by_priority_and_belong_to_issues() -> None:
    state, _ = review({"code": sample_source(), "max_rounds": 0})
    order = ["high", "medium", "low"]
    priorities = [order.index(suggestion["priority"]) for suggestion in state["suggestions"]]
    assert priorities == sorted(priorities)
    assert sorted((s["issue"], s["line"]) for s in state["suggestions"]) == sorted(
        (issue["type"], issue["line"]) for issue in state["issues"]
    )
    assert state["automatic_suggestions"] == sum(s["automatic"] for s in state["suggestions"]) > 30
    assert set(state["suggestions"][0]) == {"priority", "action", "issue", "line", "function", "message", "automatic"}


def test_complexity_is_summed_up() -> None:
    state, _ = review({"code": "def f(a):\n    if a: pass\n    return a\n\ndef g(): pass\n", "max_rounds": 0})
    results = state["complexity_results"]
    assert [facts["cyclomatic"] for facts in results.pop("functions")] == [2, 1]
    assert results == {
        "function_count": 2,
        "average_cyclomatic": 1.5,
        "max_cyclomatic": 2,
        "average_cognitive": 0.5,
        "max_cognitive": 1,
        "average_nesting_depth": 0.5,
        "max_nesting_depth": 1,
    }


def test_code_that_is_good_ends_unchanged() -> None:
    good = '"""Text."""\n\n\ndef f():\n    """Text."""\n'
    for source in ("", "# nothing but a comment", good):
        state, path = review({"code": source})
        assert path == ["start", *ROUND, "end"]
        assert state["quality_score"] == 10
        assert state["outcome"]["status"] == "threshold_reached"
        assert (state["improved_code"], state["diff"], state["improvements_applied"]) == (source, "", [])


def test_code_that_needs_a_person_says_so() -> None:
    source = "def f(a, b, c, d, e, g):\n    eval(a)\n    assert (b, 'text')\n    return c is 'x'\n"
    state, path = review({"code": source})
    assert state["outcome"]["status"] == "no_further_improvement"
    assert "1 dangerous_call" in state["outcome"]["message"]
    assert state["quality_score"] < 8
    assert state["round"] == 1
    assert path[-1] == "end"


def test_rounds_are_limited() -> None:
    state, path = review({"code": sample_source(), "max_rounds": 1})
    assert state["outcome"]["status"] == "round_limit"
    assert "below the threshold" in state["outcome"]["message"]
    assert state["outcome"]["message"].endswith("no more than 1 round is allowed.")
    assert path.count("apply_improvements") == 1
    assert state["diff"]


BROKEN = {
    "syntax": ("def f(:\n    pass\n", 1, 7),
    "indent": ("if a:\npass\n", 2, 1),
    "does not compile": ("x = 1\nreturn x\n", 2, 1),
    "null byte": ("x = 1\0", 1, 1),
    "parentheses": ("(" * 100_000, 1, 201),
    "signs": ("x = " + "-" * 100_000 + "1", 1, 1),
    "attributes": ("x" + ".y" * 50_000, 1, 1),
    "sum": ("+".join("1" * 3_000), 1, 1),
    "elifs": ("if a: pass\n" + "elif a: pass\n" * 3_000, 1, 1),
    "number": ("1" * 5_000, 1, 1),
}


@pytest.mark.parametrize(("source", "line", "column"), BROKEN.values(), ids=BROKEN)
def test_code_that_cannot_be_parsed(source: str, line: int, column: int) -> None:
    state, path = review({"code": source})
    assert path == ["start", *ROUND, "end"]
    assert state["outcome"]["status"] == "syntax_error"
    assert (state["quality_score"], state["improved_code"], state["diff"]) == (0, source, "")
    (issue,) = state["issues"]
    assert state["issue_counts"] == {"syntax_error": 1}
    assert (issue["type"], issue["line"], issue["column"]) == ("syntax_error", line, column)
    assert issue["message"] in state["outcome"]["message"]
    assert state["functions"] == state["suggestions"] == state["complexity_results"]["functions"] == []


INVALID = {
    "no code": ({}, "the initial state has no code"),
    "null": ({"code": None}, "the initial state has no code"),
    "a number": ({"code": 7}, "code must be a string, not int"),
    "a list": ({"code": ["x = 1"]}, "code must be a string, not list"),
    "too much": ({"code": "# ä\n" * 40_001}, "code must have 200000 bytes or fewer"),
}


@pytest.mark.parametrize(("initial", "message"), INVALID.values(), ids=INVALID)
def test_an_initial_state_without_usable_code(initial: dict[str, Any], message: str) -> None:
    state, path = review(initial)
    assert path == ["start", *ROUND, "end"]
    assert state["outcome"] == {"status": "invalid_input", "message": message, "problem": message}
    assert state["quality_score"] == 0
    assert [(issue["type"], issue["message"]) for issue in state["issues"]] == [("invalid_input", message)]
    assert state["functions"] == state["suggestions"] == state["complexity_results"]["functions"] == []
    assert (state["statements"], state["issue_counts"]) == (0, {"invalid_input": 1})
    assert (state["automatic_suggestions"], state["improved_code"], state["diff"]) == (0, "", "")
    assert set(state) - {"code"} == KEYS - {"code"}


def test_code_that_is_too_long_costs_and_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    function = "def f{0}(a=[], b=None):\n    if b == None:\n        return 17\n    else:\n        return a\n\n\n"
    source = "".join(function.format(number) for number in range(3_000))
    assert len(source) > 200_000
    started = time.process_time()
    state, path = review({"code": source, "filename": "long.py", "quality_threshold": 9})
    assert time.process_time() - started < 2
    assert path == ["start", *ROUND, "end"]
    assert state["code"] == source
    assert state["outcome"]["status"] == "invalid_input"
    assert state["functions"] == state["suggestions"] == []
    assert capsys.readouterr().out.splitlines() == [
        "cannot be reviewed: code must have 200000 bytes or fewer",
        "no functions to measure",
        "1 issue: 1 high, 0 medium, 0 low",
        "  line 1: invalid_input: code must have 200000 bytes or fewer",
        "0 suggestions, 0 of them can be carried out right away",
        "round 0: quality 0.0, threshold 9: invalid_input",
        "code must have 200000 bytes or fewer",
    ]


def test_code_of_the_most_bytes_is_reviewed() -> None:
    state, _ = review({"code": "# " + "x" * 199_998})
    assert state["outcome"]["status"] == "threshold_reached"


THRESHOLD = "quality_threshold must be a number from 0 to 10"
REFUSED_THRESHOLDS = {
    "text": ("8", f"{THRESHOLD}, not str"),
    "a boolean": (True, f"{THRESHOLD}, not bool"),
    "a list": ([], f"{THRESHOLD}, not list"),
    "an object": ({}, f"{THRESHOLD}, not dict"),
    "not a number": (math.nan, THRESHOLD),
    "infinite": (math.inf, THRESHOLD),
    "too low": (-0.01, THRESHOLD),
    "too high": (10.01, THRESHOLD),
    "beyond all floats": (10**400, THRESHOLD),
}


@pytest.mark.parametrize(("given", "message"), REFUSED_THRESHOLDS.values(), ids=REFUSED_THRESHOLDS)
def test_a_threshold_that_is_no_score_is_refused(given: object, message: str) -> None:
    state, path = review({"code": sample_source(), "quality_threshold": given})
    assert path == ["start", *ROUND, "end"]
    assert state["outcome"] == {"status": "invalid_input", "message": message, "problem": message}
    assert [(issue["type"], issue["message"]) for issue in state["issues"]] == [("invalid_input", message)]
    assert state["functions"] == state["suggestions"] == []
    assert (state["quality_score"], state["quality_threshold"], state["diff"]) == (0, 8.0, "")


@pytest.mark.parametrize("given", [0, 10, 7.5])
def test_a_threshold_may_be_any_score(given: float) -> None:
    state, _ = review({"code": "", "quality_threshold": given})
    assert (state["quality_threshold"], state["outcome"]["status"]) == (given, "threshold_reached")


def test_what_is_missing_is_the_default() -> None:
    for initial in ({}, {"quality_threshold": None, "max_rounds": None, "filename": None}):
        state, _ = review({"code": "", **initial})
        assert (state["quality_threshold"], state["max_rounds"], state["filename"]) == (8.0, 5, "")


@pytest.mark.parametrize("nonsense", ["8", True, [], {}, math.nan])
def test_rounds_and_names_of_another_type_are_the_defaults(nonsense: object) -> None:
    state, _ = review({"code": "", "max_rounds": nonsense, "filename": 7})
    assert (state["max_rounds"], state["filename"]) == (5, "")


@pytest.mark.parametrize(("given", "used"), [(-3, 0), (2.9, 2), (1e300, 20), (10**400, 20)])
def test_the_number_of_rounds_is_bounded(given: float, used: int) -> None:
    assert review({"code": "", "max_rounds": given})[0]["max_rounds"] == used


def test_a_threshold_that_cannot_be_reached_ends_too() -> None:
    state, _ = review({"code": sample_source(), "quality_threshold": 10, "max_rounds": 20})
    assert state["outcome"]["status"] == "no_further_improvement"
    assert re.search(r"What is left needs a person: \d+ \w+", state["outcome"]["message"])
    assert state["round"] < 6


def test_the_final_state_of_a_run_can_begin_another() -> None:
    first, _ = review({"code": sample_source(), "max_rounds": 1})
    second, _ = review({**first, "max_rounds": 5})
    fresh, _ = review({"code": sample_source()})
    assert second == fresh | {"max_rounds": 5}


def test_lists_are_bounded_and_counts_are_not() -> None:
    source = "".join(f"def f{number}(): pass\n" for number in range(700))
    state, _ = review({"code": source, "max_rounds": 0})
    assert len(state["functions"]) == len(state["issues"]) == len(state["suggestions"]) == 500
    assert state["issue_counts"] == {"missing_docstring": 701}
    assert state["complexity_results"]["function_count"] == 700


def test_what_a_round_prints_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    review({"code": code("def f(a=[]):\n    return a\n")})
    printed = capsys.readouterr().out
    assert "round 0: quality" in printed
    assert "round 0: 1 function in 2 lines" in printed
    assert "3 issues: 1 high, 0 medium, 2 low" in printed
    assert "round 1: 1 improvement of high priority" in printed
    assert "line 1: default a to None" in printed


def test_one_of_a_kind_is_in_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    review({"code": "x = 1\n", "max_rounds": 0})
    printed = capsys.readouterr().out
    assert "round 0: 0 functions in 1 line\n" in printed
    assert "1 issue: 0 high, 0 medium, 1 low" in printed
    assert "1 suggestion, 1 of them can be carried out right away" in printed
