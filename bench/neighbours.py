"""Runs of others, beside what is measured."""

from __future__ import annotations

import time

from served import Served


def neighbours(platform: Served, graph_id: str, count: int, pace_s: float) -> list[float]:
    """Return the seconds that no-op runs took over HTTP, one every ``pace_s`` seconds.

    Raises:
        SystemExit: One did not complete; what follows would measure something else.
    """
    seconds = []
    for _ in range(count):
        time.sleep(pace_s)
        began = time.perf_counter()
        answer = platform.post("/graph/run", {"graph_id": graph_id, "initial_state": {}})
        seconds.append(time.perf_counter() - began)
        if answer["status"] != "completed":
            raise SystemExit(f"a no-op ended as {answer['error']}")
    return seconds
