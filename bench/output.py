"""What a submission that prints without end costs the platform, and the other runs."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import watched
from bench.neighbours import neighbours
from bench.report import Figure, at_most, milliseconds, note, percentile
from served import Served, serve

_GROWTH_MB = 50.0
_TIMES = 2.0
_PACE_S = 0.2
#: Seconds between floods that are cut: to start containers all the time would itself be the load.
_REST_S = 1.0
#: MiB that are allowed and stored; each line is a row, so 1 GiB of them would take minutes.
_STORED_MB = 256
_FLOOD = """
def flood{mb}(state):
    line = "x" * 1023
    for _ in range({mb} * 1024):
        print(line)
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """What went on beside one kind of flood: the seconds that other runs took, and what became of the flood."""

    what: str
    end: str
    growth_mb: float
    beside: list[float]


@contextmanager
def _flooding(platform: Served, graph_id: str, ends: list[str], took: list[float]) -> Iterator[None]:
    """Start floods, one after another, as long as the block runs; the lists get how, and after what time."""
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            began = time.perf_counter()
            run_id = platform.post("/graph/run_async", {"graph_id": graph_id})["run_id"]
            while (answer := platform.get(f"/graph/status/{run_id}"))["status"] in {"pending", "running"}:
                time.sleep(0.1)
            ends.append(str((answer["error"] or {}).get("code", answer["status"])))
            took.append(time.perf_counter() - began)
            over.wait(_REST_S)

    thread = threading.Thread(target=flood, name="flood")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beside(platform: Served, noop: str, megabytes: int, limits: Mapping[str, object], count: int) -> _Found:
    platform.register(_FLOOD.format(mb=megabytes), f"flood{megabytes}")
    flood = platform.post("/graph/create", platform.graph_of(f"flood{megabytes}", limits=limits))["graph_id"]
    ends: list[str] = []
    took: list[float] = []
    with watched(platform.process.pid) as watch, _flooding(platform, flood, ends, took):
        beside = neighbours(platform, noop, count, _PACE_S)
    what = f"{megabytes} MB printed, {'stored' if limits else 'cut at the limit'}"
    seconds = statistics.median(took)
    note(f"… {what}: {len(ends)} times, {milliseconds(seconds)} each")
    return _Found(what, f"{', '.join(sorted(set(ends)))} after {milliseconds(seconds)}", watch.growth_mb, beside)


def _figures(found: _Found, alone: list[float]) -> list[Figure]:
    ratio = percentile(found.beside, 99) / percentile(alone, 99)
    return [
        at_most(f"{found.what}: growth of the platform's memory", found.growth_mb, _GROWTH_MB, "MB"),
        Figure(f"{found.what}: how it ended", found.end),
        Figure(f"{found.what}: other runs, p50 and p99", _both(found.beside)),
        at_most(f"{found.what}: p99 of other runs over theirs alone", ratio, _TIMES, "x"),
    ]


def _both(seconds: list[float]) -> str:
    return f"{milliseconds(statistics.median(seconds))} and {milliseconds(percentile(seconds, 99))}"


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure other runs alone before, between and after floods: one kind is cut, the other stored."""
    count = 20 if quick else 100
    floods: list[tuple[int, Mapping[str, object]]] = [(1024, {})]
    if not quick:
        floods.append((_STORED_MB, {"output_kb": (_STORED_MB + 1) * 1024, "timeout_s": 120}))
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Path(folder), "bench", ceiling_output_kb=1024 * 1024) as platform,
    ):
        platform.register("def noop(state):\n    pass\n", "noop")
        noop = platform.post("/graph/create", platform.graph_of("noop"))["graph_id"]
        neighbours(platform, noop, 5, _PACE_S)
        alone = neighbours(platform, noop, count // 2, _PACE_S)
        for megabytes, limits in floods:
            found.append(_beside(platform, noop, megabytes, limits, count))
            alone += neighbours(platform, noop, count // 2, _PACE_S)
    figures = [Figure("other runs alone, p50 and p99", _both(alone))]
    for each in found:
        figures += _figures(each, alone)
    return figures
