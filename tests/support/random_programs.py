"""Random graphs with what must come of running them, said a second time without graphs: as nested Python.

A program is a tree of steps, forks and repetitions; a rich one has maps, timers and programs inside it, too. It is
written down twice: as a graph document, and as a walk over the tree itself, where a view is the set of the commits that
a branch has seen, and a key's value is that of the one commit that no other commit of the view supersedes; or with a
reducer, what all of them come to.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
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

#: What is added to, and how it comes together: in ways for which no order matters.
REDUCERS = {"total": "add", "top": "max", "low": "min", "seen": "merge"}

SOURCES |= {
    "tally": """
import json, zlib

def tally(state):
    drawn = zlib.crc32(json.dumps([state.node, state.iteration, state.to_dict()], sort_keys=True).encode())
    state.set("total", state.get("total", 0) + drawn % 7 - 3)
    state.set("top", max(state.get("top", drawn % 50), drawn % 100))
    state.set("low", min(state.get("low", drawn % 100), drawn % 50))
    state.set("seen", {**state.get("seen", {}), state.node: state.iteration})
""",
    "weigh": "def weigh(item):\n    return item * 2 + 1\n",
    "weigh_more": "def weigh_more(item, state):\n    return [item, state.get('k1', 0)]\n",
}

_EXPRESSIONS = (
    "state.k0 % 3 != 1 if 'k0' in state else True",
    "state.get('k1', 7) % 4 < 2",
    "sum(value for value in state.to_dict().values() if isinstance(value, int)) % 3 == 0",
    "len(state.keys()) > 2",
)
Condition = str | dict[str, str]


class Conflict(Exception):
    """Commits that do not know of each other changed one key."""


class TooLong(Exception):
    """The program runs longer than a test should."""


@dataclass
class Step:
    """A node; of ``lap_condition``, a loop; with ``into``, a map; with ``wait_s``, a timer."""

    name: str
    function: str | None
    lap_condition: Condition | None = None
    max_laps: int = 1
    on_max: str = "exit"
    into: str | None = None
    wait_s: float | None = None


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


@dataclass
class Inside:
    """A subgraph."""

    name: str
    sequence: Sequence


Part = Step | Fork | Repeat | Inside


@dataclass
class Program:
    seed: int
    sequence: Sequence
    state: Json
    ends: int
    graph: Json = field(default_factory=dict)
    subgraphs: dict[str, Json] = field(default_factory=dict)
    """By the names that stand for their ids: what is inside of others comes before these."""


def with_ids(document: Json, ids: Mapping[str, str]) -> Json:
    """Return a document with the ids of the graphs that were created."""
    document = deepcopy(document)
    for node in document["nodes"]:
        if "graph_id" in node:
            node["graph_id"] = ids[node["graph_id"]]
    return document


def make(seed: int, *, rich: bool = False) -> Program:
    """Return a random program, the same for the same seed, that is over soon."""
    for attempt in range(1_000):
        program = _Maker(random.Random(f"{seed}/{attempt}"), rich=rich).program(seed)
        try:
            expectation = expect(program)
        except TooLong:
            continue
        if expectation.commits > 3:
            return program
    raise AssertionError("no program is short enough")


class _Maker:
    def __init__(self, chance: random.Random, *, rich: bool) -> None:
        self.chance = chance
        self.rich = rich
        self.count = 0

    def program(self, seed: int) -> Program:
        state: Json = {f"k{i}": self.chance.randrange(100) for i in range(self.chance.randint(0, 3))}
        if self.rich:
            state["items"] = list(range(self.chance.randint(0, 4)))
        ends = self.chance.choice([0, 1, 1, 2])
        program = Program(seed, self.sequence(3, self.chance.randint(2, 4)), state, ends)
        writer = _Writer(
            program, {"state": {key: {"reducer": how} for key, how in REDUCERS.items()}} if self.rich else {}
        )
        program.graph = writer.document(program.sequence, program.ends, f"program {seed}")
        return program

    def sequence(self, depth: int, length: int) -> Sequence:
        return Sequence([self.part(depth) for _ in range(length)])

    def part(self, depth: int) -> Part:
        kinds = ["step", "step", "loop", "fork", "fork", "repeat"] if depth else ["step"]
        if self.rich:
            kinds += ["step", "map", "map", "timer", *(["inside", "inside"] if depth else [])]
        kind = self.chance.choice(kinds)
        if kind == "inside":
            return Inside(self.step().name, self.sequence(depth - 1, self.chance.randint(1, 3)))
        if kind == "map":
            function = self.chance.choice(["weigh", "weigh_more"])
            return Step(self.step().name, function, into=self.chance.choice(["r1", "r2", "r3"]))
        if kind == "timer":
            return Step(self.step().name, None, wait_s=self.chance.choice([0.001, 0.01]))
        if kind == "fork":
            return self.fork(depth)
        if kind == "repeat":
            return self.repeat(depth)
        return self.step(loop=kind == "loop")

    def step(self, *, loop: bool = False) -> Step:
        self.count += 1
        name = f"{self.chance.choice(['步', 'étape ', 'n.', 'a/b '])}{self.count}"
        bodies = [*BODIES, *(["tally"] * len(BODIES))] if self.rich else BODIES
        if loop:
            return Step(
                name,
                self.chance.choice(bodies),
                self.condition(),
                self.chance.randint(1, 3),
                self.chance.choice(["exit", "exit", "fail"]),
            )
        return Step(name, self.chance.choice([*bodies, None]))

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
    """Writes a program, or what is inside of one, as a graph."""

    def __init__(self, program: Program, more: Json) -> None:
        self.program = program
        self.more = more
        self.nodes: list[Json] = [{"name": "start", "type": "start"}]
        self.edges: list[Json] = []

    def document(self, sequence: Sequence, ends: int, name: str) -> Json:
        last = self.sequence(sequence, [("start", {})])
        for number in range(ends):
            self.nodes.append({"name": f"end {number}", "type": "end"})
            self.edge(last, f"end {number}")
        return {"name": name, "nodes": self.nodes, "edges": self.edges, "max_steps": 1_000, **self.more}

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
            case Inside():
                writer = _Writer(self.program, self.more)
                name = f"{self.program.graph.get('name', 'inside')} {part.name}"
                self.program.subgraphs[part.name] = writer.document(part.sequence, 1, name)
                self.nodes.append({"name": part.name, "type": "subgraph", "graph_id": part.name})
                self.edge(before, part.name)
                return [(part.name, {})]
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
        if step.into:
            node |= {"type": "map", "items": "items", "into": step.into, "max_concurrency": 2}
        if step.wait_s is not None:
            node |= {"type": "wait", "timeout_s": step.wait_s}
        self.nodes.append(node)
        self.edge(before, step.name)
        return [(step.name, {})]


@dataclass
class Expectation:
    """What a run must come to.

    Attributes:
        codes: Those that its error may have; none if it completes. Of branches that fail, either may be first.
        data: Its final state, where it completes.
        ran: How often each node ran, where it completes; those inside of maps and subgraphs are not among them.
        commits: How many commits there are.
        inside: How many node runs of maps and subgraphs there are, start and end not counted, where it completes.
    """

    codes: set[str]
    data: Json | None
    ran: Counter[str]
    commits: int
    inside: int = 0


def expect(program: Program) -> Expectation:
    """Walk a program."""
    walker = _Walker(program.state)
    view = walker.sequence(program.sequence, frozenset({0}))
    data = None if view is None else walker.read(view)
    if view is None and not walker.failures:
        walker.failures.add("end_not_reached")
    return Expectation(walker.failures, data, walker.ran, len(walker.writes) - 1 + walker.commits, walker.inside)


class _State(dict[str, Any]):
    """What a condition reads."""

    def to_dict(self) -> Json:
        return dict(self)

    def __getattr__(self, key: str) -> object:
        return self[key]


class _Walker:
    """Walks over a program; ``commits`` and ``inside`` are what goes on inside of its maps and subgraphs."""

    def __init__(self, state: Json) -> None:
        self.commits = 0
        self.inside = 0
        self.writes: list[Json] = [dict(state)]
        self.past: list[View] = [frozenset()]
        self.failures: set[str] = set()
        self.ran: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()

    def read(self, view: View) -> Json:
        state: Json = {}
        for key in {key for number in view for key in self.writes[number]}:
            writers = [number for number in view if key in self.writes[number]]
            if key in REDUCERS:
                # A commit's number is higher than those of the commits that it saw.
                state[key] = _total(key, [self.writes[number][key] for number in sorted(writers)])
                continue
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
            return bool(state.get("k2", 0) % 2 == 0)
        return bool(eval(condition, {"state": state}))

    def sequence(self, sequence: Sequence, view: View | None) -> View | None:
        for part in sequence.parts:
            view = self.part(part, view)
        return view

    def part(self, part: Part, view: View | None) -> View | None:
        match part:
            case Step():
                return self.step(part, view)
            case Inside():
                return self.into(part, view)
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

    def into(self, part: Inside, view: View | None) -> View | None:
        if view is None:
            return None
        self.count(part.name)
        before = self.read(view)
        inner = _Walker(before)
        last = inner.sequence(part.sequence, frozenset({0}))
        self.commits += len(inner.writes) - 1 + inner.commits
        self.inside += inner.ran.total() + inner.inside
        self.failures |= inner.failures
        if last is None:
            self.failures |= inner.failures or {"end_not_reached"}
            return None
        after = inner.read(last)
        return self.write(view, before, after) if before != after else view

    def count(self, name: str) -> None:
        self.begun[name] += 1
        self.ran[name] += 1
        if self.ran.total() + self.inside > MAX_RUNS:
            raise TooLong

    def step(self, step: Step, view: View | None) -> View | None:
        if view is None:
            self.begun[step.name] += 1
            return None
        for lap in range(1, step.max_laps + 1):
            enters = lap > 1 or step.lap_condition is None or self.holds(step.lap_condition, view)
            self.count(step.name)
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
        drawn = zlib.crc32(json.dumps([step.name, self.begun[step.name], before], sort_keys=True).encode())
        if step.into:
            items, more = before["items"], before.get("k1", 0)
            self.inside += len(items)
            after[step.into] = [[i, more] if step.function == "weigh_more" else i * 2 + 1 for i in items]
        elif step.function.startswith("mix_"):
            after["k" + step.function[-1]] = drawn
        elif step.function == "forget":
            after.pop("k0", None)
            after["k1"] = len(after)
        elif step.function == "tally":
            after["total"] = before.get("total", 0) + drawn % 7 - 3
            after["top"] = max(before.get("top", drawn % 50), drawn % 100)
            after["low"] = min(before.get("low", drawn % 100), drawn % 50)
            after["seen"] = {**before.get("seen", {}), step.name: self.begun[step.name]}
        return self.write(view, before, after)

    def write(self, view: View, before: Json, after: Json) -> View:
        changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
        changed |= dict.fromkeys(before.keys() - after.keys())
        for key in changed.keys() & REDUCERS.keys():
            if key == "total":
                changed[key] -= before.get(key, 0)
            elif key == "seen":
                changed[key] = {
                    name: value for name, value in after[key].items() if before.get(key, {}).get(name) != value
                }
        self.writes.append(changed)
        self.past.append(view)
        return view | {len(self.writes) - 1}


def _total(key: str, values: list[Any]) -> object:
    if key == "total":
        return sum(values)
    if key == "seen":
        return {name: value for each in values for name, value in each.items()}
    return max(values) if key == "top" else min(values)
