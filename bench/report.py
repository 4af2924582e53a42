"""Figures, and the tables that show them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

_progress = Console(stderr=True)
_console = Console(width=None if sys.stdout.isatty() else 120)
_VERDICTS = {True: "met", False: "missed", None: ""}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table.

    Attributes:
        what: What was measured.
        value: The figure with its unit.
        target: What it shall be; empty for what only stands beside it.
        met: Whether it is.
    """

    what: str
    value: str
    target: str = ""
    met: bool | None = None


def at_most(what: str, value: float, limit: float, unit: str) -> Figure:
    """Make a figure that shall not be over its limit."""
    return Figure(what, f"{value:.3g} {unit}", f"at most {limit:g} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Figure:
    """Make a figure that shall not be under its limit."""
    return Figure(what, f"{value:.3g} {unit}", f"at least {limit:g} {unit}", value >= limit)


def milliseconds(seconds: float) -> str:
    """Show a time."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def note(text: str) -> None:
    """Tell how far it is."""
    _progress.print(text, highlight=False, soft_wrap=True)


def table(title: str, figures: Sequence[Figure]) -> None:
    """Show what one benchmark found."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("what", overflow="fold")
    for column in ("figure", "target", ""):
        shown.add_column(column, justify="right")
    for figure in figures:
        shown.add_row(figure.what, figure.value, figure.target, _VERDICTS[figure.met])
    _console.print(shown)


def closing(figures: Sequence[Figure], seconds: float) -> None:
    """Show each target and whether it was met."""
    judged = [figure for figure in figures if figure.met is not None]
    met = sum(figure.met is True for figure in judged)
    table(f"Summary: {met} of {len(judged)} targets met, {seconds:.0f} s in all", judged)


def markdown(header: str, figures: Sequence[Figure]) -> None:
    """Print the table for the page."""
    lines = [f"{header}", "", "| what | figure | target | |", "|---|---|---|---|"]
    lines += [f"| {each.what} | {each.value} | {each.target} | {_VERDICTS[each.met]} |" for each in figures]
    sys.stdout.write("\n".join(lines) + "\n")
