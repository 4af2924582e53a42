"""What large states cost: time from lease to result, and copies in the worker."""

from __future__ import annotations

import asyncio
import json
import statistics
import tracemalloc
from collections.abc import Sequence

from bench.pools import attempt, bench_settings, full_and_quiet, opened
from bench.report import Figure, at_most, milliseconds, note

from sandgraph.execution.transport import Assignment
from sandgraph.execution.worker import Worker
from sandgraph.model.limits import Limits
from sandgraph.model.run import LogLine, NodeRunKey, Usage
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Succeeded
from sandgraph_runner.protocol import Job, Source

_COPIES = 3.0
#: How much a KB of the largest state may cost, over one of a smaller: linear, and what medians differ by.
_GROWTH = 1.2
_SIZES_KB = (1, 100, 1000, 4000)
_KEYS = 10
_MAX_BYTES = 8 * 1024 * 1024
_MAX_VALUES = 1000
_JOBS = {
    "one key set": "def node(state):\n    state.set('key0', state.get('key0')[::-1])\n",
    "all keys set": "def node(state):\n    return {key: 'y' + text[1:] for key, text in state.to_dict().items()}\n",
}


def _state(kilobytes: int) -> dict[str, str]:
    return {f"key{number}": "x" * (kilobytes * 1000 // _KEYS) for number in range(_KEYS)}


async def _times(pool: SandboxPool, rounds: int) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for name, code in _JOBS.items():
        job = Job(function=Source("node", code), max_result_bytes=_MAX_BYTES)
        for size in _SIZES_KB:
            state, seconds = json.dumps(_state(size)).encode(), []
            for _ in range(rounds):
                await full_and_quiet(pool, 2, 0.15)
                seconds.append(await attempt(pool, job, state))
            found.setdefault(name, {})[size] = statistics.median(seconds)
        note(f"… {name}: " + ", ".join(f"{size} KB {milliseconds(each)}" for size, each in found[name].items()))
    return found


async def _copies(pool: SandboxPool, code: str, kilobytes: int) -> float:
    """Return the peak of what the worker allocates during an attempt, over the state's size."""
    worker = Worker(pool, 1)
    job = Job(function=Source("node", code), max_result_bytes=_MAX_BYTES)
    await full_and_quiet(pool, 2, 0.3)
    state = _state(kilobytes)
    assignment = Assignment("bench", NodeRunKey("node", 1), 1, job, state, Limits(), _MAX_BYTES, _MAX_VALUES)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        outcome = await worker.perform(assignment, _no_lines, _not_stopped)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if not isinstance(outcome, Succeeded):
        raise SystemExit(f"an attempt ended as {outcome}")
    return (peak - before) / (kilobytes * 1000)


async def _measure(rounds: int) -> list[Figure]:
    figures = []
    async with opened(bench_settings(pool_min=2)) as pool:
        for name, seconds in (await _times(pool, rounds)).items():
            least, *between, largest = _SIZES_KB
            shown = ", ".join(f"{size} KB {milliseconds(each)}" for size, each in seconds.items())
            figures.append(Figure(f"{name}, lease to result", shown))
            a_kb = {size: (seconds[size] - seconds[least]) / (size - least) for size in (*between, largest)}
            figures += [
                at_most(f"{name}: a KB of {largest} over a KB of {size}", a_kb[largest] / a_kb[size], _GROWTH, "x")
                for size in between
            ]
        for name, code in _JOBS.items():
            for size in _SIZES_KB[2:]:
                # The worst of them: what a thread still holds when the next step begins is a matter of luck.
                copies = max([await _copies(pool, code, size) for _ in range(rounds)])
                figures.append(at_most(f"{name}: copies of {size} KB in the worker", copies, _COPIES, "x"))
    return figures


async def _no_lines(_assignment: Assignment, _lines: Sequence[LogLine]) -> None:
    pass


async def _not_stopped(_assignment: Assignment, _usage: Usage) -> None:
    pass


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Measure times first: tracing allocations slows everything down."""
    return asyncio.run(_measure(3 if quick else 7))
