"""Platforms that are killed at a step of a run, as the disk has it: their databases are copied at that moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from sandgraph.errors import Unavailable
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.transport import Assignment, OnLines, OnStopped, Transport
from sandgraph.sandbox.spec import Outcome
from sandgraph.settings import Settings
from sandgraph.store.steps import Taken
from sandgraph.store.store import Store

FILE = "sandgraph.db"

Perform = Callable[[Assignment], Awaitable[Outcome]]


class Worker(Transport):
    """A transport that answers as told, and remembers what it was asked."""

    def __init__(self, perform: Perform) -> None:
        self._perform = perform
        self.asked: list[str] = []

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:  # noqa: ARG002
        self.asked.append(f"{assignment.key}/{assignment.attempt}")
        return await self._perform(assignment)

    async def end_run(self, run_id: str) -> None:
        pass


class Mortal:
    """Puts faults around the steps that a store is given.

    Args:
        store: Whose steps.
        folder: Of its database.
        dies_in: Where the database goes as it is at the fatal step.
        fatal: Which step is that, from 1; none for 0.
        is_stored: Whether the platform dies right after it was stored, and not right before.
        is_deaf: Whether each step is told as failed once after it was stored.
    """

    def __init__(
        self, store: Store, folder: Path, dies_in: Path, *, fatal: int, is_stored: bool, is_deaf: bool = False
    ) -> None:
        self._apply_all = store.apply_all
        self._folder, self._dies_in = folder, dies_in
        self._fatal, self._is_stored, self._is_deaf = fatal, is_stored, is_deaf
        self.steps = 0
        self.died = asyncio.Event()
        store.apply_all = self.apply_all  # type: ignore[method-assign]

    async def apply_all(self, run_id: str, taken: Sequence[Taken], *, lease: int | None = None) -> int:
        self.steps += 1
        is_fatal = self.steps == self._fatal
        if is_fatal and not self._is_stored:
            await self._die()
        last = await self._apply_all(run_id, taken, lease=lease)
        if is_fatal:
            await self._die()
        if self._is_deaf and self.steps % 2:
            raise Unavailable("It was stored, and nobody heard of it.", code="store_unavailable")
        return last

    async def _die(self) -> None:
        self._dies_in.mkdir()
        source, target = sqlite3.connect(self._folder / FILE), sqlite3.connect(self._dies_in / FILE)
        with closing(source), closing(target):
            source.backup(target)
        self.died.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def living(folder: Path, perform: Perform, **options: object) -> AsyncIterator[tuple[Dispatcher, Store, Worker]]:
    """Run a dispatcher over a folder for the length of the block; it is not started."""
    store = await Store.open(folder)
    worker = Worker(perform)
    dispatcher = Dispatcher(store, worker, Settings(data_dir=folder, **options), "sha256:image")  # type: ignore[arg-type]
    try:
        yield dispatcher, store, worker
    finally:
        await dispatcher.close()
        await store.close()
