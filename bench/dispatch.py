"""A no-op over 1 KB of state, from lease to result, in a sandbox that waits; beside it what a container costs."""

from __future__ import annotations

import asyncio
import statistics

from bench.bare import Bare
from bench.pools import attempt, bench_settings, full_and_quiet, opened
from bench.report import Figure, at_most, milliseconds, note, percentile

_P50_MS, _P99_MS = 3.0, 15.0
_STOCK = 8
#: Seconds after the pool is full: the engine still cleans up behind the last removal.
_QUIET_S = 0.2


async def _warm(alone: int, bursts: int) -> tuple[list[float], list[float]]:
    """Return the seconds of attempts with nothing else going on, and of those in bursts that empty the pool."""
    settings = bench_settings(pool_min=_STOCK, pool_max=_STOCK)
    single, burst = [], []
    async with opened(settings) as pool:
        await full_and_quiet(pool, _STOCK, 1.0)
        for _ in range(alone):
            await full_and_quiet(pool, _STOCK, _QUIET_S)
            single.append(await attempt(pool))
        for _ in range(bursts):
            await full_and_quiet(pool, _STOCK, _QUIET_S)
            burst += [await attempt(pool) for _ in range(_STOCK)]
    return single, burst


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure the two in turns of their own."""
    single, burst = asyncio.run(_warm(20 if quick else 100, 1 if quick else 4))
    median = statistics.median(single)
    figures = [
        at_most(f"warm sandbox, lease to result, p50 of {len(single)}", median * 1000, _P50_MS, "ms"),
        at_most("warm sandbox, lease to result, p99", percentile(single, 99) * 1000, _P99_MS, "ms"),
        Figure(f"{_STOCK} one after another, while the pool refills, p50", milliseconds(statistics.median(burst))),
    ]
    note("… and the engine without us")
    rounds = 3 if quick else 9
    bare = Bare(bench_settings().runner_image)
    try:
        with bare.running() as container:
            beside = {
                "docker exec into a running container": [bare.execute(container) for _ in range(rounds)],
                "SDK create, start, wait, remove": [bare.whole(bare.plain()) for _ in range(rounds)],
                "the same in our profile": [bare.whole(bare.hardened()) for _ in range(rounds)],
                "docker run": [bare.command(hardened=False) for _ in range(rounds)],
                "docker run with hardened flags": [bare.command(hardened=True) for _ in range(rounds)],
            }
    finally:
        bare.close()
    for what, seconds in beside.items():
        middle = statistics.median(seconds)
        figures.append(Figure(what, f"{milliseconds(middle)}, {middle / median:.0f} x"))
    return figures
