from __future__ import annotations

from typing import Any

import pytest
from tests.unit.workflows.workbench import code, invoke


def measured(source: str) -> dict[str, Any]:
    """The measures of the first function."""
    facts: list[dict[str, Any]] = invoke("review_measure", invoke("review_model", code(source)))
    return facts[0]


CYCLOMATIC = {
    "nothing": ("pass", 1),
    "if": ("if a: pass", 2),
    "elif and else": ("if a: pass\n    elif b: pass\n    else: pass", 3),
    "ternary": ("x = 1 if a else 2", 2),
    "loops": ("for i in a:\n        while b: pass", 3),
    "loop else": ("for i in a: pass\n    else: pass", 2),
    "handlers": ("try: pass\n    except A: pass\n    except B: pass\n    finally: pass", 3),
    "boolean operators": ("return a and b or c and d", 4),
    "comprehension": ("return [i for i in a if i if b]", 4),
    "nested comprehension": ("return [i for j in a for i in j]", 3),
    "assert": ("assert a", 2),
    "with": ("with a: pass", 1),
    "match": ("match a:\n        case 1: pass\n        case 2: pass\n        case _: pass", 3),
    "match with a guard": ("match a:\n        case _ if b: pass", 2),
    "match with a capture": ("match a:\n        case [x]: pass\n        case y: pass", 2),
    "lambda": ("return lambda: 1 if a else 2", 2),
    "nested function": ("def g():\n        if a: pass\n    return g", 1),
    "default of a nested function": ("def g(x=1 if a else 2): pass", 2),
}


@pytest.mark.parametrize(("body", "expected"), CYCLOMATIC.values(), ids=CYCLOMATIC)
def test_cyclomatic_complexity(body: str, expected: int) -> None:
    assert measured(f"def f(a, b, c, d):\n    {body}\n")["cyclomatic"] == expected


# The first two are the white paper's own examples.
COGNITIVE = {
    "sum of primes": (
        """
        def f(maximum):
            total = 0
            for i in range(2, maximum):
                for j in range(2, i):
                    if i % j == 0:
                        break
                else:
                    total += i
            return total
        """,
        7,
    ),
    "get words": (
        """
        def f(number):
            match number:
                case 1:
                    return "one"
                case 2:
                    return "a couple"
                case _:
                    return "lots"
        """,
        1,
    ),
    "else is flat": ("def f(a):\n    if a: pass\n    elif a: pass\n    elif a: pass\n    else: pass\n", 4),
    "nesting": ("def f(a):\n    if a:\n        for i in a:\n            while i: pass\n", 6),
    "an if in an else is deeper": ("def f(a):\n    if a: pass\n    else:\n        if a: pass\n", 4),
    "try is free, except is not": ("def f(a):\n    try:\n        if a: pass\n    except A:\n        if a: pass\n", 4),
    "with is free": ("def f(a):\n    with a:\n        if a: pass\n", 1),
    "one run of operators": ("def f(a, b, c):\n    return a and b and c\n", 1),
    "parentheses change nothing": ("def f(a, b, c):\n    return a and (b and c)\n", 1),
    "three runs": ("def f(a, b, c, d, e, g):\n    if a and b and c or d or e and g: pass\n", 4),
    "back to the first operator": ("def f(a, b, c, d):\n    return a or b and c or d\n", 3),
    "not begins a new run": ("def f(a, b, c):\n    if a and not (b and c): pass\n", 3),
    "ternary in ternary": ("def f(a):\n    return 1 if a else 2 if a else 3\n", 3),
    "recursion once": ("def f(n):\n    return f(n - 1) + f(n - 2)\n", 1),
    "a method calls itself": ("class A:\n    def f(self):\n        return self.f()\n", 1),
    "a method calls a function of its name": ("class A:\n    def f(self):\n        return f()\n", 0),
    "nested function": ("def f(a):\n    x = 1\n    def g():\n        if a: pass\n    return g\n", 2),
    "lambda": ("def f(a):\n    return lambda: 1 if a else 2\n", 2),
    "decorator idiom": ("def f(a):\n    def g():\n        if a: pass\n    return g\n", 1),
    "decorator idiom with a docstring": ("def f(a):\n    '''d'''\n    def g():\n        if a: pass\n    return g\n", 1),
    "comprehension": ("def f(a):\n    return [i for i in a if i]\n", 0),
}


@pytest.mark.parametrize(("source", "expected"), COGNITIVE.values(), ids=COGNITIVE)
def test_cognitive_complexity(source: str, expected: int) -> None:
    assert measured(source)["cognitive"] == expected


NESTING = {
    "flat": ("x = 1", 0),
    "one": ("if a: pass", 1),
    "elif": ("if a: pass\n    elif b: pass\n    elif c: pass", 1),
    "else if": ("if a: pass\n    else:\n        if b: pass", 2),
    "handlers": ("try: pass\n    except A:\n        if a: pass", 2),
    "with, for, while": ("with a:\n        for i in b:\n            while c: pass", 3),
    "case": ("match a:\n        case 1:\n            if b: pass", 2),
    "nested function": ("if a:\n        def g():\n            if b: pass", 1),
}


@pytest.mark.parametrize(("body", "expected"), NESTING.values(), ids=NESTING)
def test_nesting_depth(body: str, expected: int) -> None:
    assert measured(f"def f(a, b, c):\n    {body}\n")["nesting_depth"] == expected


def test_a_function_is_described() -> None:
    model = invoke(
        "review_model",
        code('''
            class Shop:
                @staticmethod
                def outer(a, /, b, *more, c=1, **rest):
                    """Text."""

                    # a comment
                    async def inner():
                        pass

                    return inner

                @property
                @cache.it(1)
                def name(self): return 1
            '''),
    )
    outer, inner, name = (invoke("review_describe_function", model, record) for record in model["functions"])
    assert outer == {
        "name": "outer",
        "qualname": "Shop.outer",
        "class": "Shop",
        "line": 3,
        "end_line": 10,
        "args": ["a", "b", "*more", "c", "**rest"],
        "parameters": 3,
        "length": 8,
        "code_lines": 4,
        "has_docstring": True,
        "is_async": False,
        "is_method": True,
        "is_nested": False,
        "decorators": ["staticmethod"],
    }
    assert (inner["qualname"], inner["is_async"], inner["is_nested"]) == ("Shop.outer.<locals>.inner", True, True)
    assert (name["parameters"], name["length"], name["decorators"]) == (0, 1, ["property", "cache.it"])
