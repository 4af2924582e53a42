"""Checks of submitted code at registration."""

from __future__ import annotations

import pytest

from sandgraph_runner.checks import Problem, run_check
from sandgraph_runner.protocol import Check, Source


def check(code: str, name: str = "f") -> Problem | None:
    problems = run_check(Check((Source(name, code),)))
    assert len(problems) <= 1
    return problems[0] if problems else None


@pytest.mark.parametrize(
    "code",
    [
        "def f(state): ...",
        "async def f(state): ...",
        "f = lambda state: None",
        "class f:\n    def __init__(self, state): ...",
        "@tool\ndef f(state: WorkflowState) -> None: assert get_global_registry() is tools",
        "\ufeffdef f(state): ...",
        "def f(state): ...\r\n",
    ],
)
def test_code_that_defines_its_name_has_no_problem(code: str) -> None:
    assert check(code) is None


@pytest.mark.parametrize(
    ("code", "line", "column"),
    [
        ("def f(state):\n    return 1 +\n", 2, 15),
        ("def f(state)\n    pass", 1, 13),
        ("def f(state):\nreturn 1", 2, 1),
        ("def f(state):\n    x = 'abc\n", 2, 9),
        ("return 1", 1, 1),
        ("x = " + "(" * 500 + ")" * 500, 1, None),
    ],
)
def test_what_does_not_compile_says_where(code: str, line: int, column: int | None) -> None:
    problem = check(code)
    assert problem is not None
    assert (problem.code, problem.line) == ("syntax_error", line)
    assert problem.message
    if column is not None:
        assert problem.column == column


@pytest.mark.parametrize("code", ["x = '\0'", "x = '\ud800'", "x = " + "9" * 5000])
def test_what_the_compiler_chokes_on_is_a_syntax_error(code: str) -> None:
    problem = check(code)
    assert problem is not None
    assert problem.code == "syntax_error"
    assert problem.message.encode()


@pytest.mark.parametrize(
    "code", ["x = " + "-" * 100_000 + "1", "x = " + "a." * 100_000 + "a", "x = " + "[" * 150 + "]" * 150]
)
def test_deep_nesting_does_not_bring_it_down(code: str) -> None:
    problem = check(code + "\ndef f(s): ...")
    assert problem is None or problem.code in {"syntax_error", "import_failed"}


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("x = 1\nx / 0\ndef f(s): ...", "ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(3)", "SystemExit: the code called for an exit (3); return from the function instead", 2),
        ("def g():\n    raise KeyboardInterrupt\n\ng()", "KeyboardInterrupt", 2),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'", 1),
        ("import json\njson.loads('x')", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)", 2),
        ("eval('1 +')", "SyntaxError: invalid syntax (<string>, line 1)", 1),
    ],
)
def test_what_fails_at_import_says_so_and_where(code: str, message: str, line: int) -> None:
    assert check(code) == Problem(0, "import_failed", message, line)


def test_a_name_that_is_not_defined_lists_those_that_are() -> None:
    problem = check("from os.path import join\ndef g(s): ...\ndef h(s): ...\nx = 1")
    assert problem == Problem(0, "name_not_defined", "the code does not define 'f'; functions that it defines: g, h")
    assert check("x = 1") == Problem(
        0, "name_not_defined", "the code does not define 'f'; functions that it defines: none"
    )


def test_a_name_that_is_no_function_says_what_it_is() -> None:
    assert check("f = 3") == Problem(0, "not_callable", "'f' is of the type int, which cannot be called")


def test_expressions_are_compiled_and_not_evaluated() -> None:
    problems = run_check(
        Check((Source("f", "x = 1"),), ("1/0", "state.a >", "x = 1", "", " state.n > 1 ", "print(", "await x", "'\0'"))
    )
    assert [(problem.index, problem.code) for problem in problems] == [
        (0, "name_not_defined"),
        (2, "syntax_error"),
        (3, "syntax_error"),
        (4, "syntax_error"),
        (6, "syntax_error"),
        (7, "syntax_error"),
        (8, "syntax_error"),
    ]
    assert (problems[1].line, problems[1].column) == (1, 10)


def test_columns_count_the_blanks_before_an_expression() -> None:
    plain, indented = run_check(Check((), ("a b", "  a b")))
    assert (plain.column, indented.column) == (3, 5)


def test_two_versions_of_a_function_are_two_modules() -> None:
    sources = (Source("f", "a = 1\ndef f(s): ..."), Source("f", "def f(s): ...\nassert 'a' not in globals()"))
    assert run_check(Check(sources)) == []
