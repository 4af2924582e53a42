"""Writes docs/errors.md: every code that clients may meet. Run as ``python -m scripts.error_pages``."""

from __future__ import annotations

from pathlib import Path

from sandgraph.api.problems import TOPICS
from sandgraph.api.problems.page import Page

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"

_HEAD = """# Errors

Every code that an answer of the API, or the `error` of a run, may have. A running platform has a page for each, at the
address that the `type` of its problem documents names: `/errors/unknown_function`, as HTML in a browser and as JSON for
programs; `/errors` lists them. This page is made from the same source, by `python -m scripts.error_pages`.
"""


def render() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    for topic, pages in TOPICS.items():
        rows = "\n".join(_row(page) for page in pages)
        parts.append(f"## {topic}\n\n| code | status | what it means | what to do |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _row(page: Page) -> str:
    cells = (f"`{page.code}`", ", ".join(map(str, page.statuses)) or "—", page.means, page.todo)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE} is written.")
