"""The examples of docs/semantics.md do what it says they do."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sandgraph.api.schemas.graph import parse_graph
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordCommit, RecordNodeRun, RecordRun, ScheduleRetry
from sandgraph.model.graph import Condition, Graph, NodeType, problems
from sandgraph.model.history import state_at
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus
from sandgraph.model.state import Json, SetKey, StateDiff
from sandgraph.model.topology import Topology, analyse
from sandgraph.settings import load_settings

PAGE = Path(__file__).parents[3] / "docs" / "semantics.md"

Function = Callable[[Mapping[str, Json]], dict[str, Json]]


class Attributes(dict[str, Any]):
    """A state as the page's conditions read it."""

    __getattr__ = dict.__getitem__


class Performance:
    """One run of a graph, with its functions called right here."""

    def __init__(
        self,
        graph: Graph,
        state: dict[str, Json],
        functions: Mapping[str, Function],
        failures: Mapping[str, Sequence[AttemptStatus]],
        cancel_after: str | None,
        first: Sequence[str],
    ) -> None:
        topology = analyse(graph)
        assert isinstance(topology, Topology)
        self.initial = state
        self.functions = functions
        self.failures = failures
        self.cancel_after = cancel_after
        self.first = first
        self.commands: list[Command] = []
        self.run = scheduler.Run(graph, topology)
        self._tell(events.RunStarted(state))

    def play(self, order: Random | None) -> None:
        while not self.run.status.is_final:
            keys = list(self.run.active)
            early = [key for name in self.first for key in keys if key.node == name]
            key = early[0] if early else order.choice(keys) if order else keys[0]
            active = self.run.active[key]
            if active.is_waiting:
                self._tell(events.RetryDue(key, active.attempt))
            elif active.attempt <= len(failures := self.failures.get(key.node, ())):
                status = failures[active.attempt - 1]
                self._tell(events.AttemptFailed(key, active.attempt, status, Failure(status, "It broke.")))
            else:
                self._tell(self._result(key, active))
                if key.node == self.cancel_after:
                    self._tell(events.CancelRequested())

    def outcome(self) -> Iterator[str]:
        found: dict[NodeRunKey, str] = {}
        for command in self.commands:
            if isinstance(command, RecordNodeRun):
                shown = {NodeRunStatus.SKIPPED: "({})", NodeRunStatus.CANCELLED: "[{}]"}.get(command.status, "{}")
                found[command.key] = shown.format(command.key)
        (ended,) = (each for each in self.commands if isinstance(each, RecordRun) and each.status.is_final)
        yield f"{ended.status}: {', '.join(found.values())}"
        if ended.failure:
            yield f"{ended.failure.code}: {ended.failure.message}"
        # What a conflict leaves depends on who was faster.
        if not ended.failure or ended.failure.code != "state_conflict":
            yield as_json(ended.state or {})

    def _tell(self, event: events.Event) -> None:
        self.run, commands = scheduler.step(self.run, event)
        self.commands += commands

    def _result(self, key: NodeRunKey, active: scheduler.Active) -> events.AttemptSucceeded:
        node = self.run.topology.nodes[key.node]
        state = Attributes(active.view.state)
        is_entry = node.type is NodeType.LOOP and active.lap == 1
        entered = not (is_entry and node.condition and not holds(node.condition, state))
        changes = self.functions[key.node](state) if entered and key.node in self.functions else {}
        after = Attributes(state | changes)
        again = holds(node.condition, after) if node.condition and entered else None
        conditions = [self.run.graph.edges[i].condition for i in self.run.topology.outgoing[key.node]]
        answers = tuple(holds(condition, after) for condition in conditions if condition)
        ops = tuple(SetKey(name, value) for name, value in sorted(changes.items()) if state.get(name, ...) != value)
        return events.AttemptSucceeded(key, active.attempt, StateDiff(ops), entered, again, answers)


class Reader:
    """Reads the page: the last graph it met is the one that examples are about."""

    def __init__(self) -> None:
        self.graph = Graph("none", ())
        self.last: Performance | None = None

    def show(self, document: str) -> None:
        self.graph = parse_graph(json.loads(document), load_settings())

    def play(
        self,
        state: dict[str, Json],
        *,
        failures: Mapping[str, int | Sequence[str]] | None = None,
        cancel_after: str | None = None,
        first: Sequence[str] = (),
        **functions: Function,
    ) -> None:
        assert problems(self.graph, Limits()) == []
        assert set(functions) | set(failures or {}) <= {node.name for node in self.graph.nodes if node.function}

        broken = {
            name: [AttemptStatus(each) for each in (["error"] * how if isinstance(how, int) else how)]
            for name, how in (failures or {}).items()
        }

        def perform(order: Random | None) -> Performance:
            performance = Performance(self.graph, state, functions, broken, cancel_after, first)
            performance.play(order)
            return performance

        self.last = perform(None)
        lines = list(self.last.outcome())
        expected = [sorted(lines[0].split()), *lines[1:]]
        for seed in range(10):
            found = list(perform(Random(seed)).outcome())
            assert [sorted(found[0].split()), *found[1:]] == expected
        print("\n".join(lines))  # noqa: T201

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
            print(f"{number} {name}{as_json(state_at(self.last.initial, commits, number) or {})}")  # noqa: T201


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
    names = {"play": reader.play, "check": reader.check, "waits": reader.waits, "checkpoints": reader.checkpoints}
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
