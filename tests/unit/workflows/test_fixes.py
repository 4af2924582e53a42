"""What each fix does to a text, byte by byte, and what it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.workflows.canonical import canonical
from tests.unit.workflows.workbench import fixed, invoke, lines_of

FOLDER = Path(__file__).with_name("fixes")


def cases() -> Iterator[object]:
    """One for each `=== name` in a fixer's file: code, and after an arrow what becomes of it, if anything does."""
    for file in sorted(FOLDER.glob("*.txt")):
        for case in re.split("^=== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name, _, text = case.partition("\n")
            before, arrow, after = text.partition("--->\n")
            yield pytest.param(f"review_fix_{file.stem}", before, after if arrow else before, id=f"{file.stem}: {name}")


@pytest.mark.parametrize(("fixer", "before", "after"), list(cases()))
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_fix(fixer: str, before: str, after: str, newline: str) -> None:
    kinds = [kind for kind, rule in invoke("review_rules").items() if rule.fixer == fixer]
    assert any(lines_of(before, kind) for kind in kinds), "the test shows no issue"
    result = fixed(before.replace("\n", newline), fixer)
    assert result == after.replace("\n", newline)
    assert fixed(result, fixer) == result
    assert canonical(result, before) == canonical(before)


MODULES = {
    "first": ("import a\n", '"""Example module."""\n\nimport a\n'),
    "names": (
        "def f():\n    '''T.'''\nclass B:\n    '''T.'''\n",
        "\"\"\"Example: f and B.\"\"\"\n\ndef f():\n    '''T.'''\nclass B:\n    '''T.'''\n",
    ),
    "after the heading": ("#!/bin/x\n# text\n\na = 1\n", '#!/bin/x\n# text\n"""Example module."""\n\na = 1\n'),
    "before the future": (
        "\nfrom __future__ import annotations\n",
        '"""Example module."""\n\nfrom __future__ import annotations\n',
    ),
    "a byte order mark stays first": ("\ufeffa = 1\n", '\ufeff"""Example module."""\n\na = 1\n'),
    "no newline at the end": ("a = 1", '"""Example module."""\n\na = 1'),
    "old line ends": ("a = 1\rb = 2\r", '"""Example module."""\r\ra = 1\rb = 2\r'),
}


@pytest.mark.parametrize(("before", "after"), MODULES.values(), ids=MODULES)
def test_a_module_gets_its_docstring(before: str, after: str) -> None:
    assert fixed(before, "review_fix_docstrings", "lib/example.py") == after


def test_edits_that_overlap_are_refused() -> None:
    model = invoke("review_parse", "abc = 1\n")
    with pytest.raises(ValueError, match="line 1, column 1"):
        invoke("review_edit", model, [(1, 0, 1, 2, ""), (1, 1, 1, 3, "")])


def test_a_diff_can_be_applied_where_the_last_line_has_no_end() -> None:
    assert invoke("review_diff", "a\nb", "a\nc", "x.py") == (
        "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n"
        "-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"
    )
    assert invoke("review_diff", "a\x0cb\n", "a\x0cb\n") == ""
