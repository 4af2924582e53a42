"""What a durable step costs the engine, beside LangGraph with its SqliteSaver: no containers, no work in the nodes."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest.mock import patch

from bench import rival, wal
from bench.engines import Workload, add, platform_for, run
from bench.report import Figure, at_most, milliseconds, note
from bench.rival import Rival

from sandgraph.bootstrap import Platform
from sandgraph.execution.worker import Worker
from sandgraph.model import scheduler
from sandgraph.store.database import Database
from sandgraph.store.records import GraphVersion
from sandgraph_runner.child import run_job

P = ParamSpec("P")
T = TypeVar("T")

_WIDTH = 20
_RATIO = 1.0
_DATABASE = "sandgraph.db"

CHAIN = Workload(
    "chain",
    {"count": "def count(state):\n    return {'counter': state.get('counter') + 1}\n"},
    {f"n{number}": "count" for number in range(_WIDTH)},
    tuple((f"n{number}", f"n{number + 1}") for number in range(_WIDTH - 1)),
    steps=_WIDTH,
    counter=_WIDTH,
)
FAN_OUT = Workload(
    "fan-out",
    {
        **{f"set{number}": f"def set{number}(state):\n    return {{'k{number}': 1}}\n" for number in range(_WIDTH)},
        "join": "def join(state):\n    return {'counter': sum(state.get(f'k{i}') for i in range(20))}\n",
    },
    {**{f"w{number}": f"set{number}" for number in range(_WIDTH)}, "joined": "join"},
    tuple((f"w{number}", "joined") for number in range(_WIDTH)),
    steps=_WIDTH + 1,
    counter=_WIDTH,
)
_SHOWN = {CHAIN.name: f"chain of {_WIDTH}", FAN_OUT.name: f"fan-out of {_WIDTH} and a join"}


class _Bare:
    """The least that is durable: one row, one transaction, one sync of the log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT)")

    def commits(self, count: int) -> float:
        """Return the seconds of one."""
        began = time.perf_counter()
        for _ in range(count):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO row (text) VALUES (?)", ("x" * 200,))
            self._connection.execute("COMMIT")
        return (time.perf_counter() - began) / count


class _Ours:
    """Sandgraph's side."""

    def __init__(self, platform: Platform, graphs: dict[str, GraphVersion]) -> None:
        self.platform = platform
        self.database = platform.settings.data_dir / _DATABASE
        self._graphs = graphs

    async def run(self, workload: Workload) -> float:
        """Run a workload once, and return its seconds from submission to the end."""
        began = time.perf_counter()
        await run(self.platform, self._graphs[workload.name], workload)
        return time.perf_counter() - began

    async def breakdown(self, workload: Workload, rounds: int) -> dict[str, float]:
        """Return where the milliseconds of a step go, where steps follow one another; being watched adds a little."""
        spent = dict.fromkeys(("scheduler", "store", "worker", "job"), 0.0)
        with (
            patch.object(scheduler, "step", _timed(scheduler.step, spent, "scheduler")),
            patch.object(Database, "write", _awaited(Database.write, spent, "store")),
            patch.object(Worker, "perform", _awaited(Worker.perform, spent, "worker")),
            patch("sandgraph.sandbox.inprocess.run_job", _timed(run_job, spent, "job")),
        ):
            whole = sum([await self.run(workload) for _ in range(rounds)])
        spent["else"] = whole - spent["scheduler"] - spent["store"] - spent["worker"]
        spent["worker"] -= spent["job"]
        return {what: seconds / rounds / workload.steps for what, seconds in spent.items()}


def _timed(function: Callable[P, T], spent: dict[str, float], what: str) -> Callable[P, T]:
    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[what] += time.perf_counter() - began

    return timed


def _awaited(function: Callable[P, Awaitable[T]], spent: dict[str, float], what: str) -> Callable[P, Awaitable[T]]:
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            return await function(*args, **kwargs)
        finally:
            spent[what] += time.perf_counter() - began

    return awaited


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple[_Ours, _Bare, Rival | None]]:
    """Open all sides in folders of one file system."""
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(platform_for(CHAIN, FAN_OUT))
        graphs = {workload.name: await add(platform, workload) for workload in (CHAIN, FAN_OUT)}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandgraph-bench-")))
        connection = stack.enter_context(closing(sqlite3.connect(folder / "bare.db", isolation_level=None)))
        python = await asyncio.to_thread(rival.installed)
        theirs = stack.enter_context(rival.opened(python, folder, (CHAIN, FAN_OUT))) if python else None
        yield _Ours(platform, graphs), _Bare(connection), theirs


async def _compare(workload: Workload, rounds: int, ours: _Ours, bare: _Bare, theirs: Rival | None) -> list[Figure]:
    shown, steps = _SHOWN[workload.name], workload.steps
    seen: dict[str, list[float]] = {"ours": [], "theirs": [], "bare": []}
    # In turns, so that a machine that gets slower or faster does so for all of them; the first round warms up.
    for number in range(rounds + 1):
        seconds = {"ours": await ours.run(workload) / steps}
        if theirs is not None:
            seconds["theirs"] = await asyncio.to_thread(theirs.run, workload) / steps
        seconds["bare"] = bare.commits(steps)
        if number:
            for side, each in seconds.items():
                seen[side].append(each)
    median = {side: statistics.median(values) for side, values in seen.items() if values}
    wal.empty(ours.database)
    await ours.run(workload)
    figures = [
        Figure(f"{shown}: SQLite alone, a transaction of one row", milliseconds(median["bare"])),
        _durably(f"{shown}: Sandgraph, a step", median["ours"], wal.written(ours.database), steps),
    ]
    if theirs is not None:
        wal.empty(theirs.database)
        await asyncio.to_thread(theirs.run, workload)
        written = wal.written(theirs.database)
        figures.append(_durably(f"{shown}: LangGraph with SqliteSaver, a step", median["theirs"], written, steps))
        ratios = [mine / other for mine, other in zip(seen["ours"], seen["theirs"], strict=True)]
        figures.append(at_most(f"{shown}: Sandgraph over LangGraph", statistics.median(ratios), _RATIO, "x"))
    return figures


def _durably(what: str, seconds: float, written: wal.Written, steps: int) -> Figure:
    each, pages = written.transactions / steps, written.pages / steps
    return Figure(what, f"{milliseconds(seconds)}; {each:.2f} transactions, {pages:.1f} pages")


async def _measure(rounds: int) -> list[Figure]:
    async with _opened() as (ours, bare, theirs):
        if theirs is not None:
            note("… " + ", ".join(f"{name} {value}" for name, value in theirs.facts.items()))
        figures = [
            figure for workload in (CHAIN, FAN_OUT) for figure in await _compare(workload, rounds, ours, bare, theirs)
        ]
        spent = await ours.breakdown(CHAIN, max(rounds // 2, 1))
        parts = ", ".join(f"{what} {seconds * 1000:.2f}" for what, seconds in spent.items())
        figures.append(Figure("where the ms of a step of the chain go", parts))
    return figures


def measure(quick: bool) -> list[Figure]:  # noqa: FBT001 - the one option that all benchmarks have
    """Run both graphs on both engines in turns."""
    return asyncio.run(_measure(5 if quick else 25))
