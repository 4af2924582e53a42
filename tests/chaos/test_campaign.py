"""`make chaos` is what its page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from chaos_campaign import IN_PROCESS

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "setup.md").read_text()


@pytest.mark.parametrize(
    ("variable", "option"), [("MINUTES=3", "--minutes 3"), ("SEED=5", "--seed 5"), ("DOCKER=1", "--docker")]
)
def test_its_variables_are_those_of_the_page(variable: str, option: str) -> None:
    said = subprocess.run(
        ["make", "--dry-run", "chaos", variable], cwd=_ROOT, capture_output=True, text=True, check=True, timeout=20
    ).stdout
    assert option in said
    assert re.search(rf"^make chaos .*\b{variable}\b", _PAGE, re.MULTILINE)


def test_its_rounds_have_as_much_of_the_matrix_as_the_page_says() -> None:
    assert "A round has a quarter of all points" in _PAGE
    assert IN_PROCESS.shards == 4
