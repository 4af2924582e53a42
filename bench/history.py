"""Long runs: what a step costs after 10,000 of them, and what it costs to read about them."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx2
from bench.engines import Workload, add, platform_for, run
from bench.report import Figure, at_most, note

from sandgraph.api.app import create_app
from sandgraph.bootstrap import Platform, services_of
from sandgraph.model.state import StateDiff
from sandgraph.store.filters import RunFilter

_GROWTH = 1.2
_PAGE_MS = 100.0
_PAGES = (100, 500)
_FORK_S = 2.0
#: Steps whose mean is one value of the median: what disturbs the machine for a second says nothing of the engine.
_BLOCK = 50
_READS = 5
_TIMEOUT_S = 600


def _counting(steps: int, signal: Path) -> Workload:
    """Return a loop, and after it a node that holds the run open until a file is there."""
    return Workload(
        "long",
        {
            "count": "def count(state):\n    return {'counter': state.get('counter') + 1}\n",
            "hold": "import os, time\n\n\ndef hold(state):\n"
            f"    while not os.path.exists({str(signal)!r}):\n        time.sleep(0.01)\n",
        },
        {"count": "count", "hold": "hold"},
        (("count", "hold"),),
        steps=steps,
        counter=steps,
        node={
            "count": {"type": "loop", "max_iterations": steps},
            "hold": {"limits": {"timeout_s": _TIMEOUT_S}},
        },
        graph={"max_steps": 2 * steps},
    )


def _printing(lines: int) -> Workload:
    return Workload(
        "printing",
        {"tell": f"def tell(state):\n    for number in range({lines}):\n        print('line', number, 'x' * 60)\n"},
        {"tell": "tell"},
        (),
        steps=1,
        counter=0,
        node={"tell": {"limits": {"timeout_s": _TIMEOUT_S, "output_kb": 16 * 1024}}},
    )


@asynccontextmanager
async def _held(platform: Platform, workload: Workload, signal: Path) -> AsyncIterator[str]:
    """Yield the id of a run once all its commits but the last are made; let it end after the block."""
    graph = await add(platform, workload)
    running = asyncio.create_task(run(platform, graph, workload))
    try:
        while True:
            runs = (await platform.store.list_runs(RunFilter(graph_id=graph.graph_id))).items
            if runs and runs[0].last_commit >= workload.steps:
                yield runs[0].run_id
                break
            if running.done():
                raise SystemExit(f"{workload.name} is over too early: {running.result()}")
            await asyncio.sleep(0.25)
        await asyncio.to_thread(signal.touch)
        await running
    finally:
        running.cancel()


async def _growth(platform: Platform, run_id: str, steps: int) -> list[Figure]:
    """Compare the first tenth of a run with its last, by the times at which its commits were stored."""
    commits = [commit.created_at for commit in await platform.store.commits(run_id)][:steps]
    tenth = steps // 10
    first, last = _step_ms(commits[: tenth + 1]), _step_ms(commits[-tenth - 1 :])
    return [
        Figure(f"a step of the first {tenth}", f"{first:.3g} ms"),
        Figure(f"a step of the last {tenth} of {steps}", f"{last:.3g} ms"),
        at_most("a step of the last over one of the first", last / first, _GROWTH, "x"),
    ]


def _step_ms(stored: Sequence[datetime]) -> float:
    marks = stored[::_BLOCK]
    blocks = [(after - before).total_seconds() * 1000 / _BLOCK for before, after in pairwise(marks)]
    return statistics.median(blocks)


class _Reader:
    """Reads what users read, and notes how long it took."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.figures: list[Figure] = []

    async def journal(self, what: str, run_id: str) -> None:
        """Read pages of a journal at its start, in its middle and at its end."""
        store = self._platform.store
        length = (await store.run_summary(run_id)).last_seq
        for size in _PAGES:
            for where, after in (("start", 0), ("middle", length // 2), ("end", length - size)):

                async def page(after: int = after, size: int = size) -> None:
                    if len(await store.journal(run_id, after=after, limit=size)) != size:
                        raise SystemExit(f"the page after {after} is not whole")

                await self._time(f"{what}: {size} records at the {where}", page)

    async def api(self, client: httpx2.AsyncClient, what: str, path: str, query: str = "") -> None:
        """Read a page of the API; the run's id is the last part of its path."""
        # A cursor says nothing to who reads the table.
        shown = "" if "cursor" in query else query

        async def get() -> None:
            (await client.get(path + query)).raise_for_status()

        await self._time(f"{what}: GET {path.rpartition('/')[0]}{shown}", get)

    async def last(self, client: httpx2.AsyncClient, what: str, path: str) -> None:
        """Read the last page of a list, each as long as the list makes it by itself."""
        query = ""
        while cursor := (await client.get(path + query)).raise_for_status().json().get("next_cursor"):
            query = f"?cursor={cursor}"
        if query:
            await self.api(client, f"{what}, the last page", path, query)

    async def fork(self, what: str, run_id: str, at: int) -> None:
        """Fork a run, and let the fork come to its end."""
        runs = self._platform.runs
        began = time.perf_counter()
        made, _ = await runs.fork(run_id, at, StateDiff(), latest=False, idempotency_key=None)
        took = time.perf_counter() - began
        await runs.wait(made.run_id, _TIMEOUT_S)
        self.figures.append(at_most(f"{what}: a fork at its end", took, _FORK_S, "s"))

    async def _time(self, what: str, read: Callable[[], Awaitable[None]]) -> None:
        seconds = []
        for _ in range(_READS):
            began = time.perf_counter()
            await read()
            seconds.append(time.perf_counter() - began)
        self.figures.append(at_most(what, statistics.median(seconds) * 1000, _PAGE_MS, "ms"))


async def _measure(steps: int, lines: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        signal = Path(folder) / "go-on"
        long, printing = _counting(steps, signal), _printing(lines)
        async with platform_for(long, printing, max_steps=max(2 * steps, 1000)) as platform:
            transport = httpx2.ASGITransport(create_app(services_of(platform)))
            client = httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60)
            reader, of_run = _Reader(platform), f"a run with {steps} commits"
            async with client:
                async with _held(platform, long, signal) as run_id:
                    figures = await _growth(platform, run_id, steps)
                    note(f"… {of_run} made; reading")
                    await reader.journal(of_run, run_id)
                    await reader.api(client, f"{of_run}, in flight", f"/graph/status/{run_id}", "?limit=100")
                    await reader.api(client, f"{of_run}, in flight", f"/graph/status/{run_id}")
                    await reader.api(client, f"{of_run}, in flight", f"/graph/state/{run_id}")
                    for at in (0, steps // 2, steps - 1):
                        await reader.api(client, of_run, f"/graph/state/{run_id}", f"?at={at}")
                await reader.api(client, f"{of_run}, ended", f"/graph/status/{run_id}")
                await reader.last(client, f"{of_run}, ended", f"/graph/status/{run_id}")
                await reader.api(client, f"{of_run}, ended", f"/graph/state/{run_id}")
                await reader.fork(of_run, run_id, steps)
                graph = await add(platform, printing)
                printed = (await run(platform, graph, printing)).run_id
                note(f"… {lines} lines printed; reading")
                await reader.journal(f"a run with {lines} lines", printed)
                await reader.api(client, f"a run with {lines} lines", f"/graph/status/{printed}")
    return figures + reader.figures


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Make the two runs and read them."""
    return asyncio.run(_measure(1_000, 5_000) if quick else _measure(10_000, 100_000))
