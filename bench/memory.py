"""Memory of a sandbox that waits, and of the platform that keeps it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

import docker
from bench.machine import children, rollup_mb, rss_mb
from bench.pools import bench_settings, full_and_quiet, opened
from bench.report import Figure
from served import containers_of, serve

_STOCK = 4
_MIB = 1024 * 1024


async def _idle() -> list[Figure]:
    async with opened(bench_settings(pool_min=_STOCK, pool_max=_STOCK)) as pool:
        await full_and_quiet(pool, _STOCK, 1.0)
        return await asyncio.to_thread(_look)


def _look() -> list[Figure]:
    client = docker.APIClient()
    used, supervisors, forked = [], [], []
    try:
        for container in containers_of("bench"):
            stats = client.stats(container, stream=False, one_shot=True)
            used.append(int(stats["memory_stats"]["usage"]) / _MIB)
            pid = int(client.inspect_container(container)["State"]["Pid"])
            supervisors.append(rollup_mb(pid))
            forked += [rollup_mb(child) for child in children(pid)]
    finally:
        client.close()
    figures = [Figure("a sandbox that waits, its cgroup", f"{statistics.median(used):.1f} MB")]
    for who, seen in (("its supervisor", supervisors), ("its child", forked)):
        if seen:
            rss, pss = (statistics.median(column) for column in zip(*seen, strict=True))
            figures.append(Figure(f"{who}, RSS and PSS", f"{rss:.1f} and {pss:.1f} MB"))
    return figures


def measure(_quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Look at both, idle."""
    figures = asyncio.run(_idle())
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), "bench") as platform:
        platform.run_function("def noop(state):\n    pass\n", name="noop")
        figures.append(Figure("the platform after its first run, RSS", f"{rss_mb(platform.process.pid):.0f} MB"))
    return figures
