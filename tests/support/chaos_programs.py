"""What the campaign runs: random programs, some of them rich, some with waits for events that the client sends."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from random_programs import Expectation, Program, Step, TooLong, View, _Walker, _Writer, expect, make

Json = dict[str, Any]

#: What all waits speak of: the first one that begins takes what came first.
EVENT = "go"

#: One program in so many is cancelled while it runs, and one in so many is paused now and then.
CANCELLED_ONE_IN = 9
PAUSED_ONE_IN = 5


@dataclass(frozen=True)
class Case:
    """A program, and what its client does.

    Attributes:
        program: To be run.
        expected: What it comes to, unless it is cancelled.
        sends: The payloads of the events, in the order in which they are sent; each is taken by one wait.
        is_cancelled: Whether the client cancels the run, if it comes to that in time.
        is_paused: Whether the client pauses it now and then.
    """

    program: Program
    expected: Expectation
    sends: tuple[int, ...]
    is_cancelled: bool
    is_paused: bool

    @property
    def seed(self) -> int:
        return self.program.seed

    def event_id(self, number: int) -> str:
        """Return the id of the event of that number, the same in every life."""
        return f"event {self.seed}/{number}"


def case_of(seed: int, *, calm: bool = False) -> Case:
    """Return the case of a seed; a calm one has no client that cancels or pauses."""
    is_rich = seed % 4 >= 2
    program, waits = make(seed, rich=is_rich), dict[str, int]()
    expected = expect(program)
    if seed % 2:
        try:
            waits = _with_waits(program)
            expected = _expect(program, waits)
        except TooLong:
            # What they bring changes its course.
            program, waits = make(seed, rich=is_rich), {}
    return Case(
        program,
        expected,
        tuple(waits.values()),
        is_cancelled=not calm and seed % CANCELLED_ONE_IN == 0,
        is_paused=not calm and seed % PAUSED_ONE_IN == 0,
    )


def _with_waits(program: Program) -> dict[str, int]:
    """Put waits between the parts of a program; return the payloads that they take, by their names in their order."""
    chance = random.Random(f"waits of {program.seed}")
    parts = program.sequence.parts
    places = sorted(chance.sample(range(len(parts) + 1), chance.randint(1, 2)))
    waits = dict[str, int]()
    nodes = dict[str, Json]()
    for number, place in enumerate(places):
        name = f"wait {number}"
        parts.insert(place + number, Step(name, None))
        # Values of no other origin, so that each is a change.
        waits[name] = 10**10 * (number + 1) + program.seed
        nodes[name] = {"type": "wait", "event": EVENT, "into": _key_of(name)}
        if chance.random() < 0.5:
            # Longer than anything here: it is due at some time, and never comes to it.
            nodes[name]["timeout_s"] = 3_600
    had = program.graph
    program.subgraphs.clear()
    more = {"state": had["state"]} if "state" in had else {}
    written = _Writer(program, more).document(program.sequence, program.ends, had["name"])
    program.graph = {**written, "nodes": [{**node, **nodes.get(node["name"], {})} for node in written["nodes"]]}
    return waits


def _key_of(wait: str) -> str:
    # Functions and conditions look at this one.
    return "k" + wait[-1]


def _expect(program: Program, waits: dict[str, int]) -> Expectation:
    walker = _Waiting(program.state, waits)
    view = walker.sequence(program.sequence, frozenset({0}))
    data = None if view is None else walker.read(view)
    if view is None and not walker.failures:
        walker.failures.add("end_not_reached")
    return Expectation(walker.failures, data, walker.ran, len(walker.writes) - 1 + walker.commits, walker.inside)


class _Waiting(_Walker):
    """A walk over a program with waits, of which each has what it takes.

    Args:
        state: Initial.
        waits: What each takes.
    """

    def __init__(self, state: Json, waits: dict[str, int]) -> None:
        super().__init__(state)
        self._waits = waits

    def call(self, step: Step, view: View) -> View:
        if step.name not in self._waits:
            return super().call(step, view)
        before = self.read(view)
        return self.write(view, before, {**before, _key_of(step.name): self._waits[step.name]})
