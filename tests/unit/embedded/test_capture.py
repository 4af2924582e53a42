"""A captured function behaves like the live one, in a module of its own."""

# The code here is what is captured: it is written in many ways, and takes anything.
# ruff: noqa: ANN401, ICN001, PLC3002, PLW0108, PTH118, PTH119

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import functools
import linecache
import logging
import math
import operator
import os.path
import re
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import sandgraph
from sandgraph import NodeType, WorkflowState, get_global_registry, tool
from sandgraph.embedded.capture import capture
from sandgraph.embedded.source import Uncapturable
from sandgraph_runner.loading import Loader
from sandgraph_runner.protocol import Source

if TYPE_CHECKING:
    from fractions import Fraction

Function = Callable[..., Any]


def again(function: Function, name: str = "captured", *, shows: str = "") -> Function:
    """Return the function as its captured source defines it."""
    code = capture(function, name)
    assert shows in code
    with Loader() as loader:
        return loader.function(Source(name, code))


# What the functions below refer to

LIMIT = 3
TABLE = {"a": [1, 2.5, None], "b": (True,), "c": {1, 2}, "d": frozenset({"x"}), "e": b"\x00", 5: ()}
NOT_FINITE = (math.inf, -math.inf)
WORDS = re.compile(r"[a-z]+", re.IGNORECASE)
PRICE = Decimal("1.50")
SINCE = datetime(2020, 1, 2, 3, 4, tzinfo=UTC)
HOME = PurePosixPath("/srv/data")
FIRST = operator.itemgetter(0)
MISSING = object()
logger = logging.getLogger("tests.capture")
counter = 0


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


FAVOURITE = Colour.BLUE


class Base:
    """Has text
    over two lines."""

    factor = LIMIT

    def scaled(self, value: int) -> int:
        return value * self.factor


class Heir(Base):
    @property
    def name(self) -> str:
        return f"{type(self).__name__}/{Base.__name__}"

    @staticmethod
    def make() -> Heir:
        return Heir()


@dataclass(frozen=True)
class Point:
    x: int
    y: int = LIMIT
    tags: list[str] = field(default_factory=list)

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y)


class Pair(NamedTuple):
    left: int
    right: int = 7


def helper(value: int) -> int:
    return deeper(value) + LIMIT


def deeper(value: int) -> int:
    return value * 100


def even(number: int) -> bool:
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    return number != 0 and even(number - 1)


@functools.lru_cache(maxsize=16)
def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


@contextlib.contextmanager
def doubled(value: int) -> Iterator[int]:
    yield value * 2


def twice(function: Function) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(function(*args))

    return wrapper


def plus(amount: int) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        def wrapper(*args: Any) -> Any:
            return function(*args) + amount

        return wrapper

    return decorate


@twice
def tripled(value: int) -> int:
    return value * 3


@plus(1000)
@twice
@plus(1)
def stacked(value: int) -> int:
    return value * 10


HANDLERS: dict[str, Any] = {
    "triple": tripled,
    "red": [Colour.RED, Decimal(2)],
    "by name": lambda name: HANDLERS["triple"](name),
}


@tool(name="shout", description="Says it loudly.")
def shout(text: str) -> str:
    return text.upper() + "!"


# What can be captured


def test_a_function_keeps_its_text_without_its_annotations_meaning_anything() -> None:
    def process(state: WorkflowState, *, by: Fraction | None = None) -> dict[str, object]:
        """Double
        the input."""
        # A comment stays.
        local: Any = state.get("input") * (by or 2)
        return {"output": local}

    assert again(process, "process", shows="# A comment stays.")(WorkflowState({"input": 5})) == {"output": 10}
    assert again(process, "process").__doc__ == process.__doc__


def test_helpers_classes_and_constants_come_along() -> None:
    def uses() -> object:
        return (helper(2), Heir.make().name, Heir().scaled(2), Point(1).moved(1), Pair(1), TABLE, NOT_FINITE)

    one, two, three, point, pair, table, infinite = again(uses)()
    assert (one, two, three, tuple(pair), table, infinite) == (203, "Heir/Base", 6, (1, 7), TABLE, NOT_FINITE)
    assert (point.x, point.y, point.tags) == (2, LIMIT, [])
    assert [type(value) for value in table.values()] == [type(value) for value in TABLE.values()]


def test_objects_with_an_expression_of_their_own_come_along() -> None:
    def uses(default: object = MISSING) -> object:
        logger.debug("not shown")
        return (
            WORDS.findall("Ab1c"),
            PRICE,
            SINCE,
            HOME,
            FIRST("xy"),
            default is MISSING,
            FAVOURITE.value,
            FAVOURITE is Colour.BLUE,
        )

    assert again(uses)() == (["Ab", "c"], PRICE, SINCE, HOME, "x", True, "blue", True)


def test_containers_of_functions_come_along() -> None:
    def uses(value: int) -> object:
        return HANDLERS["triple"](value), HANDLERS["by name"](value), HANDLERS["red"][0].value, HANDLERS["red"][1]

    assert again(uses)(1) == (9, 9, "red", Decimal(2))


def test_modules_are_imported_as_they_were() -> None:
    from os.path import join as joined  # noqa: PLC0415

    def uses() -> object:
        tree = xml.etree.ElementTree.fromstring("<a><b/></a>")
        return math.pi, os.path.basename("a/b"), joined("a", "b"), tree[0].tag, collections.abc.Sized.__name__

    code = capture(uses, "uses")
    assert "import xml.etree.ElementTree\n" in code
    assert "from posixpath import join" in code or "from os.path import join" in code
    assert again(uses)() == (math.pi, "b", "a/b", "b", "Sized")


def test_what_sandgraph_gives_is_imported_from_it() -> None:
    def uses() -> object:
        return WorkflowState({"a": 1}).get("a"), get_global_registry().names(), sandgraph.WorkflowState is WorkflowState

    code = capture(uses, "uses")
    assert "from sandgraph import WorkflowState\n" in code
    assert "from sandgraph import get_global_registry\n" in code
    assert "import sandgraph\n" in code
    assert again(uses)()[0] == 1


def test_recursion_and_mutual_recursion() -> None:
    def factorial(number: int) -> int:
        return 1 if number < 2 else number * factorial(number - 1)

    assert again(factorial)(5) == 120
    assert again(even)(10)
    assert again(odd, "even")(3)
    assert again(fibonacci)(30) == 832040


def test_closures_keep_their_values() -> None:
    def make(amount: int) -> Function:
        names = ["x", "y"]

        def inner(value: int) -> object:
            return value + amount, names, helper(1)

        return inner

    one, two = make(1), make(2)

    def both() -> object:
        return one(10), two(10)

    assert again(both)() == ((11, ["x", "y"], 103), (12, ["x", "y"], 103))


def test_a_variable_of_a_closure_may_be_rebound() -> None:
    calls = 0

    def counts() -> int:
        nonlocal calls
        calls += 1
        return calls

    live = again(counts)
    assert (live(), live(), calls) == (1, 2, 0)


def test_globals_may_be_rebound() -> None:
    def counts() -> int:
        global counter  # noqa: PLW0603
        counter += 1
        return counter

    live = again(counts)
    assert (live(), live(), counter) == (1, 2, 0)


def test_local_functions_that_call_each_other() -> None:
    def ping(number: int) -> str:
        return "ping" if number == 0 else pong(number - 1)

    def pong(number: int) -> str:
        return "pong" if number == 0 else ping(number - 1)

    assert again(ping)(3) == "pong"


def test_decorators_of_ones_own_are_applied_once() -> None:
    assert again(tripled)(1) == tripled(1) == 9
    assert again(stacked)(1) == stacked(1) == 1111

    def uses() -> object:
        return tripled(2), stacked(2), fibonacci(10), tripled.__name__, stacked.__name__

    assert again(uses)() == uses()
    assert again(uses)()[3:] == ("tripled", "wrapper")


def test_decorators_of_the_standard_library_are_applied_again() -> None:
    def uses() -> int:
        with doubled(4) as value:
            return value

    assert again(uses, shows="@contextlib.contextmanager")() == 8
    assert vars(again(fibonacci, shows="@functools.lru_cache(maxsize=16)"))["__wrapped__"](1) == 1


def test_a_tool_is_captured_without_its_decorator() -> None:
    assert "@tool" not in capture(shout, "shout")
    assert again(shout)("hi") == "HI!"


def test_lambdas_on_one_line_are_told_apart() -> None:
    functions = [lambda s: s + 1, lambda s: s + 2, lambda s: (lambda t: t * s)(3), lambda s: True, lambda s: None]  # noqa: ARG005
    assert [again(each)(5) for each in functions] == [6, 7, 15, True, None]
    curried: Function = lambda a: lambda b: a - b  # noqa: E731
    assert again(curried)(5)(3) == 2
    assert again(curried(5))(3) == 2


def test_lambdas_over_several_lines() -> None:
    function: Function = lambda text, *more: (  # noqa: E731
        text
        + """
  indented"""
        + str(more)
    )
    assert again(function)("a", 1) == function("a", 1)


def test_defaults_are_those_of_the_definition() -> None:
    functions: list[Function] = []
    for number in range(3):
        functions.append(lambda value, by=number, *, to=helper: (value, by, to(by)))  # noqa: PERF401

    def listed(value: int, seen: list[int] = [], *, names: dict[str, int] = {"a": LIMIT}) -> object:  # noqa: B006
        seen.append(value)
        return seen, names

    assert [again(each)(9) for each in functions] == [(9, 0, 3), (9, 1, 103), (9, 2, 203)]
    assert again(listed)(1) == ([1], {"a": 3})


def test_async_functions() -> None:
    async def process(value: int) -> int:
        await asyncio.sleep(0)
        return helper(value)

    assert asyncio.run(again(process)(1)) == 103


def test_strings_keep_their_margins() -> None:
    def text() -> str:
        value = f"""one
  two {LIMIT}
            three"""
        return (
            value
            + "\
    four"
        )

    assert again(text)() == text()
    amount = 2

    def closed() -> str:
        return f"""
  {amount}
        """

    assert again(closed)() == closed()


def test_two_things_of_one_name() -> None:
    def make() -> Function:
        def helper(value: int) -> str:
            return f"local {value} {LIMIT}"

        return lambda value: helper(value)

    local = make()

    def uses(value: int) -> object:
        return local(value), helper(value)

    assert again(uses)(1) == ("local 1 3", 103)
    assert again(uses, "helper")(1) == ("local 1 3", 103)
    assert again(lambda value: helper(value), "helper")(1) == 103


def test_a_name_that_hides_a_builtin_hides_it_only_where_it_did() -> None:
    def sum(values: list[int]) -> str:  # noqa: A001
        return f"hidden {len(values)}"

    def mine(values: list[int]) -> str:
        return sum(values)

    def uses(values: list[int]) -> object:
        return mine(values), builtin_sum(values)

    def both() -> object:
        return uses([1, 2])

    assert again(both)() == ("hidden 2", 3)


def builtin_sum(values: list[int]) -> int:
    return sum(values)


def test_local_classes_and_their_bases() -> None:
    class Inner(Heir):
        def hello(self) -> str:
            return f"{self.name} {make().scaled(1)}"

    def make() -> Inner:
        return Inner()

    assert again(make)().hello() == "Inner/Base 3"


# What cannot


def fails(function: Function, name: str = "process") -> str:
    with pytest.raises(Uncapturable) as failed:
        capture(function, name)
    return str(failed.value)


class Open:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


SHARED = Open()


def needs_shared() -> object:
    return SHARED


def needs_needs() -> object:
    return needs_shared()


@pytest.mark.parametrize(
    ("value", "kind"),
    [(len, "builtin_function_or_method"), (functools.partial(helper, 1), "partial"), (SHARED, "Open"), (Open, "type")],
)
def test_only_functions_are_captured(value: Function, kind: str) -> None:
    assert f"it is a {kind}" in fails(value)


def test_methods_are_not_captured() -> None:
    assert "it is a method" in fails(SHARED.method)


def test_an_object_that_cannot_be_written_is_named_with_the_way_to_it() -> None:
    message = fails(needs_needs)
    assert message.startswith("through 'needs_shared' → 'SHARED': 'SHARED', of the type Open, cannot be written")
    assert "pass it in the state" in message


def test_a_module_of_ones_own_is_no_sandboxs() -> None:
    mine = sys.modules[__name__]

    def uses() -> object:
        return mine.LIMIT

    assert "no sandbox has the module" in fails(uses)


def test_the_rest_of_sandgraph_is_no_sandboxs() -> None:
    def uses() -> object:
        return NodeType.START

    assert "and no 'NodeType'" in fails(uses)


def test_a_name_without_a_value() -> None:
    def uses() -> object:
        return nowhere  # type: ignore[name-defined]  # noqa: F821

    assert "it uses 'nowhere', which has no value here" in fails(uses)


def test_a_list_that_contains_itself() -> None:
    endless: list[object] = []
    endless.append(endless)

    def uses() -> object:
        return endless

    assert "'endless', of the type list" in fails(uses)


def test_code_without_source() -> None:
    names: dict[str, Any] = {}
    exec("def process(state): return 1", names)
    assert "of which there is no source" in fails(names["process"])


def test_a_source_that_changed_since(tmp_path: Any) -> None:
    file = tmp_path / "changed.py"
    file.write_text("def process(state):\n    return 1\n")
    names: dict[str, Any] = {"__name__": "changed"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    file.write_text("# moved\n\ndef process(state):\n    return 1\n")
    linecache.clearcache()
    assert "its source is not at line 1" in fails(names["process"])


def test_functions_of_files_that_are_not_installed_come_along(tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text("BY = 4\n\n\ndef scaled(value):\n    return value * BY\n")
    (tmp_path / "main.py").write_text(
        "from sandgraph.embedded.capture import capture\n"
        "from own import scaled\n"
        "def process(state):\n"
        "    return scaled(state['input'])\n"
        "namespace = {}\n"
        "exec(capture(process, 'process'), namespace)\n"
        "print(namespace['process']({'input': 5}))\n"
    )
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "20\n"
