"""``isolation: run``: attempts a second, one after another, in the sandbox that a run keeps."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.pools import attempt, bench_settings, full_and_quiet, opened
from bench.report import Figure, at_least, milliseconds, percentile

from sandgraph.model.limits import Isolation

_A_SECOND = 250.0


async def _chain(count: int) -> tuple[float, list[float]]:
    async with opened(bench_settings(pool_min=2)) as pool:
        await full_and_quiet(pool, 2, 1.0)
        # The first takes a sandbox from the pool, which then fills up again.
        await attempt(pool, run_id="chain", isolation=Isolation.RUN)
        await full_and_quiet(pool, 2, 1.0)
        began = time.perf_counter()
        each = [await attempt(pool, run_id="chain", isolation=Isolation.RUN) for _ in range(count)]
        seconds = time.perf_counter() - began
        await pool.end_run("chain")
    return count / seconds, each


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Run no-ops of one run, one after another; the median of three chains."""
    chains = [asyncio.run(_chain(100 if quick else 400)) for _ in range(1 if quick else 3)]
    each = [seconds for _, times in chains for seconds in times]
    return [
        at_least("isolation run, one after another", statistics.median(rate for rate, _ in chains), _A_SECOND, "/s"),
        Figure("one of them, lease to result, p50", milliseconds(statistics.median(each))),
        Figure("the same, p99", milliseconds(percentile(each, 99))),
    ]
