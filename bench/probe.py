"""One client that does nothing but ask and look at the clock, in a process of its own."""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from urllib.parse import urlsplit

#: Seconds between two questions.
_PAUSE_S = 0.04


class Probe:
    """Asks a platform for a while.

    Args:
        url: Its base URL.
        graph_id: A graph whose runs it starts.
    """

    def __init__(self, url: str, graph_id: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._graph_id = graph_id
        self.latencies: dict[str, list[float]] = {}
        self.failures: list[str] = []

    def go(self, seconds: float) -> None:
        """Read all that can be read, and now and then start a run."""
        until, count, run_id = time.monotonic() + seconds, 0, ""
        while time.monotonic() < until:
            if count % 20 == 0:
                body = json.dumps({"graph_id": self._graph_id, "initial_state": {"n": 1}})
                run_id = str(self._ask("run_async", "POST", "/graph/run_async", body).get("run_id", run_id))
            elif run_id:
                what, path = random.choice(  # noqa: S311 - no secret
                    [
                        ("runs", "/graph/runs?limit=20"),
                        ("graphs", "/graph/list"),
                        ("nodes", "/nodes/list"),
                        ("state", f"/graph/state/{run_id}"),
                        ("status", f"/graph/status/{run_id}"),
                    ]
                )
                self._ask(what, "GET", path)
            count += 1
            time.sleep(_PAUSE_S)

    def _ask(self, what: str, method: str, path: str, body: str | None = None) -> dict[str, object]:
        began = time.perf_counter()
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        read = answer.read()
        self.latencies.setdefault(what, []).append(time.perf_counter() - began)
        if answer.status >= 400 and answer.status != 429:  # noqa: PLR2004
            self.failures.append(f"{method} {path}: {answer.status} {read[:200]!r}")
        told: dict[str, object] = json.loads(read)
        return told


if __name__ == "__main__":
    probe = Probe(sys.argv[1], sys.argv[2])
    probe.go(float(sys.argv[3]))
    json.dump({"latencies": probe.latencies, "failures": probe.failures}, sys.stdout)
