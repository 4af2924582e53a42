"""One life of a platform with faults in it: composed as always, with a client that hands in programs and waits."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import chaos_wrappers
from chaos_faults import Fault, Faults, Locker, Notes
from chaos_points import Action
from random_programs import SOURCES, Program, make

from sandgraph.api.schemas import parse_graph
from sandgraph.bootstrap import Platform, open_platform
from sandgraph.errors import ConfigurationError, Conflict, Unavailable
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings
from sandgraph.store.records import CodeKind

T = TypeVar("T")
Json = dict[str, Any]

DATABASE = "sandgraph.db"

#: How a life that was not killed ends, as its process's exit code.
DONE, CRASHED, NOT_STARTED, STOPPED, STUCK = 0, 1, 3, 5, 6

#: One program in so many is cancelled while it runs.
CANCELLED_ONE_IN = 10

#: Submitted code is slow and fails now and then, which changes nothing that it comes to.
_UNSTEADY = """
    import random as _random, time as _time
    print("at", state.node)
    _time.sleep(_random.random() * {slow_s})
    if _random.random() < {fails}:
        raise RuntimeError("unsteady")
"""
_RETRY = {"max_attempts": 100, "initial_s": 0.01, "factor": 1, "jitter": False, "on": ["error", "timeout"]}


@dataclass(frozen=True)
class Life:
    """What a life is to do.

    Attributes:
        data_dir: Its data folder; the same for all lives of a batch.
        notes: File that it adds to.
        log: File that it says the rest in.
        deployment: Of its containers.
        programs: Seeds of those that it hands in, unless they were accepted before.
        accepted: The runs of those that were.
        faults: In it.
        docker: Whether sandboxes are containers.
        deadline_s: It is killed with SIGALRM after so long.
        slow_s: Most seconds a function sleeps.
        fails: Part of the calls that fail.
        node: What each node with a function has besides.
        settings: Of the platform.
    """

    data_dir: Path
    notes: Path
    log: Path
    deployment: str
    programs: list[int]
    accepted: dict[int, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    docker: bool = False
    deadline_s: int = 60
    slow_s: float = 0.005
    fails: float = 0.1
    node: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        paths = {name: str(getattr(self, name)) for name in ("data_dir", "notes", "log")}
        return asdict(self) | paths | {"accepted": list(self.accepted.items())}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Life:
        fields = dict(document)
        fields |= {name: Path(fields[name]) for name in ("data_dir", "notes", "log")}
        fields["accepted"] = dict(fields["accepted"])
        fields["faults"] = [Fault(each["point"], each["passage"], Action(each["action"])) for each in fields["faults"]]
        return cls(**fields)


def is_cancelled(seed: int) -> bool:
    """Tell whether the client cancels that program's run, if it comes to that in time."""
    return seed % CANCELLED_ONE_IN == 0


def live(life: Life) -> int:
    """Live it in this process, which has no threads yet and is good for nothing afterwards; return how it ended."""
    signal.alarm(life.deadline_s)
    random.seed()
    with life.log.open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, force=True)
    notes = Notes(life.notes)
    needs_locker = any(fault.action is Action.LOCKED for fault in life.faults)
    locker = Locker(life.data_dir / DATABASE) if needs_locker else None
    stopping = threading.Event()
    faults = Faults(life.faults, notes, locker, stopping.set)
    chaos_wrappers.wrap(faults, docker=life.docker)
    try:
        ended = asyncio.run(_live(life, notes, stopping))
    except (Unavailable, ConfigurationError, sqlite3.OperationalError):
        traceback.print_exc()
        ended = NOT_STARTED
    except BaseException:  # noqa: BLE001 - the exit code tells
        traceback.print_exc()
        ended = CRASHED
    faults.end()
    return ended


async def _live(life: Life, notes: Notes, stopping: threading.Event) -> int:
    options = {"max_recoveries": 10_000, "max_active_runs": 8, "pool_min": 2, "log_level": "warning"} | life.settings
    settings = load_settings(data_dir=life.data_dir, deployment=life.deployment, **options)
    async with open_platform(settings, sandboxes=None if life.docker else InProcessSandboxes()) as platform:
        client = asyncio.create_task(_Client(platform, life, notes).work())
        while not (client.done() or stopping.is_set()):
            await asyncio.wait([client], timeout=0.01)
        if client.done():
            return DONE if client.result() else STUCK
        client.cancel()
        await asyncio.wait([client])
    return STOPPED


class _Client:
    """Hands in programs, cancels some, and waits for all; tries again what it is told failed, as clients do."""

    def __init__(self, platform: Platform, life: Life, notes: Notes) -> None:
        self._platform = platform
        self._life = life
        self._notes = notes

    async def work(self) -> bool:
        """Tell whether all runs came to their end."""
        new = [make(seed) for seed in self._life.programs if seed not in self._life.accepted]
        if new:
            await self._register()
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(self._see_to(seed, run_id)) for seed, run_id in self._life.accepted.items()]
            runs += [group.create_task(self._submit(program)) for program in new]
        return all(run.result() for run in runs)

    async def _register(self) -> None:
        for name, code in unsteady(self._life).items():
            if self._life.docker:
                # Without a container each, to be checked in.
                await _insist(self._platform.store.save_code, CodeKind.FUNCTION, name, code)
            else:
                await _insist(self._platform.catalog.register_function, name, code)

    async def _submit(self, program: Program) -> bool:
        graph = parse_graph(graph_of(program, self._life), self._platform.settings)
        create = self._platform.store.save_graph if self._life.docker else self._platform.catalog.create_graph
        version, _ = await _insist(create, graph)

        async def submit() -> str:
            key = f"program {program.seed}"
            return (await self._platform.runs.submit(version.graph_id, program.state, idempotency_key=key))[0].run_id

        run_id = await _insist(submit)
        self._notes.add(accepted=[program.seed, run_id])
        return await self._see_to(program.seed, run_id)

    async def _see_to(self, seed: int, run_id: str) -> bool:
        if is_cancelled(seed):
            await asyncio.sleep(random.random() * 0.2)
            try:
                await _insist(self._platform.runs.cancel, run_id)
                self._notes.add(cancelled=run_id)
            except Conflict:
                # It has ended otherwise.
                self._notes.add(too_late=run_id)
        run = await _insist(self._platform.runs.wait, run_id, float(self._life.deadline_s))
        if not run.is_final:
            # Nobody works on it, and nobody will before the next start.
            self._notes.add(stuck=[seed, run_id, run.status])
        return run.is_final


def unsteady(life: Life) -> dict[str, str]:
    """Return the programs' functions, made slow and unreliable."""
    lines = _UNSTEADY.format(slow_s=life.slow_s, fails=life.fails)
    codes = {}
    for name, code in SOURCES.items():
        head = f"def {name}(state):\n"
        # A condition that raises fails its node.
        codes[name] = code if name.startswith("is_") else code.replace(head, head + lines.lstrip("\n"))
    return codes


def graph_of(program: Program, life: Life) -> Json:
    """Return a program's graph with retries, and what the life adds to its nodes."""
    nodes = [{"retry": _RETRY, **node, **life.node} if "function" in node else node for node in program.graph["nodes"]]
    return {**program.graph, "nodes": nodes, "isolation": "run" if life.docker and program.seed % 2 else "node"}


async def _insist(call: Callable[..., Awaitable[T]], *args: object) -> T:
    while True:
        try:
            return await call(*args)
        except Unavailable:
            await asyncio.sleep(0.02)
