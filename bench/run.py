"""What a node costs, beside what one pays without Sandgraph; medians and ratios from one run on this machine.

make bench            # or: python bench/run.py [rounds]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence

import docker
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sandgraph.model.limits import Limits
from sandgraph.model.run import LogLine
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Owner, Succeeded
from sandgraph.settings import Settings, load_settings
from sandgraph_runner.protocol import Job, Source

_NOOP = Job(function=Source("noop", "def noop(state):\n    pass\n"))
_STATE = json.dumps({"text": "x" * 1000}).encode()


async def _no_lines(_: Sequence[LogLine]) -> None:
    pass


async def _leased(pool: SandboxPool, limits: Limits) -> float:
    began = time.perf_counter()
    async with pool.lease(limits, Owner("bench", "noop", 1, 1)) as sandbox:
        outcome = await sandbox.execute(_NOOP, _STATE, timeout_s=10, on_log=_no_lines)
        seconds = time.perf_counter() - began
    if not isinstance(outcome, Succeeded):
        raise SystemExit(f"the no-op ended as {outcome}")
    return seconds


async def _pooled(settings: Settings, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds from lease to result with a sandbox waiting, and with none."""
    warm = []
    pool = SandboxPool(settings)
    await pool.start()
    try:
        for _ in track(range(rounds), "warm sandboxes"):
            while not pool.facts()["waiting"]:  # noqa: ASYNC110 - the pool tells nobody when it is full
                await asyncio.sleep(0.02)
            # What refills the pool must not be measured with what uses it.
            await asyncio.sleep(0.5)
            warm.append(await _leased(pool, Limits()))
        cold = [await _leased(pool, Limits(tmp_mb=17)) for _ in track(range(rounds), "cold starts")]
    finally:
        await pool.close()
    return warm, cold


def _bare(client: docker.DockerClient, image: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of the SDK's create, start, wait, remove, and of an exec in a running container."""
    whole, execs = [], []
    for _ in track(range(rounds), "create + start + wait + remove"):
        began = time.perf_counter()
        container = client.containers.create(image, ["-c", "pass"], entrypoint="python3", network_mode="none")
        container.start()
        container.wait()
        container.remove(force=True)
        whole.append(time.perf_counter() - began)
    running = client.containers.run(
        image, ["-c", "import time; time.sleep(600)"], entrypoint="python3", network_mode="none", detach=True
    )
    try:
        for _ in track(range(rounds), "docker exec"):
            began = time.perf_counter()
            running.exec_run(["python3", "-c", "pass"])
            execs.append(time.perf_counter() - began)
    finally:
        running.remove(force=True)
    return whole, execs


def main() -> None:
    """Measure, and print one table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    settings = load_settings(deployment="bench", pool_min=2)
    warm, cold = asyncio.run(_pooled(settings, rounds))
    client = docker.from_env()
    try:
        whole, execs = _bare(client, settings.runner_image, rounds)
    finally:
        client.close()
    base = statistics.median(warm)
    table = Table(title=f"A no-op over 1 KB of state, {rounds} rounds")
    for column in ("what", "median", "slowest", "times a warm sandbox"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, seconds in (
        ("sandbox from the pool, lease to result", warm),
        ("sandbox started for it", cold),
        ("docker exec into a running container", execs),
        ("SDK create + start + wait + remove", whole),
    ):
        middle = statistics.median(seconds)
        table.add_row(name, f"{middle * 1000:.1f} ms", f"{max(seconds) * 1000:.1f} ms", f"{middle / base:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
