"""A hundred clients at one platform, submitting, polling and tailing, while every core is busy."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench.report import Figure, at_most, milliseconds, note, percentile
from load import Load, Report
from served import serve

_CLIENTS = 100
_SECONDS, _QUICK_SECONDS = 120.0, 15.0
_DRAIN_S = 900.0
_P99_MS = 100.0

#: As many runs as the machine gets done in a quarter of a minute; whoever comes later is told to come back.
_QUEUED = 60


async def _load(url: str, seconds: float) -> tuple[Report, dict[str, list[float]]]:
    """Let the clients work, and another process look at the clock: theirs share one, and wait for each other."""
    latencies: dict[str, list[float]] = {}
    load = Load(url)

    async def probe(graph_id: str) -> None:
        script = str(Path(__file__).with_name("probe.py"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, url, graph_id, str(seconds), stdout=asyncio.subprocess.PIPE
        )
        told = json.loads((await process.communicate())[0])
        latencies.update(told["latencies"])
        load.report.errors += told["failures"]

    report = await load.go(_CLIENTS, seconds, _DRAIN_S, meanwhile=probe)
    return report, latencies


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Let them work, and look at what each was answered; the clients share the machine with the platform."""
    seconds = _QUICK_SECONDS if quick else _SECONDS
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), "bench-load", max_queued_runs=_QUEUED) as served:
        report, latencies = asyncio.run(_load(served.url, seconds))
    for error in report.errors[:10]:
        note(f"… {error}")
    slowest = sorted((what, percentile(each, 99)) for what, each in latencies.items())
    note("… p99 by route: " + ", ".join(f"{what} {milliseconds(each)}" for what, each in slowest))
    found = [each for some in latencies.values() for each in some]
    what = (
        f"{_CLIENTS} clients for {seconds:.0f} s, {len(report.all_latencies())} requests, {len(report.accepted)} runs"
    )
    return [
        Figure(f"{what}: a further client's answers, p50 of {len(found)}", milliseconds(statistics.median(found))),
        at_most("the same, p99", percentile(found, 99) * 1000, _P99_MS, "ms"),
        Figure("the hundred's own, p99: they are one process", milliseconds(percentile(report.all_latencies(), 99))),
        at_most(f"errors other than 429, runs lost, holes in {report.tailed} tails", len(report.errors), 0, ""),
        Figure("told to come back (429)", str(report.statuses[429])),
    ]
