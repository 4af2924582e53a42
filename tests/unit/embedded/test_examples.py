"""The examples of docs/python-api.md do what it says they do."""

from __future__ import annotations

import linecache
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sandgraph import tools

PAGE = Path(__file__).resolve().parents[3] / "docs" / "python-api.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_example(code: str, printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_own", {})
    trusting = code.replace("WorkflowEngine()", 'WorkflowEngine(sandbox="inprocess")')
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    monkeypatch.setitem(linecache.cache, "example.py", (len(code), None, code.splitlines(keepends=True), "example.py"))
    exec(compile(trusting, "example.py", "exec"), vars(module))
    assert capsys.readouterr().out == printed


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3
