"""Random graphs with what must come of running them, said a second time without graphs: as nested Python.

A program is a tree of steps, forks and repetitions. It is written down twice: as a graph document, and as a walk over
the tree itself, where a view is the set of the commits that a branch has seen, and a key's value is that of the one
commit that no other commit of the view supersedes.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
View = frozenset[int]

KEYS = 5
MAX_RUNS = 40
"""Node runs of one program: more would only take longer."""

_MIX = """
import json, zlib

def mix_{0}(state):
    seen = json.dumps([state.node, state.iteration, state.to_dict()], sort_keys=True)
    state.set("k{0}", zlib.crc32(seen.encode()))
"""

SOURCES = {f"mix_{i}": _MIX.format(i) for i in range(KEYS)} | {
    "forget": 'def forget(state):\n    state.delete("k0")\n    return {"k1": len(state.keys())}\n',
    "look": "async def look(state):\n    print(state.node)\n",
    "is_even": 'def is_even(state):\n    return state.get("k2", 0) % 2 == 0\n',
}

BODIES = [name for name in SOURCES if name != "is_even"]

_EXPRESSIONS = (
    "state.k0 % 3 != 1 if 'k0' in state else True",
    "state.get('k1', 7) % 4 < 2",
    "sum(state.to_dict().values()) % 3 == 0",
    "len(state.keys()) > 2",
)
Condition = str | dict[str, str]


class Conflict(Exception):
    """Commits that do not know of each other changed one key."""


class TooLong(Exception):
    """The program runs longer than a test should."""


@dataclass
class Step:
    """A node; of ``lap_condition``, a loop."""

    name: str
    function: str | None
    lap_condition: Condition | None = None
    max_laps: int = 1
    on_max: str = "exit"


@dataclass
class Sequence:
    parts: list[Part]


@dataclass
class Fork:
    """Branches that meet again; None leads straight to the join. The default branch is the last, if there is one."""

    at: Step
    branches: list[tuple[Condition | None, Sequence | None]]
    has_default: bool
    join: Step


@dataclass
class Repeat:
    """A cycle: the body again and again, with exits in its midst and at its end, that meet behind it."""

    head: Step
    exit: Condition | None
    body: Sequence
    latch: Step
    again: Condition
    leave: Condition | None
    after: Step


Part = Step | Fork | Repeat


@dataclass
class Program:
    seed: int
    sequence: Sequence
    state: dict[str, int]
    ends: int
    graph: Json = field(default_factory=dict)


def make(seed: int) -> Program:
    """Return a random program, the same for the same seed, that is over soon."""
    for attempt in range(1_000):
        program = _Maker(random.Random(f"{seed}/{attempt}")).program(seed)
        try:
            expectation = expect(program)
        except TooLong:
            continue
        if expectation.commits > 3:
            return program
    raise AssertionError("no program is short enough")


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.count = 0

    def program(self, seed: int) -> Program:
        state = {f"k{i}": self.chance.randrange(100) for i in range(self.chance.randint(0, 3))}
        ends = self.chance.choice([0, 1, 1, 2])
        program = Program(seed, self.sequence(3, self.chance.randint(2, 4)), state, ends)
        program.graph = _Writer(program).document()
        return program

    def sequence(self, depth: int, length: int) -> Sequence:
        return Sequence([self.part(depth) for _ in range(length)])

    def part(self, depth: int) -> Part:
        kind = self.chance.choice(["step", "step", "loop", "fork", "fork", "repeat"] if depth else ["step"])
        if kind == "fork":
            return self.fork(depth)
        if kind == "repeat":
            return self.repeat(depth)
        return self.step(loop=kind == "loop")

    def step(self, *, loop: bool = False) -> Step:
        self.count += 1
        name = f"{self.chance.choice(['步', 'étape ', 'n.', 'a/b '])}{self.count}"
        if loop:
            return Step(
                name,
                self.chance.choice(BODIES),
                self.condition(),
                self.chance.randint(1, 3),
                self.chance.choice(["exit", "exit", "fail"]),
            )
        return Step(name, self.chance.choice([*BODIES, None]))

    def condition(self) -> Condition:
        conditions: list[Condition] = [*_EXPRESSIONS, {"function": "is_even"}]
        return self.chance.choice(conditions)

    def fork(self, depth: int) -> Fork:
        branches: list[tuple[Condition | None, Sequence | None]] = [
            (self.chance.choice([None, self.condition()]), self.sequence(depth - 1, self.chance.randint(1, 2)))
            for _ in range(self.chance.randint(1, 3))
        ]
        if self.chance.random() < 0.3:
            branches[0] = (branches[0][0], None)
        has_default = self.chance.random() < 0.7
        if has_default:
            branches[-1] = (None, branches[-1][1])
        return Fork(self.step(loop=self.chance.random() < 0.2), branches, has_default, self.step())

    def repeat(self, depth: int) -> Repeat:
        leave = self.chance.choice([None, self.condition()])
        inner = self.sequence(depth - 1, self.chance.randint(1, 2))
        early = self.chance.choice([None, self.condition()])
        return Repeat(self.step(), early, inner, self.step(), self.condition(), leave, self.step())


class _Writer:
    """Writes a program as a graph."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Json] = [{"name": "start", "type": "start"}]
        self.edges: list[Json] = []

    def document(self) -> Json:
        last = self.sequence(self.program.sequence, [("start", {})])
        for number in range(self.program.ends):
            self.nodes.append({"name": f"end {number}", "type": "end"})
            self.edge(last, f"end {number}")
        return {"name": f"program {self.program.seed}", "nodes": self.nodes, "edges": self.edges, "max_steps": 1_000}

    def edge(self, sources: list[tuple[str, Json]], target: str) -> None:
        self.edges += ({"source": source, "target": target, **more} for source, more in sources)

    def sequence(self, sequence: Sequence, before: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
        for part in sequence.parts:
            before = self.part(part, before)
        return before

    def part(self, part: Part, before: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
        match part:
            case Step():
                return self.step(part, before)
            case Fork():
                self.step(part.at, before)
                ends: list[tuple[str, Json]] = []
                for i, (condition, branch) in enumerate(part.branches):
                    is_default = part.has_default and i == len(part.branches) - 1
                    more: Json = {"default": True} if is_default else {"condition": condition} if condition else {}
                    entry = [(part.at.name, more)]
                    ends += entry if branch is None else self.sequence(branch, entry)
                return self.step(part.join, ends)
            case Repeat():
                self.step(part.head, before)
                ends = [(part.head.name, {"condition": part.exit})] if part.exit else []
                inner = self.sequence(part.body, [(part.head.name, {})])
                self.step(part.latch, inner)
                self.edge([(part.latch.name, {"condition": part.again})], part.head.name)
                leave: Json = {"condition": part.leave} if part.leave else {}
                return self.step(part.after, [*ends, (part.latch.name, leave)])

    def step(self, step: Step, before: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
        node: Json = {"name": step.name}
        if step.function:
            node["function"] = step.function
        if step.lap_condition:
            bound = {"max_iterations": step.max_laps, "on_max": step.on_max}
            node |= {"type": "loop", "condition": step.lap_condition, **bound}
        self.nodes.append(node)
        self.edge(before, step.name)
        return [(step.name, {})]


@dataclass
class Expectation:
    """What a run must come to.

    Attributes:
        codes: Those that its error may have; none if it completes. Of branches that fail, either may be first.
        data: Its final state, where it completes.
        ran: How often each node ran, where it completes.
        commits: How many commits there are.
    """

    codes: set[str]
    data: Json | None
    ran: Counter[str]
    commits: int


def expect(program: Program) -> Expectation:
    """Walk a program."""
    walker = _Walker(program.state)
    view = walker.sequence(program.sequence, frozenset({0}))
    data = None if view is None else walker.read(view)
    if view is None and not walker.failures:
        walker.failures.add("end_not_reached")
    return Expectation(walker.failures, data, walker.ran, len(walker.writes) - 1)


class _State(dict[str, int]):
    node: str
    iteration: int

    def set(self, key: str, value: int) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)

    def to_dict(self) -> dict[str, int]:
        return dict(self)

    def __getattr__(self, key: str) -> int:
        return self[key]


class _Walker:
    def __init__(self, state: dict[str, int]) -> None:
        self.writes: list[dict[str, int | None]] = [dict(state)]
        self.past: list[View] = [frozenset()]
        self.failures: set[str] = set()
        self.ran: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()

    def read(self, view: View) -> dict[str, int]:
        state: dict[str, int] = {}
        for key in {key for number in view for key in self.writes[number]}:
            writers = [number for number in view if key in self.writes[number]]
            last = [one for one in writers if not any(one in self.past[other] for other in writers)]
            if len(last) > 1:
                raise Conflict
            value = self.writes[last[0]][key]
            if value is not None:
                state[key] = value
        return state

    def holds(self, condition: Condition | None, view: View) -> bool:
        if condition is None:
            return True
        state = _State(self.read(view))
        if isinstance(condition, dict):
            return state.get("k2", 0) % 2 == 0
        return bool(eval(condition, {"state": state}))

    def sequence(self, sequence: Sequence, view: View | None) -> View | None:
        for part in sequence.parts:
            view = self.part(part, view)
        return view

    def part(self, part: Part, view: View | None) -> View | None:
        match part:
            case Step():
                return self.step(part, view)
            case Fork():
                view = self.step(part.at, view)
                taken = [
                    view is not None
                    and not (part.has_default and i == len(part.branches) - 1)
                    and self.holds(condition, view)
                    for i, (condition, _) in enumerate(part.branches)
                ]
                if part.has_default and not any(taken):
                    taken[-1] = True
                came = []
                for is_taken, (_, branch) in zip(taken, part.branches, strict=True):
                    into = view if is_taken else None
                    came.append(into if branch is None else self.sequence(branch, into))
                return self.step(part.join, self.meet(came))
            case Repeat():
                return self.repeat(part, view)

    def repeat(self, part: Repeat, view: View | None) -> View | None:
        early: View | None = None
        late: View | None = None
        while True:
            view = self.step(part.head, view)
            if part.exit and view is not None and self.holds(part.exit, view):
                early = view
            view = self.step(part.latch, self.sequence(part.body, view))
            if view is None:
                break
            if self.holds(part.leave, view):
                late = view
            if not self.holds(part.again, view):
                break
        return self.step(part.after, self.meet([early, late]))

    def meet(self, views: list[View | None]) -> View | None:
        came = [view for view in views if view is not None]
        if not came:
            return None
        merged = frozenset().union(*came)
        try:
            self.read(merged)
        except Conflict:
            # Go on as if the branch were dead: what others would fail with is as good.
            self.failures.add("state_conflict")
            return None
        return merged

    def step(self, step: Step, view: View | None) -> View | None:
        if view is None:
            self.begun[step.name] += 1
            return None
        for lap in range(1, step.max_laps + 1):
            enters = lap > 1 or step.lap_condition is None or self.holds(step.lap_condition, view)
            self.begun[step.name] += 1
            self.ran[step.name] += 1
            if self.ran.total() > MAX_RUNS:
                raise TooLong
            if not enters:
                return view
            view = self.call(step, view)
            if step.lap_condition is not None and not self.holds(step.lap_condition, view):
                return view
        if step.lap_condition is not None and step.on_max == "fail":
            self.failures.add("max_iterations_reached")
            return None
        return view

    def call(self, step: Step, view: View) -> View:
        if step.function is None:
            return view
        before = self.read(view)
        after = dict(before)
        if step.function.startswith("mix_"):
            seen = json.dumps([step.name, self.begun[step.name], before], sort_keys=True)
            after["k" + step.function[-1]] = zlib.crc32(seen.encode())
        elif step.function == "forget":
            after.pop("k0", None)
            after["k1"] = len(after)
        changed: dict[str, int | None] = {key: value for key, value in after.items() if before.get(key) != value}
        changed |= dict.fromkeys(before.keys() - after.keys())
        self.writes.append(changed)
        self.past.append(view)
        return view | {len(self.writes) - 1}
