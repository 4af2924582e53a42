"""A platform in this process over a real database, whose runs are forked, resumed and replayed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from killed import FILE

from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.worker import Worker
from sandgraph.model.graph import Graph
from sandgraph.model.run import NodeRunKey, RunStatus
from sandgraph.model.state import DeleteKey, Json, Op, SetKey, StateDiff
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, RunRecord
from sandgraph.store.store import Store

IMAGE = "sha256:image"

NOTHING = StateDiff()


def changing(*deleted: str, **values: Json) -> StateDiff:
    ops: list[Op] = [*(SetKey(key, value) for key, value in values.items()), *(DeleteKey(key) for key in deleted)]
    return StateDiff(tuple(sorted(ops, key=lambda op: op.key)))


@dataclass
class World:
    """What a test has to do with."""

    runs: Dispatcher
    store: Store
    settings: Settings
    worker: Worker

    async def knows(self, **functions: str) -> None:
        """Register functions: bodies of one line, with ``state`` and ``time`` at hand."""
        for name, body in functions.items():
            code = f"import time\n\ndef {name}(state, *_):\n    {body}\n"
            await self.store.save_code(CodeKind.FUNCTION, name, code)

    async def saved(self, graph: Graph) -> str:
        return (await self.store.save_graph(graph))[0].graph_id

    async def begun(self, graph: Graph, **state: Json) -> str:
        return (await self.runs.submit(await self.saved(graph), state))[0].run_id

    async def ended(self, run_id: str, status: RunStatus = RunStatus.COMPLETED) -> RunRecord:
        run = await self.runs.wait(run_id, 20)
        assert run.status is status, (run.status, run.failure)
        return run

    async def forked(self, run_id: str, at: int, changes: StateDiff = NOTHING, *, latest: bool = False) -> str:
        run, is_new = await self.runs.fork(run_id, at, changes, latest=latest, idempotency_key=None)
        assert is_new
        assert run.run_id != run_id
        return run.run_id

    async def resumed(self, run_id: str, *, latest: bool = False) -> str:
        run, is_new = await self.runs.resume(run_id, latest=latest, idempotency_key=None)
        assert is_new
        return run.run_id

    async def committed(self, run_id: str) -> None:
        """Wait for the first commit."""
        while not (await self.store.run_summary(run_id)).last_commit:  # noqa: ASYNC110 - it is looked for in the store
            await asyncio.sleep(0.01)

    async def waits(self, run_id: str) -> None:
        """Wait until there is nothing to be done but that."""
        while (await self.store.run_summary(run_id)).status is not RunStatus.WAITING:  # noqa: ASYNC110 - as there
            await asyncio.sleep(0.01)

    async def attempts(self, run_id: str) -> dict[str, list[str]]:
        """Return how the tries of each node run ended."""
        found = await self.store.node_runs(run_id)
        return {
            str(NodeRunKey(each.node, each.iteration, each.scope)): [attempt.status.value for attempt in each.attempts]
            for each in found
            if each.attempts
        }


@asynccontextmanager
async def world(folder: Path, **options: object) -> AsyncIterator[World]:
    """Run a platform for the length of the block."""
    settings = Settings(data_dir=folder, **options)  # type: ignore[arg-type]
    store = await Store.open(folder)
    sandboxes = InProcessSandboxes()
    await sandboxes.start()
    worker = Worker(sandboxes, settings.worker_slots)
    dispatcher = Dispatcher(store, worker, settings, IMAGE)
    await dispatcher.start()
    try:
        yield World(dispatcher, store, settings, worker)
    finally:
        await dispatcher.close()
        await store.close()


def edit(folder: Path, statement: str) -> None:
    """Change the database behind the platform's back."""
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        database.execute(statement)
