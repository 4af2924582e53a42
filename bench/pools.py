"""Pools to measure, and one attempt through them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import LogLine
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Owner, Succeeded
from sandgraph.settings import Settings, load_settings
from sandgraph_runner.protocol import Job, Source

NOOP = Job(function=Source("noop", "def noop(state):\n    pass\n"))
STATE_1_KB = json.dumps({"text": "x" * 1000}).encode()

_FULL_S = 60.0


def bench_settings(**options: object) -> Settings:
    """Return the settings of a deployment of our own."""
    return load_settings(deployment="bench", **options)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[SandboxPool]:
    """Start a pool for the length of the block."""
    pool = SandboxPool(settings)
    try:
        await pool.start()
        yield pool
    finally:
        await pool.close()


async def full_and_quiet(pool: SandboxPool, wanted: int, quiet_s: float) -> None:
    """Wait until so many sandboxes wait, and then until the engine has settled down."""
    async with asyncio.timeout(_FULL_S):
        while int(str(pool.facts()["waiting"])) < wanted:  # noqa: ASYNC110 - the pool tells nobody when it is full
            await asyncio.sleep(0.02)
    await asyncio.sleep(quiet_s)


async def attempt(
    pool: SandboxPool,
    job: Job = NOOP,
    state: bytes = STATE_1_KB,
    *,
    run_id: str = "bench",
    isolation: Isolation = Isolation.NODE,
) -> float:
    """Run one attempt and return its seconds from lease to result.

    Raises:
        SystemExit: It did not succeed; what follows would measure something else.
    """
    began = time.perf_counter()
    async with pool.lease(Limits(), Owner(run_id, "node", 1, 1), isolation=isolation) as sandbox:
        outcome = await sandbox.execute(job, state, timeout_s=20, on_log=_no_lines)
        seconds = time.perf_counter() - began
    if not isinstance(outcome, Succeeded):
        raise SystemExit(f"an attempt ended as {outcome}")
    return seconds


async def _no_lines(_: Sequence[LogLine]) -> None:
    pass
