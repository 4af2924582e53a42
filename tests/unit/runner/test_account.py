"""What is told of exceptions: the submitted code's own lines, bounded, whatever the exception does."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.unit.runner.driver import source

from sandgraph_runner.account import MAX_MESSAGE_BYTES, MAX_TRACEBACK_BYTES, Account, of_exception
from sandgraph_runner.child import run_job
from sandgraph_runner.protocol import Job, Source


def told(body: str, name: str = "f") -> Account:
    done = run_job(Job(function=source(body, name)), b"{}")
    assert isinstance(done, Account), done
    assert json.loads(done.to_json())["type"] == done.type
    assert len(done.message.encode()) <= MAX_MESSAGE_BYTES
    assert len(done.traceback.encode()) <= MAX_TRACEBACK_BYTES
    return done


def test_a_traceback_shows_the_submitted_lines_and_no_others() -> None:
    account = told("import json\ndef g(x):\n    return json.loads(x)\ng('{')")
    lines = [line for line in account.traceback.splitlines() if "^" not in line and "~" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<function f>", line 5, in f',
        "    g('{')",
        '  File "<function f>", line 4, in g',
        "    return json.loads(x)",
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ]


def test_a_syntax_error_has_no_frames_and_says_where() -> None:
    done = run_job(Job(function=Source("f", "def f(:")), b"{}")
    assert isinstance(done, Account)
    assert done.traceback == f"SyntaxError: {done.message}\n"
    assert "(<function f>, line 1)" in done.message


def test_causes_are_told() -> None:
    traceback = told("try: 1/0\nexcept Exception as e: raise ValueError('outer') from e").traceback
    assert (
        traceback.index("ZeroDivisionError: division")
        < traceback.index("direct cause")
        < traceback.index("ValueError: outer")
    )
    traceback = told("try: 1/0\nexcept Exception: raise ValueError('outer')").traceback
    assert "During handling" in traceback
    assert "During" not in told("try: 1/0\nexcept Exception: raise ValueError('outer') from None").traceback


def test_groups_and_notes_are_told() -> None:
    traceback = told(
        "e = ValueError('one')\ne.add_note('a note')\nraise ExceptionGroup('both', [e, TypeError('two')])"
    ).traceback
    assert "ExceptionGroup: both (2 sub-exceptions)" in traceback
    assert "  | ValueError: one\n  | a note\n" in traceback
    assert "  +-- 2 of 2\n  | TypeError: two\n" in traceback


@pytest.mark.parametrize(
    "body",
    [
        "def g(n): return g(n + 1)\ng(0)",
        "import sys\nsys.setrecursionlimit(20_000)\ndef g(n): return 1/0 if n > 10_000 else g(n + 1)\ng(0)",
        "raise ValueError('ä' * 10_000_000)",
        "raise ValueError('\\ud800\\x00')",
        "e = ValueError('x')\nfor i in range(10_000):\n    n = ValueError(str(i)); n.__cause__ = e; e = n\nraise e",
        "e = ValueError('x'); e.__context__ = ValueError('y'); e.__context__.__context__ = e\nraise e",
        "raise ExceptionGroup('g', [ValueError('x' * 1000)] * 1000)",
        "e = ValueError()\nfor _ in range(300): e = ExceptionGroup('g', [e] * 5)\nraise e",
        "e = ValueError(); e.__notes__ = ['x' * 100_000] * 1000\nraise e",
        "e = ValueError(); e.__notes__ = 5\nraise e",
        "raise type('T' * 100_000, (Exception,), {})('x')",
        "raise type('\\ud800', (Exception,), {})('x')",
        "raise KeyError(b'x' * 10_000_000)",
    ],
)
def test_anything_is_told_within_bounds(body: str) -> None:
    import sys  # noqa: PLC0415 - the limit is the process's

    limit = sys.getrecursionlimit()
    try:
        assert told(body).type
    finally:
        sys.setrecursionlimit(limit)


class LiesAboutItself(Exception):
    __class__ = property(lambda _self: 1 / 0)
    __cause__ = property(lambda _self: 1 / 0)

    def __str__(self) -> str:
        raise KeyboardInterrupt


class GivesNoText(Exception):
    __str__ = lambda _self: 5  # type: ignore[assignment,return-value]  # noqa: E731


class GivesItsOwnText(Exception):
    class Text(str):
        __slots__ = ()

        def __getitem__(self, _key: object) -> str:
            raise ValueError

        def encode(self, *_args: object) -> bytes:
            return b"x" * 10_000_000

    def __str__(self) -> str:
        return self.Text("mine")


class Named(type):
    __name__ = property(lambda _cls: 1 / 0)


class OddName(Exception, metaclass=Named):
    pass


@pytest.mark.parametrize("kind", [LiesAboutItself, GivesNoText, GivesItsOwnText, OddName], ids="abcd")
def test_hostile_exceptions_are_told_of(kind: Callable[[], Exception]) -> None:
    account = of_exception(kind())
    assert account.type == type.__dict__["__name__"].__get__(kind)
    assert len(account.to_json()) < 1000
