"""The client of a life: hands in programs, sends events, pauses and cancels, and waits for the ends of runs."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from chaos_faults import Notes
from chaos_programs import EVENT, Case
from random_programs import SOURCES, with_ids

from sandgraph.api.schemas import parse_graph
from sandgraph.bootstrap import Platform
from sandgraph.errors import Conflict, Unavailable
from sandgraph.store.records import CodeKind

if TYPE_CHECKING:
    from chaos_life import Life

T = TypeVar("T")
Json = dict[str, Any]

#: Seconds within which the client comes to whatever it does to a run besides.
_SOON_S = 0.2

#: Submitted code is slow and fails now and then, which changes nothing that it comes to.
_UNSTEADY = """
    import random as _random, time as _time
    print("at", state.node)
    _time.sleep(_random.random() * {slow_s})
    if _random.random() < {fails}:
        raise RuntimeError("unsteady")
"""
_RETRY = {"max_attempts": 100, "initial_s": 0.01, "factor": 1, "jitter": False, "on": ["error", "timeout"]}


class Client:
    """Hands in programs, cancels some, and waits for all; tries again what it is told failed, as clients do."""

    def __init__(self, platform: Platform, life: Life, notes: Notes) -> None:
        self._platform = platform
        self._life = life
        self._notes = notes

    async def work(self) -> bool:
        """Tell whether all runs came to their end."""
        cases = {case.seed: case for case in self._life.cases()}
        new = [case for seed, case in cases.items() if seed not in self._life.accepted]
        if new:
            await self._register()
        async with asyncio.TaskGroup() as group:
            accepted = self._life.accepted.items()
            runs = [group.create_task(self._see_to(cases[seed], run_id)) for seed, run_id in accepted]
            runs += [group.create_task(self._submit(case)) for case in new]
        return all(run.result() for run in runs)

    async def _register(self) -> None:
        for name, code in unsteady(self._life).items():
            if self._life.docker:
                # Without a container each, to be checked in.
                await _insist(self._platform.store.save_code, CodeKind.FUNCTION, name, code)
            else:
                await _insist(self._platform.catalog.register_function, name, code)

    async def _submit(self, case: Case) -> bool:
        program, ids = case.program, dict[str, str]()
        create = self._platform.store.save_graph if self._life.docker else self._platform.catalog.create_graph
        for name, document in [*program.subgraphs.items(), ("", program.graph)]:
            # What is inside of another program may have the same name, and would be a version of the same graph: each
            # life would make new ones of both, and a run that is asked for again would be another.
            own = {**with_ids(document, ids), "name": f"program {case.seed} {name}".strip()}
            graph = parse_graph(graph_of(own, case.seed, self._life), self._platform.settings)
            ids[name] = (await _insist(create, graph))[0].graph_id

        async def submit() -> str:
            key = f"program {case.seed}"
            return (await self._platform.runs.submit(ids[""], program.state, idempotency_key=key))[0].run_id

        run_id = await _insist(submit)
        self._notes.add(accepted=[case.seed, run_id])
        return await self._see_to(case, run_id)

    async def _see_to(self, case: Case, run_id: str) -> bool:
        async with asyncio.TaskGroup() as group:
            for work in (self._send, self._cancel, self._pause):
                group.create_task(work(case, run_id))
        run = await _insist(self._platform.runs.wait, run_id, float(self._life.deadline_s))
        if not run.is_final and not self._platform.heart.lost.is_set():
            # Nobody works on it, and nobody will before the next start.
            self._notes.add(stuck=[case.seed, run_id, run.status])
        return run.is_final

    async def _cancel(self, case: Case, run_id: str) -> None:
        if not case.is_cancelled:
            return
        await asyncio.sleep(random.random() * _SOON_S)
        try:
            await _insist(self._platform.runs.cancel, run_id)
            self._notes.add(cancelled=run_id)
        except Conflict:
            # It has ended otherwise.
            self._notes.add(too_late=run_id)

    async def _pause(self, case: Case, run_id: str) -> None:
        if not case.is_paused:
            return
        try:
            for _ in range(random.randint(1, 3)):
                await asyncio.sleep(random.random() * _SOON_S / 2)
                await _insist(self._platform.runs.pause, run_id)
                await asyncio.sleep(random.random() * _SOON_S / 4)
                await _insist(self._platform.runs.unpause, run_id)
        except Conflict as refusal:
            self._expect(refusal, run_id, "run_already_finished")

    async def _send(self, case: Case, run_id: str) -> None:
        """Send what the run waits for, early or late, some of it more than once."""
        for number, payload in enumerate(case.sends):
            await asyncio.sleep(random.choice([0.0, random.random() * _SOON_S]))
            is_sent = False
            for _ in range(random.randint(1, 3)):
                call = functools.partial(self._platform.runs.send_event, run_id, EVENT, payload, case.event_id(number))
                try:
                    receipt = await _insist(call)
                except Conflict as refusal:
                    self._expect(refusal, run_id, "run_ended")
                    return
                if is_sent and receipt.is_new:
                    self._notes.add(wrong=f"event {number} of {run_id} was stored, and is new")
                is_sent = True

    def _expect(self, refusal: Conflict, run_id: str, code: str) -> None:
        if refusal.code != code:
            self._notes.add(wrong=f"{run_id}: {refusal.code}: {refusal.message}")


def unsteady(life: Life) -> dict[str, str]:
    """Return the programs' functions, made slow and unreliable."""
    lines = _UNSTEADY.format(slow_s=life.slow_s, fails=life.fails)
    codes = {}
    for name, code in SOURCES.items():
        head = f"def {name}(state):\n"
        # A condition that raises fails its node.
        codes[name] = code if name.startswith("is_") else code.replace(head, head + lines.lstrip("\n"))
    return codes


def graph_of(document: Json, seed: int, life: Life) -> Json:
    """Return a graph of a program with retries, and what the life adds to its nodes."""
    nodes = [{"retry": _RETRY, **node, **life.node} if "function" in node else node for node in document["nodes"]]
    return {**document, "nodes": nodes, "isolation": "run" if life.docker and seed % 3 else "node"}


async def _insist(call: Callable[..., Awaitable[T]], *args: object) -> T:
    while True:
        try:
            return await call(*args)
        except Unavailable:
            await asyncio.sleep(0.02)
        except Conflict as refusal:
            if refusal.code != "lease_lost":
                raise
            # The heart is told soon, too, and ends it all.
            await asyncio.Event().wait()
