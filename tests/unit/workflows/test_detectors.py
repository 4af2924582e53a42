"""What is an issue, and what only looks like one."""

from __future__ import annotations

import pytest
from tests.unit.workflows.workbench import WORKFLOW, code, found, invoke, lines_of

DETECTED = {
    "bare except": ("bare_except", "try: pass\nexcept: raise\n", [2]),
    "a named except": ("bare_except", "try: pass\nexcept A: pass\n", []),
    "swallowed": ("swallowed_exception", "try: pass\nexcept Exception: pass\n", [2]),
    "swallowed by a bare except": ("swallowed_exception", "try: pass\nexcept:\n    ...\n", [2]),
    "swallowed in a loop": ("swallowed_exception", "for i in a:\n    try: b\n    except Exception: continue\n", [3]),
    "a narrow exception may pass": ("swallowed_exception", "try: pass\nexcept KeyError: pass\n", []),
    "a broad one that is handled": ("swallowed_exception", "try: pass\nexcept Exception: print(1)\n", []),
    "mutable displays": ("mutable_default", "def f(a=[], b={}, *, c={1}, d=None): pass\n", [1, 1, 1]),
    "mutable calls": ("mutable_default", "def f(a=list(), b=collections.deque(), c=tuple()): pass\n", [1, 1]),
    "mutable default of a lambda": ("mutable_default", "f = lambda a=[]: a\n", [1]),
    "immutable defaults": ("mutable_default", "def f(a=(), b=1, c='', d=frozenset()): pass\n", []),
    "assert on a tuple": ("assert_on_tuple", "assert (a, 'text')\nassert a, 'text'\nassert ()\n", [1]),
    "duplicate keys": ("duplicate_key", "a = {1: 2, 'b': 3, 1: 4, 1.5: 0, True: 1}\n", [1]),
    "eval and exec": ("dangerous_call", "eval(a)\nexec(a)\nast.literal_eval(a)\na.eval(b)\n", [1, 2]),
    "comparison to None": ("comparison_to_none", "a == None\nNone != a\na is None\na == 0\n", [1, 2]),
    "chained comparison to None": ("comparison_to_none", "a == b != None\n", [1]),
    "comparison to bool": ("comparison_to_bool", "a == True\nFalse != a\na is True\na == 1\n", [1, 2]),
    "comparison of types": (
        "type_comparison",
        "type(a) == int\nint != type(a)\ntype(a) is int\ntype(a, (), {}) == b\n",
        [1, 2],
    ),
    "identity of literals": (
        "literal_identity",
        "a is 1\n'x' is not a\na is ()\na is None\na is True\na is ...\n",
        [1, 2, 3],
    ),
    "needless else": ("needless_else", "def f():\n    if a: return 1\n    else: return 2\n", [2]),
    "needless elif": ("needless_else", "for a in b:\n    if a: continue\n    elif b: pass\n", [2]),
    "one issue a chain": ("needless_else", "def f():\n    if a: return\n    elif b: raise c\n    else: pass\n", [2]),
    "an elif that is needed": ("needless_else", "def f():\n    if a: pass\n    elif b: return\n    else: pass\n", []),
    "no else": ("needless_else", "def f():\n    if a: return 1\n    return 2\n", []),
    "unreachable": ("unreachable_code", "def f():\n    return\n    a\n    b\n", [3]),
    "unreachable after raise in a loop": ("unreachable_code", "while a:\n    raise b\n    c\n", [3]),
    "a generator's yield": ("unreachable_code", "def f():\n    return\n    yield\n", []),
    "shadowed builtins": ("shadowed_builtin", "def f(list, a):\n    id = type = 1\n", [1, 2, 2]),
    "shadowed once a scope": ("shadowed_builtin", "def f():\n    id = 1\n    id = 2\ndef max(): pass\n", [2, 4]),
    "attributes shadow nothing": ("shadowed_builtin", "class A:\n    id = 1\n    def list(self): self.type = 1\n", []),
    "star import": ("star_import", "from a import *\nfrom . import b\n", [1]),
}


@pytest.mark.parametrize(("kind", "source", "lines"), DETECTED.values(), ids=DETECTED)
def test_issues_of_one_construct(kind: str, source: str, lines: list[int]) -> None:
    assert lines_of(source, kind) == lines


MAGIC = {
    "compared": "a > 7",
    "calculated": "a * 7",
    "negative": "a > -7",
    "passed": "b(7)",
    "returned": "return 7.5",
    "chosen": "a if b else 7",
    "in a comprehension": "[i * 7 for i in a]",
    "in a lambda": "lambda: a + 7",
    "in a guard": "match a:\n        case 1 if a > 7: pass",
    "part of an assignment": "x = a + 7",
}


@pytest.mark.parametrize("body", MAGIC.values(), ids=MAGIC)
def test_magic_numbers(body: str) -> None:
    assert len(lines_of(f"def f(a, b):\n    {body}\n", "magic_number")) == 1


EXPLAINED = {
    "0, 1, 2 and negatives": "a > 0 < 1.0 < -1 != 2",
    "truth values": "a > True",
    "named": "timeout = 7",
    "named with a type": "timeout: int = -7",
    "named on the way": "b(timeout := 7)",
    "a constant of the function": "DAY = 24 * 60",
    "an attribute": "a.timeout = 7",
    "a keyword": "b(timeout=7)",
    "data": "return [7, (8, 9), {'a': 7}, {7}]",
    "indexes": "a[7], a[3:9], a[7, 8]",
    "a pattern": "match a:\n        case 7 | [8] | {'a': 9}: pass",
    "an annotation": "x: Literal[7]",
    "an f-string": "f'{a * 7:{7}}'",
    "a default": "def g(x=7): pass",
    "a decorator": "@b(7)\n    def g(): pass",
    "identity, another mistake": "a is 7",
    "a string": "'7'",
}


@pytest.mark.parametrize("body", EXPLAINED.values(), ids=EXPLAINED)
def test_numbers_that_are_not_magic(body: str) -> None:
    assert lines_of(f"def f(a, b):\n    {body}\n", "magic_number") == []


def test_numbers_outside_of_functions() -> None:
    source = code("""
        DAY = 24 * 60
        class A:
            x = y * 7
        if DAY > 9: pass
        """)
    assert lines_of(source, "magic_number") == [4]


UNUSED = {
    "assigned": ("x = 1", 1),
    "assigned with a type": ("x: int = 1", 1),
    "assigned twice": ("x = 1\n    x = 2", 2),
    "used": ("x = 1\n    return x", 0),
    "only declared": ("x: int", 0),
    "augmented": ("x = 1\n    x += 1", 0),
    "deleted": ("x = 1\n    del x", 0),
    "used by a nested function": ("x = 1\n    def g(): return x", 0),
    "set by a nested function": ("x = 1\n    def g():\n        nonlocal x\n        x = 2\n    return g", 0),
    "used in a comprehension": ("x = 1\n    return [x for i in a]", 0),
    "used in an f-string": ("x = 1\n    return f'{x=}'", 0),
    "global": ("global x\n    x = 1", 0),
    "a parameter": ("a = 1", 0),
    "underscore": ("_ = a\n    _x = 1\n    __tracebackhide__ = True", 0),
    "unpacked": ("x, y = a\n    [z] = a", 0),
    "a loop's": ("for x in a: pass", 0),
    "a with's": ("with a as x: pass", 0),
    "captured": ("match a:\n        case [x]: pass", 0),
    "walrus": ("b(x := 1)", 0),
    "an attribute of a class": ("class A:\n        x = 1\n    return A", 0),
    "locals": ("x = 1\n    return locals()", 0),
    "eval": ("x = 1\n    return eval('x')", 0),
    "vars without an object": ("x = 1\n    return vars()", 0),
    "vars of an object": ("x = 1\n    return vars(a)", 1),
    "several targets": ("x = y = 1", 0),
    "frames": ("x = 1\n    sys._getframe().f_locals", 0),
}


@pytest.mark.parametrize(("body", "count"), UNUSED.values(), ids=UNUSED)
def test_unused_variables(body: str, count: int) -> None:
    assert len(lines_of(f"def f(a, b):\n    {body}\n", "unused_variable")) == count


IMPORTS = {
    "unused": ("import os\n", [1]),
    "one of two": ("import os, sys\nsys\n", [1]),
    "from": ("from os import path, sep as s\npath\n", [1]),
    "used": ("import os\nos.path\n", []),
    "dotted": ("import os.path\nos\n", []),
    "in an annotation that is a string": ("import os\ndef f(a: 'os.PathLike[str] | None'): pass\n", []),
    "in a type comment": ("import os\na = []  # type: list[os.PathLike]\n", []),
    "in a doctest": ("import os\ndef f():\n    '''>>> os.sep'''\n", []),
    "in prose": ("import os\ndef f():\n    '''The os of it.'''\n", [1]),
    "in __all__": ("import os\n__all__ = ['os']\n", []),
    "exported again": ("from os import path as path\n", []),
    "future": ("from __future__ import annotations\n", []),
    "noqa": ("import os  # noqa: F401\n", []),
    "optional": ("try:\n    import os\nexcept ImportError:\n    pass\n", []),
    "conditional": ("if a:\n    import os\n", []),
    "in a function": ("def f():\n    import os\n", [2]),
    "deleted": ("import os\ndel os\n", []),
}


@pytest.mark.parametrize(("source", "lines"), IMPORTS.values(), ids=IMPORTS)
def test_unused_imports(source: str, lines: list[int]) -> None:
    assert lines_of(source + "def main(): pass\n", "unused_import") == lines


def test_modules_that_gather_names_may_import_them_unused() -> None:
    assert lines_of("import os\nfrom a import b\n__all__ = []\n", "unused_import") == []
    assert lines_of("import os\ndef f(): pass\n", "unused_import", "package/__init__.py") == []


def test_missing_docstrings() -> None:
    source = code('''
        import a
        class Public:
            def method(self): pass
            def _private(self): pass
            def __eq__(self, other): pass
            @property
            def name(self): pass
            @name.setter
            def name(self, value): pass
            @typing.override
            def inherited(self): pass
            class Inner:
                """Text."""
        class _Private:
            def method(self): pass
        @overload
        def f(): ...
        def f():
            def nested(): pass
            class Local: pass
        async def g():
            """Text."""
        ''')
    assert lines_of(source, "missing_docstring") == [1, 2, 3, 7, 18]
    assert lines_of("", "missing_docstring") == []
    assert lines_of("# a comment\n", "missing_docstring") == []


def test_sizes_beyond_the_limits() -> None:
    long = "".join(f"    a{number}()\n\n    # more\n" for number in range(50))
    decisions = "".join(f"    if a{number}: pass\n" for number in range(10))
    deep = "".join("    " * depth + "if a:\n" for depth in range(1, 5))
    assert found(f"def _f():\n{long}", "long_function") == [("long_function", 1)]
    assert found(f"def _f():\n{long[12:]}", "long_function") == []
    assert lines_of(f"def _f():\n{decisions}", "high_complexity") == [1]
    assert lines_of(f"def _f():\n{decisions[18:]}", "high_complexity") == []
    assert lines_of(f"def _f():\n{deep}{'    ' * 5}pass\n", "deep_nesting") == [1]
    assert lines_of(f"def _f():\n{deep}{'    ' * 5}{'a and b or ' * 4}c\n", "high_cognitive_complexity") == [1]
    assert lines_of("def _f(a, b, c, /, d, *e, f, g, **h): pass\n", "too_many_parameters") == [1]
    assert lines_of("class _A:\n    def f(self, a, b, *c, d, e, f): pass\n", "too_many_parameters") == []


def test_an_issue_knows_its_place() -> None:
    issue = invoke("review_analyse", "def _f(a):\n    return 'äöü', a == None\n")["issues"][-1]
    assert {key: value for key, value in issue.items() if key != "node"} == {
        "type": "comparison_to_none",
        "severity": "medium",
        "line": 2,
        "column": 19,
        "function": "_f",
        "message": "None is compared by equality",
    }


def test_every_issue_type_has_a_rule_and_every_fixer_exists() -> None:
    rules = invoke("review_rules")
    assert {rule.severity for rule in rules.values()} == {"high", "medium", "low"}
    assert all(rule.weight > 0 for rule in rules.values())
    assert {rule.fixer for rule in rules.values()} - {None} <= set(WORKFLOW.tools)
    assert {kind for kind, _, _ in DETECTED.values()} <= set(rules)


def test_the_score_falls_with_weight_and_rises_with_size() -> None:
    def score(counts: dict[str, int], statements: int) -> float:
        return float(invoke("review_score", counts, statements))

    assert score({}, 0) == 10.0
    assert score({"needless_else": 1}, 100) > score({"bare_except": 1}, 100) > score({"bare_except": 2}, 100) > 0
    assert score({"bare_except": 5}, 30) < score({"bare_except": 5}, 60)
    assert score({"missing_docstring": 5}, 8) == 5.56
