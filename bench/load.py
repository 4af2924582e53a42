"""A hundred clients at one platform, submitting, polling and tailing, while every core is busy."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench.report import Figure, at_most, milliseconds, note, percentile
from load import Load
from served import serve

_CLIENTS = 100
_SECONDS, _QUICK_SECONDS = 120.0, 15.0
_DRAIN_S = 900.0
_P99_MS = 100.0

#: As many as end up waiting when nobody takes more than the machine can do: the others are told to come back.
_QUEUED = 60


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Let them work, and look at what each was answered; the clients share the machine with the platform."""
    seconds = _QUICK_SECONDS if quick else _SECONDS
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), "bench-load", max_queued_runs=_QUEUED) as served:
        report = asyncio.run(Load(served.url).go(_CLIENTS, seconds, _DRAIN_S))
    for error in report.errors[:10]:
        note(f"… {error}")
    found = report.all_latencies()
    slowest = {what: percentile(each, 99) for what, each in report.latencies.items()}
    note("… p99 by route: " + ", ".join(f"{what} {milliseconds(each)}" for what, each in sorted(slowest.items())))
    what = f"{_CLIENTS} clients for {seconds:.0f} s, {len(found)} requests, {len(report.accepted)} runs"
    return [
        Figure(f"{what}: p50", milliseconds(statistics.median(found))),
        at_most(f"{what}: p99", percentile(found, 99) * 1000, _P99_MS, "ms"),
        at_most(f"{what}: errors other than 429, runs lost, holes in {report.tailed} tails", len(report.errors), 0, ""),
        Figure("told to come back (429)", str(report.statuses[429])),
    ]
