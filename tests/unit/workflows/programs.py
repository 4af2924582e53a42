"""Programs for property tests: anything that compiles, with much to improve; they are not meant to run."""

from __future__ import annotations

import warnings

from hypothesis import strategies as st

#: A statement's text, whose later lines are in a string or in brackets; or headers with the blocks below them.
Statement = str | list[tuple[str, "Block"]]
Block = list[Statement]

SIMPLE = (
    "pass",
    "a",
    "x = 1",
    "x = y",
    "y: int = -3  # why",
    "z = a(7)",
    "w = b(b, c=9)",
    "x = 3; y = 4",
    "b += 11",
    "b = (yes :=\n        5)",
    "a, b = b, 12",
    "del b",
    "import os",
    "from os import path, sep",
    "assert (a, 'é')",
    "b[3:9] = [a == None, None!=b, c == True]",
    "c = lambda q=[]: q * 8",
    "f'{a == None!r:>{7}} {b * 9}'",
    "# a comment",
    "type = 15 if (a in b) == False else 16",
    "nice = [i * 17 for i in a if i == None]",
    "'a string' \"in pieces\"",
    "x = {'k': [1, None], 2: ()}",
    "b = '''über\n  zwei\n      Zeilen''' + a",
    "if a == None: b = 14",
)
RETURNS = ("return", "return a, 42", "return '''ü\n    b''' + a", "raise ValueError(b) from None", "yield 6")
JUMPS = ("break", "continue")
CONDITIONS = ("a", "a == None", "b > 21", "not (a and b or a)", "(a in b) == True")


def programs() -> st.SearchStrategy[str]:
    return st.builds(_written, _functions(), st.sampled_from(["    ", "\t", " "]), st.sampled_from(["\n", "\r\n"]))


def _functions() -> st.SearchStrategy[Block]:
    body = st.recursive(st.lists(st.sampled_from((*SIMPLE, *RETURNS)), min_size=1, max_size=4), _larger, max_leaves=8)
    function = st.builds(
        lambda decorator, header, block: [decorator, [(header, block)]] if decorator else [[(header, block)]],
        st.sampled_from(["", "", "@a.b(3)"]),
        st.sampled_from(
            ["def f(a, b=[], *c, d={}):", "async def g(a: list = [1], b=22):", "def h(a, /, *,\n    b): # b"]
        ),
        body,
    )
    heading: st.SearchStrategy[Block] = st.sampled_from(
        [[], ["'''Text.'''"], ["# text", "import sys"], ["from __future__ import annotations"], ["import a; a(31)"]]
    )
    return st.builds(
        lambda head, parts: head + [s for p in parts for s in p], heading, st.lists(function, min_size=1, max_size=3)
    )


def _larger(blocks: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    test = st.sampled_from(CONDITIONS)
    jumping = st.builds(lambda block, jump: [*block, jump], blocks, st.sampled_from(JUMPS))
    chain = st.builds(
        lambda tests, bodies, last: [
            *((f"{'elif' if n else 'if'} {t}:", b) for n, (t, b) in enumerate(zip(tests, bodies, strict=False))),
            *([("else:", last)] if last else []),
        ],
        st.lists(test, min_size=1, max_size=3),
        st.lists(blocks, min_size=1, max_size=3),
        st.one_of(st.none(), blocks),
    )
    compound: st.SearchStrategy[Statement] = st.one_of(
        chain,
        st.builds(lambda t, b, e: [(f"while {t}:", [[(f"if {t}:", b), ("else:", e)]])], test, jumping, blocks),
        st.builds(lambda b, e: [("for i in a:", b), ("else:  # c", e)], st.one_of(jumping, blocks), blocks),
        st.builds(lambda b, e, f: [("try:", b), ("except:", e), ("finally:", f)], blocks, blocks, blocks),
        st.builds(lambda b: [("with a as b:", b)], blocks),
        st.builds(lambda b, c: [("match a:", [[("case 23 | [24]:", b), ("case x if x > 25:", c)]])], blocks, blocks),
        st.builds(lambda b: [("def inner(a, b={}):", b)], blocks),
        st.builds(lambda b: [("class Inner:", ["x = 26 * 2", [("def method(self):", b)]])], blocks),
    )
    return st.builds(lambda before, s, after: [*before, s, *after], blocks, compound, blocks)


def _written(block: Block, unit: str, newline: str) -> str:
    return "".join(f"{line}\n" for line in _lines(block, "", unit)).replace("\n", newline)


def _lines(block: Block, indent: str, unit: str) -> list[str]:
    lines = []
    for statement in block:
        if isinstance(statement, str):
            lines.append(indent + statement)
            continue
        for header, body in statement:
            lines += [indent + header, *_lines(body, indent + unit, unit)]
            if all(isinstance(inner, str) and inner.startswith("#") for inner in body):
                lines.append(f"{indent}{unit}pass")
    return lines


def compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "program", "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True
