"""A platform as a program, with the sandbox that is none.

``small_platform.py DATA_DIR DATABASE_URL LEASE_S RUNS [stays]`` accepts so many runs, prints the id of each, and says
``done`` once none that it knows of is in progress; then it ends, unless it stays until SIGTERM.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from sandgraph.api.schemas import parse_graph
from sandgraph.bootstrap import open_platform
from sandgraph.errors import Conflict, Unavailable
from sandgraph.model.run import RunStatus
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings

ROUNDS = 12

_CODE = """\
import time

def count(state):
    time.sleep(0.02)
    print("at", state.get("n"))
    state.set("n", state.get("n") + 1)
"""
_GRAPH = {
    "name": "loop",
    "nodes": [
        {"name": "start", "type": "start"},
        {
            "name": "count",
            "type": "loop",
            "function": "count",
            "condition": f"state.n < {ROUNDS}",
            "max_iterations": ROUNDS * 2,
        },
        {"name": "end", "type": "end"},
    ],
    "edges": [{"source": "start", "target": "count"}, {"source": "count", "target": "end"}],
}
_ENDED = {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


async def main(data_dir: str, database_url: str, lease_s: str, runs: str, stays: str = "") -> int:
    settings = load_settings(
        data_dir=Path(data_dir), database_url=database_url, lease_s=lease_s, max_recoveries=1_000, worker_slots=8
    )
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("started", flush=True)
        if int(runs):
            await platform.catalog.register_function("count", _CODE)
            version, _ = await platform.catalog.create_graph(parse_graph(dict(_GRAPH), settings))
            for _ in range(int(runs)):
                run, _ = await platform.runs.submit(version.graph_id, {"n": 0})
                print(run.run_id, flush=True)
        while not stop.is_set():
            if platform.heart.lost.is_set():
                print("lost", flush=True)
                return 6
            try:
                found = (await platform.store.list_runs(limit=200)).items
            except Unavailable:
                print("unavailable", flush=True)
                found = ()
            if found and all(run.status in _ENDED for run in found):
                print("done", flush=True)
                if stays:
                    await stop.wait()
                return 0
            await asyncio.sleep(0.05)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(*sys.argv[1:])))
    except Conflict as conflict:
        print(conflict.code, flush=True)
        sys.exit(6)
