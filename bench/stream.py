"""From a node's print to the WebSocket client that follows the run."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from bench.report import Figure, at_most, milliseconds, percentile
from served import serve
from websockets.sync.client import connect

_P99_MS = 20.0
_PRINTS = 300
_CODE = f"""
import random
import time

def tick(state):
    for _ in range({_PRINTS}):
        print(time.time())
        time.sleep(random.uniform(0.01, 0.02))
"""


def _follow(folder: str) -> list[float]:
    """Return the seconds each line took; both clocks are this machine's."""
    with serve(Path(folder), "bench") as platform:
        platform.register(_CODE, "tick")
        graph_id = platform.post("/graph/create", platform.graph_of("tick"))["graph_id"]
        time.sleep(2)
        run_id = platform.post("/graph/run_async", {"graph_id": graph_id})["run_id"]
        seconds = []
        with connect(f"{platform.url.replace('http', 'ws')}/graph/ws/{run_id}") as records:
            for text in records:
                now = time.time()
                record = json.loads(text)
                if record["kind"] == "log":
                    seconds.append(now - float(record["message"]))
    if len(seconds) != _PRINTS:
        raise SystemExit(f"{len(seconds)} lines arrived of {_PRINTS}")
    return seconds


def measure(_quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Follow one run that prints the time."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _follow(folder)
    return [
        Figure(f"print to WebSocket client, p50 of {_PRINTS}", milliseconds(statistics.median(seconds))),
        at_most("print to WebSocket client, p99", percentile(seconds, 99) * 1000, _P99_MS, "ms"),
    ]
