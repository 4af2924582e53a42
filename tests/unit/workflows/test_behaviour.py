"""Improved code does what the original did: both are run on the same inputs."""

from __future__ import annotations

import calendar
import colorsys
import fractions
import inspect
import shlex
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from tests.unit.workflows.workbench import code, improved

from sandgraph.workflows import sample_source

PROGRAM = code('''
    # -*- coding: utf-8 -*-
    import os, sys
    from functools import wraps


    def traced(function):
        @wraps(function)
        def wrapper(*args, **kwargs):
            unused = {"a": [1, 2]}
            return "→", function(*args, **kwargs)
        return wrapper


    class Basket:
        limit = 3 * 4

        def __init__(self, items=[], *, owner=None):
            self.items = items
            self.owner = owner

        @property
        def size(self):
            return len(self.items) * 7

        def add(self, item):
            if item == None:
                raise ValueError("ein Schäf\\
                    chen")
            elif item in self.items:
                return False
            else:
                text = """
                    more
            text"""
                self.items.append((item, text))
                return True


    @traced
    def classify(value, flag: bool = False):
        kind = describe = "x"
        found = False
        for number in range(25):
            if number == value:
                found = True
                break
            else:
                continue
        if found == True:
            return f"found {value * 3:>{9}} {value == None}"
        elif flag == False:
            match value:
                case 404 | -1:
                    return "special"
                case int() if value > 1_000:
                    return "large"
                case [first, *rest]:
                    return first, rest
                case _:
                    pass
        try:
            result = int(value)
            return value / (value - 99)
        except ZeroDivisionError:
            return 0x1F + 5e1 - 3
        except:
            return kind


    def nested(depth, seen=()):
        def inner():
            nonlocal depth
            waste = depth
            depth -= 3
            if depth < 0: return seen
            else: return inner()
        return (lambda extra=[]: extra + [inner()])()


    def numbers(): yield from (x * 5 for x in range(6) if x != 4); return 9
    ''')


def loaded(source: str) -> dict[str, Any]:
    module = ModuleType("program")
    exec(compile(source, "program", "exec", dont_inherit=True), vars(module))
    return vars(module)


def outcome(function: Callable[..., object], *args: object) -> str:
    try:
        return repr(function(*args))
    except Exception as error:  # noqa: BLE001 - whatever one version raises, the other must
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("indent", ["    ", "\t"], ids=["spaces", "tabs"])
def test_a_program_of_odd_constructs(newline: str, indent: str) -> None:
    source = PROGRAM.replace("    ", indent).replace("\n", newline)
    after = improved(source)
    assert after.count("\n") > source.count("\n") + 20
    was, now = loaded(source), loaded(after)
    for value in (7, 404, -1, 99, 5000, None, "12", "x", [1, 2], 3.5):
        for flag in (True, False):
            assert outcome(now["classify"], value, flag) == outcome(was["classify"], value, flag)
    assert outcome(now["nested"], 20) == outcome(was["nested"], 20)
    assert list(now["numbers"]()) == list(was["numbers"]())
    for program in (was, now):
        basket = program["Basket"]([])
        program["trace"] = [outcome(basket.add, item) for item in ("ä", "ä", None)], basket.items, basket.size
    assert now["trace"] == was["trace"]


def test_what_improvement_does_change() -> None:
    was, now = (loaded(source)["Basket"] for source in (PROGRAM, improved(PROGRAM)))
    was().add(1)
    now().add(1)
    assert (was().size, now().size) == (7, 0), "a mutable default is shared no longer"
    assert was.__doc__ is None
    assert now.__doc__ == "Basket, with size and add."


def test_the_sample() -> None:
    text = (
        '{"number": 7, "customer": "ann", "lines": [{"product": "ä", "price": 123456},'
        ' {"product": "b", "price": 250, "quantity": 60}]}'
    )
    results = []
    for source in (sample_source(), improved(sample_source())):
        shop = loaded(source)
        order = shop["parse_order"](text)
        results.append(
            [
                order.total(),
                order.is_large(),
                outcome(order.add_line, "x", None, 1),
                outcome(shop["parse_order"], "{}"),
                outcome(shop["parse_order"], "nonsense"),
                *(shop["discount"](order, years) for years in (0, 11, 90)),
                *(shop["shipping"](order, country, express) for country in ("DE", "AT", "FR") for express in (0, 1)),
                [done.number for done in shop["process"]([order], {"ann": 5}, "DE", "", 3)],
                shop["ORDERS"],
            ]
        )
    assert results[0] == results[1]


def test_modules_of_the_standard_library() -> None:
    def convert(module: Any) -> object:  # noqa: ANN401
        grid = [(r / 4, g / 4, b / 4) for r in range(5) for g in range(5) for b in range(5)]
        there = (module.rgb_to_hls, module.rgb_to_hsv, module.rgb_to_yiq)
        back = (module.hls_to_rgb, module.hsv_to_rgb, module.yiq_to_rgb)
        return [(f(*color), g(*color)) for color in grid for f, g in zip(there, back, strict=True)]

    def split(module: Any) -> object:  # noqa: ANN401
        lines = ('a \'b c\' "d\\"e" # f', "a && b | c; d > 'e'", "ä\\ ö", "'open")
        return [outcome(module.split, line) for line in lines], [list(module.shlex(line)) for line in lines[:2]]

    def print_year(module: Any) -> object:  # noqa: ANN401
        return module.TextCalendar().formatyear(2026), module.HTMLCalendar(3).formatmonth(2027, 2), module.isleap(2100)

    def divide(module: Any) -> object:  # noqa: ANN401
        values = [module.Fraction(text) for text in ("3/7", "-1.25", "1e3", "22")]
        return (
            [str((a + b) * a / b % b) for a in values for b in values],
            values[0].limit_denominator(5),
            hash(values[1]),
        )

    for module, use in (
        (colorsys, convert),
        (shlex, split),
        (calendar, print_year),
        (fractions, divide),
    ):
        after = ModuleType(module.__name__)
        source = inspect.getsource(module)
        changed = improved(source)
        assert changed != source
        exec(compile(changed, module.__name__, "exec", dont_inherit=True), vars(after))
        assert repr(use(after)) == repr(use(module))
