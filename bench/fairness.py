"""One tenant's single run, alone and beside 1,500 runs of another."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench.pools import bench_settings
from bench.report import Figure, at_most, milliseconds, note
from flood import measure as measure_flood

_FLOOD = 1_500
_SINGLES, _QUICK_SINGLES = 15, 5
_RATIO = 2.0


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure the same run in both ways, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        singles = _QUICK_SINGLES if quick else _SINGLES
        found = asyncio.run(measure_flood(Path(folder), bench_settings(), flood=_FLOOD, singles=singles))
    note(f"… {found.waiting} of {_FLOOD} runs waited still at the end")
    alone, beside = statistics.median(found.alone), statistics.median(found.beside)
    return [
        Figure("a single run of two attempts, alone", milliseconds(alone)),
        Figure(f"the same beside {_FLOOD} runs of another tenant", milliseconds(beside)),
        Figure("the longest of them", milliseconds(max(found.beside))),
        at_most("beside the flood, as a multiple of alone", beside / alone, _RATIO, "x"),
    ]
