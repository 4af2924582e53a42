"""Attempts a second, each in a container of its own, as a ratio of what the engine gives without us."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.bare import Bare
from bench.pools import attempt, bench_settings, full_and_quiet, opened
from bench.report import Figure, at_least, note

from sandgraph.sandbox.pool import SandboxPool

_RATIO = 0.9
_PARALLELISM = (1, 2, 4, 6)
_SLOTS = (4, 6, 8)
_STOCK, _MOST = 2, 4


async def _sustained(pool: SandboxPool, slots: int, count: int) -> float:
    """Return attempts a second once what was in stock at first is used up."""
    left = 0

    async def slot() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await attempt(pool)

    async def through(number: int) -> None:
        nonlocal left
        left = number
        await asyncio.gather(*(slot() for _ in range(slots)))

    await through(_MOST + slots)
    began = time.perf_counter()
    await through(count)
    return count / (time.perf_counter() - began)


async def _measure(bare: Bare, rounds: int, count: int) -> list[Figure]:
    best = {}
    for name, config in (("plain flags", bare.plain()), ("our profile", bare.hardened())):
        rates = {each: await asyncio.to_thread(bare.rate, config, each, count // 2) for each in _PARALLELISM}
        best[name] = max(rates, key=rates.__getitem__)
        note(f"… bare, {name}: " + ", ".join(f"{rate:.1f}/s by {each}" for each, rate in rates.items()))
    settings = bench_settings(
        pool_min=_STOCK, pool_max=_MOST, pool_refill_parallelism=best["our profile"], worker_slots=max(_SLOTS)
    )
    seen: dict[str, list[float]] = {"plain flags": [], "our profile": [], "pool": []}
    async with opened(settings) as pool:
        by_slots = {slots: await _sustained(pool, slots, count // 2) for slots in _SLOTS}
        slots = max(by_slots, key=by_slots.__getitem__)
        note("… pool: " + ", ".join(f"{rate:.1f}/s by {each}" for each, rate in by_slots.items()))
        # In turns, so that a machine that gets slower or faster does so for all of them.
        for number in range(rounds):
            for name, config in (("plain flags", bare.plain()), ("our profile", bare.hardened())):
                await full_and_quiet(pool, _STOCK, 0.7)
                seen[name].append(await asyncio.to_thread(bare.rate, config, best[name], count))
            seen["pool"].append(await _sustained(pool, slots, count))
            note(f"… round {number + 1}: " + ", ".join(f"{name} {rates[-1]:.1f}/s" for name, rates in seen.items()))
    figures = [
        Figure(f"SDK, {name}, {best[name]} at a time", f"{statistics.median(seen[name]):.1f} /s") for name in best
    ]
    figures.append(Figure(f"pool, {slots} slots", f"{statistics.median(seen['pool']):.1f} /s"))
    for name in best:
        ratios = [ours / theirs for ours, theirs in zip(seen["pool"], seen[name], strict=True)]
        figures.append(at_least(f"pool over the SDK with {name}", statistics.median(ratios), _RATIO, "x"))
    return figures


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure both sides in turns."""
    bare = Bare(bench_settings().runner_image)
    try:
        return asyncio.run(_measure(bare, 1 if quick else 3, 16 if quick else 32))
    finally:
        bare.close()
