"""A platform as users have it: `sandgraph serve` in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import connect

Json = dict[str, Any]

_START_S = 60
_STOP_S = 30


class Served:
    """One running platform, and what tests do to it.

    Args:
        url: Its base URL.
        process: The server.
        deployment: The label its containers carry.
        said: The first line that it printed.
    """

    def __init__(self, url: str, process: subprocess.Popen[str], deployment: str, said: str = "") -> None:
        self.url = url
        self.said = said
        self.process = process
        self.deployment = deployment
        self.client = httpx2.Client(base_url=url, timeout=90)

    def get(self, path: str) -> Json:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def post(self, path: str, body: object, expected: tuple[int, ...] = (200, 201, 202)) -> Json:
        answer = self.client.post(path, json=body)
        assert answer.status_code in expected, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def register(self, code: str, name: str) -> None:
        self.post("/nodes/register", {"name": name, "code": code})

    def graph_of(self, function: str, **node: object) -> Json:
        return {
            "name": f"only-{function}",
            "nodes": [
                {"name": "start", "type": "start"},
                {"name": function, "type": "standard", "function": function, **node},
                {"name": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": function}, {"source": function, "target": "end"}],
        }

    def run(self, graph: Mapping[str, object], state: Mapping[str, object] | None = None) -> Json:
        graph_id = self.post("/graph/create", graph)["graph_id"]
        return self.post("/graph/run", {"graph_id": graph_id, "initial_state": dict(state or {})})

    def run_function(self, code: str, *, name: str, state: Mapping[str, object] | None = None, **node: object) -> Json:
        self.register(code, name)
        return self.run(self.graph_of(name, **node), state)

    def journal(self, run_id: str, after: int = 0) -> list[Json]:
        """Return every record of a run, waiting for its end."""
        with connect(f"{self.url.replace('http', 'ws')}/graph/ws/{run_id}?after={after}", close_timeout=5) as records:
            return [json.loads(record) for record in records]

    def wait_for_line(self, run_id: str, text: str) -> None:
        """Return once the run has printed that line; fail if it ends without."""
        with connect(f"{self.url.replace('http', 'ws')}/graph/ws/{run_id}", close_timeout=5) as records:
            assert any(json.loads(record)["message"] == text for record in records)

    def containers(self) -> list[str]:
        return containers_of(self.deployment)


def containers_of(deployment: str) -> list[str]:
    """Return the ids of the containers a deployment has, running or not."""
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=sandgraph.deployment={deployment}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return listed.stdout.split()


@contextmanager
def serve(data_dir: Path, deployment: str, **options: object) -> Iterator[Served]:
    """Run a platform for the length of the block; it must leave no container."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "sandgraph", "serve", "--port=0", f"--data-dir={data_dir}"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, f"--deployment={deployment}", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        watchdog = threading.Timer(_START_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            watchdog.cancel()
            found = re.search(r"http://[^ ]+", line)
            if found is None:
                process.wait(_STOP_S)
                log.seek(0)
                raise AssertionError(f"the platform did not start: {log.read()}")
            served = Served(found.group(), process, deployment, line)
            with served.client:
                yield served
        finally:
            watchdog.cancel()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
