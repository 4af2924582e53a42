"""Checks submitted code at registration: it compiles, its module level runs, it defines what it should."""

from __future__ import annotations

from types import CodeType, FunctionType, TracebackType

from sandgraph_runner.account import of_exception
from sandgraph_runner.lean import Any, Callable, Mapping, partial
from sandgraph_runner.loading import Loader, filename_of
from sandgraph_runner.protocol import Check, Source
from sandgraph_runner.records import Record, record
from sandgraph_runner.tools import job_tools

_SHOWN = 20


@record
class Problem(Record):
    """What is wrong with one source or expression; the fields are those of a CHECK's outcome."""

    index: int
    code: str
    message: str
    line: int | None = None
    column: int | None = None


def run_check(check: Check, *, callables: Mapping[str, Callable[..., Any]] | None = None) -> list[Problem]:
    """Check sources and expressions, and return what is wrong: one problem for each that is not as it should be.

    The module level of each source runs; it may take any time, and whatever it raises is a problem.

    Args:
        check: What to check.
        callables: Live functions that stand in for the sources of these names; nothing can be wrong with them.
    """
    problems = []
    # A tool that a module registers is its own affair, and gone with the check.
    with Loader(callables) as loader, job_tools({}):
        for index, source in enumerate(check.sources):
            if source.name not in (callables or {}):
                problems.append(_check_source(index, source, loader))
        for index, expression in enumerate(check.expressions, len(check.sources)):
            indent = len(expression) - len(expression.lstrip(" \t"))
            code = _compile(index, partial(loader.compile_expression, expression), indent)
            problems.append(code if isinstance(code, Problem) else None)
    return [problem for problem in problems if problem is not None]


def _check_source(index: int, source: Source, loader: Loader) -> Problem | None:
    code = _compile(index, partial(loader.compile, source))
    if isinstance(code, Problem):
        return code
    try:
        module = loader.execute(source, code)
    except BaseException as error:  # noqa: BLE001 - submitted code may raise anything
        account = of_exception(error)
        message = f"{account.type}: {account.message}" if account.message else account.type
        return Problem(index, "import_failed", message, _line(error.__traceback__, filename_of(source)))
    names = vars(module)
    if source.name not in names:
        functions = [name for name, value in names.items() if isinstance(value, FunctionType) and _is_own(value, names)]
        listed = ", ".join(functions[:_SHOWN]) or "none"
        message = f"the code does not define {source.name!r}; functions that it defines: {listed}"
        return Problem(index, "name_not_defined", message)
    found = names[source.name]
    if not callable(found):
        kind = type(found).__name__
        return Problem(index, "not_callable", f"{source.name!r} is of the type {kind}, which cannot be called")
    return None


def _compile(index: int, compile_it: Callable[[], CodeType], indent: int = 0) -> CodeType | Problem:
    try:
        return compile_it()
    except SyntaxError as error:
        line = error.lineno or 1
        # At the end of an expression the compiler says 0.
        column = (error.offset or len((error.text or "").rstrip("\n")) + 1) + (indent if line == 1 else 0)
        return Problem(index, "syntax_error", error.msg or "invalid syntax", line, column)
    except (RecursionError, MemoryError):
        return Problem(index, "syntax_error", "the code is too deeply nested")
    except (ValueError, OverflowError) as error:
        # A NUL byte, a lone surrogate, or a number of too many digits.
        return Problem(index, "syntax_error", str(error))


def _line(trace: TracebackType | None, filename: str) -> int | None:
    """Return the innermost line of the submitted code that was running."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _is_own(function: FunctionType, names: dict[str, object]) -> bool:
    return function.__globals__ is names
