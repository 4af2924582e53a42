"""The examples of docs/semantics.md do what it says they do."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.unit.model.ancestors import state_by_ancestors

from sandgraph.api.schemas.graph import parse_graph
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordCommit, RecordNodeRun, RecordRun, ScheduleRetry, StartAttempt
from sandgraph.model.graph import Condition, Graph
from sandgraph.model.limits import Limits
from sandgraph.model.progress import Blueprint
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus
from sandgraph.model.state import Json, SetKey, StateDiff
from sandgraph.model.topology import Topology, analyse
from sandgraph.model.validity import problems
from sandgraph.settings import load_settings

PAGE = Path(__file__).parents[3] / "docs" / "semantics.md"

Function = Callable[..., Any]


class Attributes(dict[str, Any]):
    """A state as the page's conditions read it."""

    __getattr__ = dict.__getitem__


@dataclass(frozen=True)
class Script:
    """What happens to a run: see `Reader.play`."""

    functions: Mapping[str, Function]
    failures: Mapping[str, Sequence[AttemptStatus]]
    cancel_after: str | None = None
    pause_after: str | None = None
    first: Sequence[str] = ()
    early: Sequence[tuple[str, Json]] = ()
    events: Sequence[tuple[str, Json]] = ()
    lapse: Sequence[str] = ()


class Performance:
    """One run of a graph, with its functions called right here."""

    def __init__(self, graph: Graph, subgraphs: Mapping[str, Graph], state: dict[str, Json], script: Script) -> None:
        self.initial = state
        self.script = script
        self.graphs = {"": graph, **subgraphs}
        self.commands: list[Command] = []
        self.events = list(script.events)
        blueprints = {name: Blueprint(inner, topology_of(inner)) for name, inner in subgraphs.items()}
        self.run = scheduler.Run(graph, topology_of(graph), subgraphs=blueprints)
        self.starts: dict[NodeRunKey, StartAttempt] = {}
        self._tell(events.RunStarted(state))
        for event in script.early:
            self._send(event)

    def play(self, order: Random | None) -> None:
        """Go on until the run ends, or waits for what does not come."""
        while not self.run.status.is_final:
            active = {key: each for key, each in self.run.attempts() if not each.is_held}
            if late := self._late(is_idle=not active):
                self._tell(events.TimeElapsed(late))
            elif active:
                early = [key for name in self.script.first for key in active if name in {key.node, str(key)}]
                key = early[0] if early else order.choice(list(active)) if order else next(iter(active))
                self._go_on_with(key, active[key])
            elif self.events:
                self._send(self.events.pop(0))
            else:
                return

    def unpause(self) -> None:
        self._tell(events.UnpauseRequested())
        self.play(None)

    def _go_on_with(self, key: NodeRunKey, active: scheduler.Active) -> None:
        failures = self.script.failures.get(str(key), self.script.failures.get(key.node, ()))
        if active.is_waiting:
            self._tell(events.RetryDue(key, active.attempt))
        elif active.attempt <= len(failures):
            status = failures[active.attempt - 1]
            self._tell(events.AttemptFailed(key, active.attempt, status, Failure(status, "It broke.")))
        else:
            self._tell(self._result(key, active))
            if key.node == self.script.cancel_after:
                self._tell(events.CancelRequested())
            if key.node == self.script.pause_after:
                self._tell(events.PauseRequested())

    def _late(self, *, is_idle: bool) -> NodeRunKey | None:
        """Return what is to take too long: a map or a subgraph at once, a wait if nothing else is left to be done."""
        keys = [*self.run.maps, *self.run.inside, *(self.run.waits if is_idle and not self.events else ())]
        return next((key for key in keys if key.node in self.script.lapse), None)

    def outcome(self) -> Iterator[str]:
        found: dict[NodeRunKey, str] = {}
        forms = {NodeRunStatus.SKIPPED: "({})", NodeRunStatus.CANCELLED: "[{}]", NodeRunStatus.WAITING: "{}..."}
        for command in self.commands:
            if isinstance(command, RecordNodeRun):
                found[command.key] = forms.get(command.status, "{}").format(command.key)
        (*_, ended) = (each for each in self.commands if isinstance(each, RecordRun))
        yield f"{ended.status}: {', '.join(found.values())}"
        if ended.failure:
            yield f"{ended.failure.code}: {ended.failure.message}"
        # What a conflict leaves depends on who was faster.
        if ended.status.is_final and not (ended.failure and ended.failure.code == "state_conflict"):
            yield as_json(ended.state or {})

    def _send(self, event: tuple[str, Json]) -> None:
        self._tell(events.EventReceived(*event, event_id=str(len(self.commands))))

    def _tell(self, event: events.Event) -> None:
        self.run, commands = scheduler.step(self.run, event)
        self.commands += commands
        self.starts |= {each.key: each for each in commands if isinstance(each, StartAttempt)}

    def _result(self, key: NodeRunKey, active: scheduler.Active) -> events.AttemptSucceeded:
        graph = self.graphs[self.starts[key].graph_id or ""]
        node = next(node for node in graph.nodes if node.name == key.node)
        function = self.script.functions.get(key.node, nothing)
        state = Attributes(active.view.state)
        if active.item is not None:
            items = state[node.items or ""]
            return events.AttemptSucceeded(key, active.attempt, value=function(items[active.item], state))
        entered = not (self.starts[key].is_entry and node.condition and not holds(node.condition, state))
        changes = function(state) if entered and node.function and not active.asks_only else {}
        after = Attributes(state | changes)
        again = holds(node.condition, after) if node.condition and entered else None
        conditions = [edge.condition for edge in graph.edges if edge.source == key.node]
        answers = tuple(holds(condition, after) for condition in conditions if condition)
        ops = tuple(SetKey(name, value) for name, value in sorted(changes.items()) if state.get(name, ...) != value)
        return events.AttemptSucceeded(key, active.attempt, StateDiff(ops), entered, again, answers)


def nothing(*_: object) -> dict[str, Json]:
    return {}


def topology_of(graph: Graph) -> Topology:
    topology = analyse(graph)
    assert isinstance(topology, Topology)
    return topology


class Reader:
    """Reads the page: the last graph it met is the one that examples are about."""

    def __init__(self) -> None:
        self.graph = Graph("none", ())
        self.graphs: dict[str, Graph] = {}
        self.last: Performance | None = None

    def show(self, document: str) -> None:
        """Read a graph; on the page, its id is its name."""
        self.graph = parse_graph(json.loads(document), load_settings())
        self.graphs[self.graph.name] = self.graph

    def play(
        self,
        state: dict[str, Json],
        *,
        failures: Mapping[str, int | Sequence[str]] | None = None,
        cancel_after: str | None = None,
        pause_after: str | None = None,
        first: Sequence[str] = (),
        early: Sequence[tuple[str, Json]] = (),
        events: Sequence[tuple[str, Json]] = (),
        lapse: Sequence[str] = (),
        **functions: Function,
    ) -> None:
        assert problems(self.graph, Limits()) == []
        inside = {node.graph_id for node in self.graph.nodes if node.graph_id}
        subgraphs = {name: self.graphs[name] for name in sorted(inside)}
        nodes = [node for graph in (self.graph, *subgraphs.values()) for node in graph.nodes]
        named = {name.rpartition("/")[2].partition("#")[0] for name in {*functions, *(failures or {})}}
        assert named <= {node.name for node in nodes if node.function}
        assert set(lapse) <= {node.name for node in nodes}

        broken = {
            name: [AttemptStatus(each) for each in (["error"] * how if isinstance(how, int) else how)]
            for name, how in (failures or {}).items()
        }
        script = Script(functions, broken, cancel_after, pause_after, first, early, events, lapse)

        def perform(order: Random | None) -> Performance:
            performance = Performance(self.graph, subgraphs, state, script)
            performance.play(order)
            return performance

        self.last = perform(None)
        lines = list(self.last.outcome())
        expected = [sorted(lines[0].split()), *lines[1:]]
        for seed in range(10):
            found = list(perform(Random(seed)).outcome())
            assert [sorted(found[0].split()), *found[1:]] == expected
        print("\n".join(lines))  # noqa: T201

    def unpause(self) -> None:
        assert self.last is not None
        self.last.unpause()
        print("\n".join(self.last.outcome()))  # noqa: T201

    def check(self) -> None:
        found = problems(self.graph, Limits()) or analyse(self.graph)
        for problem in found if isinstance(found, list) else []:
            print(f"{problem.path}: {problem.code}")  # noqa: T201

    def waits(self, name: str) -> None:
        assert self.last is not None
        found = [each for each in self.last.commands if isinstance(each, ScheduleRetry) and each.key.node == name]
        print(", ".join(str(each.delay_s) for each in found))  # noqa: T201

    def checkpoints(self) -> None:
        assert self.last is not None
        commits = [each for each in self.last.commands if isinstance(each, RecordCommit)]
        for number, name in enumerate(["", *(f"{each.key} " for each in commits)]):
            print(f"{number} {name}{as_json(state_by_ancestors(self.last.initial, commits, number) or {})}")  # noqa: T201


def holds(condition: Condition, state: Attributes) -> bool:
    assert condition.expression
    return bool(eval(condition.expression, {"state": state}))  # the page's own expressions


def as_json(state: Mapping[str, Json]) -> str:
    return json.dumps(dict(state), sort_keys=True)


def sections() -> dict[str, list[tuple[str, str]]]:
    """Return the page's code blocks by heading: a language and a text each."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    blocks = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return {heading: blocks.findall(text) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize(("heading", "blocks"), sections().items(), ids=sections())
def test_examples(heading: str, blocks: list[tuple[str, str]]) -> None:
    reader = Reader()
    names = {
        "play": reader.play,
        "unpause": reader.unpause,
        "check": reader.check,
        "waits": reader.waits,
        "checkpoints": reader.checkpoints,
    }
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    assert blocks
    for language, text in blocks:
        assert language in {"json", "python"}
        if language == "json":
            reader.show(text)
            continue
        test = doctest.DocTestParser().get_doctest(text, names, heading, str(PAGE), 0)
        assert test.examples
        runner.run(test, out=told.append, clear_globs=False)
    assert not runner.failures, "\n" + "".join(told)
