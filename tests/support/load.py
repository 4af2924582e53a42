"""Many clients at one platform: some start runs and poll them, some browse, some tail; nothing may be lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from websockets.asyncio.client import connect

#: What the runs do: print, compute for a moment, change the state.
CODE = """
def work(state):
    print("working on", state["n"])
    total = sum(i * i for i in range(50_000))
    state["result"] = state["n"] * 2
    state["total"] = total
"""
GRAPH = {
    "name": "load",
    "nodes": [
        {"name": "start", "type": "start"},
        {"name": "work", "type": "standard", "function": "work"},
        {"name": "end", "type": "end"},
    ],
    "edges": [{"source": "start", "target": "work"}, {"source": "work", "target": "end"}],
}

#: Seconds between what one client asks, so that a hundred of them are a hundred people and not one loop.
_PAUSE_S = 0.5
_MOST_S = 60.0
_TOO_MANY = 429


@dataclass
class Report:
    """What the clients saw.

    Attributes:
        latencies: Seconds that each answer took, by what was asked.
        statuses: How often each status came.
        errors: What should not have been answered, or happened.
        accepted: Ids of runs, and the number that each was given.
        tailed: Runs that were followed to their end.
    """

    latencies: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    tailed: int = 0

    def all_latencies(self) -> list[float]:
        """Return them all."""
        return [each for found in self.latencies.values() for each in found]


class Load:
    """Clients of a platform that runs.

    Args:
        url: Its base URL.
        seed: Of what they choose to do.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._graph_id = ""
        self._until = 0.0
        self.report = Report()

    async def go(
        self, clients: int, seconds: float, drain_s: float, *, meanwhile: Callable[[str], Awaitable[None]] | None = None
    ) -> Report:
        """Let so many clients work for so long, then wait until every run ended, and look at each.

        Args:
            clients: Four of ten start runs, three browse, three tail.
            seconds: How long they do.
            drain_s: How long the runs may take to end afterwards.
            meanwhile: Is given the graph's id, and runs beside them.
        """
        limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx2.AsyncClient(base_url=self._url, timeout=_MOST_S, limits=limits) as client:
            (await client.post("/nodes/register", json={"name": "work", "code": CODE})).raise_for_status()
            made = (await client.post("/graph/create", json=GRAPH)).raise_for_status()
            self._graph_id = made.json()["graph_id"]
            self._until = time.monotonic() + seconds
            submitting, browsing = clients * 4 // 10, clients * 3 // 10
            async with asyncio.TaskGroup() as group:
                if meanwhile is not None:
                    group.create_task(_awaited(meanwhile(self._graph_id)))
                for number in range(clients):
                    if number < submitting:
                        group.create_task(self._submit(client, number))
                    elif number < submitting + browsing:
                        group.create_task(self._browse(client))
                    else:
                        group.create_task(self._tail())
            await self._settle(client, drain_s)
        return self.report

    async def _ask(self, client: httpx2.AsyncClient, what: str, method: str, path: str, **more: Any) -> httpx2.Response:  # noqa: ANN401 - as httpx takes it
        began = time.monotonic()
        answer = await client.request(method, path, **more)
        self.report.latencies.setdefault(what, []).append(time.monotonic() - began)
        self.report.statuses[answer.status_code] += 1
        if answer.status_code >= 400 and answer.status_code != _TOO_MANY:
            self.report.errors.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    async def _submit(self, client: httpx2.AsyncClient, client_number: int) -> None:
        count = 0
        while time.monotonic() < self._until:
            count += 1
            number = client_number * 100_000 + count
            body = {"graph_id": self._graph_id, "initial_state": {"n": number}}
            key = {"Idempotency-Key": f"load-{number}"}
            answer = await self._ask(client, "run_async", "POST", "/graph/run_async", json=body, headers=key)
            if answer.status_code == _TOO_MANY:
                await self._pause(float(answer.headers.get("retry-after", 1)))
                continue
            if answer.status_code >= 400:
                continue
            run_id = answer.json()["run_id"]
            self.report.accepted[run_id] = number
            while time.monotonic() < self._until:
                await self._pause(_PAUSE_S)
                answer = await self._ask(client, "status", "GET", f"/graph/status/{run_id}")
                if answer.status_code == 200 and answer.json()["status"] in {"completed", "failed"}:
                    break

    async def _browse(self, client: httpx2.AsyncClient) -> None:
        while time.monotonic() < self._until:
            await self._pause(_PAUSE_S)
            run_id = self._some_run()
            what, path = self._random.choice(
                [
                    ("runs", "/graph/runs?limit=20"),
                    ("running", "/graph/runs?status=running"),
                    ("graphs", "/graph/list"),
                    ("nodes", "/nodes/list"),
                    *([("state", f"/graph/state/{run_id}"), ("status", f"/graph/status/{run_id}")] if run_id else []),
                ]
            )
            await self._ask(client, what, "GET", path)

    async def _tail(self) -> None:
        while time.monotonic() < self._until:
            await self._pause(_PAUSE_S)
            run_id = self._some_run()
            if run_id is None:
                continue
            try:
                async with asyncio.timeout(_MOST_S):
                    await self._follow(run_id)
            except TimeoutError:
                # It waits for its turn still; what is looked for is a hole.
                continue

    async def _follow(self, run_id: str) -> None:
        seen = 0
        async with connect(f"{self._url.replace('http', 'ws', 1)}/graph/ws/{run_id}", max_queue=64) as socket:
            async for text in socket:
                record = json.loads(text)
                if record.get("seq") != seen + 1:
                    self.report.errors.append(f"tail of {run_id}: after {seen} came {text[:200]!r}")
                    return
                seen += 1
                if record.get("final"):
                    self.report.tailed += 1
                    return
                if time.monotonic() > self._until:
                    return
        self.report.errors.append(f"tail of {run_id}: it closed after {seen}, before the end")

    async def _settle(self, client: httpx2.AsyncClient, drain_s: float) -> None:
        deadline = time.monotonic() + drain_s
        for run_id, number in self.report.accepted.items():
            status = ""
            while status not in {"completed", "failed", "cancelled", "interrupted"}:
                if time.monotonic() > deadline:
                    self.report.errors.append(f"{run_id} has not ended: {status}")
                    return
                answer = await client.get(f"/graph/status/{run_id}")
                if answer.status_code == _TOO_MANY:
                    await asyncio.sleep(1)
                    continue
                status = answer.json()["status"]
                if status in {"pending", "running"}:
                    await asyncio.sleep(0.2)
            data = (await client.get(f"/graph/state/{run_id}")).json()
            if status != "completed" or data.get("data", {}).get("result") != number * 2:
                self.report.errors.append(f"{run_id}: {status}, {str(data)[:300]}")

    def _some_run(self) -> str | None:
        recent = list(self.report.accepted)[-40:]
        return self._random.choice(recent) if recent else None

    async def _pause(self, seconds: float) -> None:
        left = max(self._until - time.monotonic(), 0)
        await asyncio.sleep(min(seconds * self._random.uniform(0.7, 1.3), left))


async def _awaited(work: Awaitable[None]) -> None:
    await work
