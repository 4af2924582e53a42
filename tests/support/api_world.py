"""The API over services made of dictionaries: small, and honest in what they refuse."""

from __future__ import annotations

import ast
import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sandgraph.api.services import Services
from sandgraph.errors import Conflict, InvalidInput, NotFound, Problem, QueueFull, Unavailable
from sandgraph.execution.runtimes import refusal
from sandgraph.model.graph import Graph, problems
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, Failure, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import Json
from sandgraph.model.topology import analyse
from sandgraph.settings import Settings
from sandgraph.store.records import (
    AttemptRecord,
    CodeKind,
    CodeVersion,
    GraphVersion,
    JournalRecord,
    NodeRunRecord,
    Page,
    RunRecord,
    RunSummary,
)

T = TypeVar("T")

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
RUNTIMES = ("runc", "runsc")
CEILING = Limits(cpus=2, memory_mb=1_024, timeout_s=600, pids=256, tmp_mb=256, output_kb=16_384)


def record(
    seq: int, message: str, *, kind: str = "event", type_: str = "node", status: str = "running"
) -> JournalRecord:
    node = None if type_ == "run" else "work"
    return JournalRecord(seq, NOW, kind, type_, node, 1 if node else None, 1 if node else None, status, message, {})


@dataclass
class FakeCatalog:
    code: dict[tuple[CodeKind, str], list[CodeVersion]] = field(default_factory=dict)
    graphs: dict[str, GraphVersion] = field(default_factory=dict)
    error: Exception | None = None

    async def register_function(self, name: str, code: str) -> tuple[CodeVersion, bool]:
        return self._register(CodeKind.FUNCTION, name, code, "")

    async def register_tool(self, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        return self._register(CodeKind.TOOL, name, code, description)

    async def create_graph(self, graph: Graph) -> tuple[GraphVersion, bool]:
        refused = refusal(graph, RUNTIMES)
        found = [
            *([Problem("runtime", "runtime_not_allowed", refused)] if refused else []),
            *problems(graph, CEILING),
            *(
                Problem(path, "unknown_function", f"No function {name!r} is registered; register it first.")
                for path, name in graph.functions()
                if (CodeKind.FUNCTION, name) not in self.code
            ),
        ]
        if not found:
            topology = analyse(graph)
            found = topology if isinstance(topology, list) else []
        for path, condition in graph.conditions():
            if condition.expression is not None:
                found += _syntax(path, condition.expression, "eval")
        if found:
            raise InvalidInput(found)
        latest = [each for each in self.graphs.values() if each.name == graph.name]
        if latest and latest[-1].graph == graph:
            return latest[-1], False
        made = GraphVersion(f"gr_{len(self.graphs) + 1}", graph.name, len(latest) + 1, graph, NOW)
        self.graphs[made.graph_id] = made
        return made, True

    def _register(self, kind: CodeKind, name: str, code: str, description: str) -> tuple[CodeVersion, bool]:
        if self.error is not None:
            raise self.error
        found = _syntax("code", code, "exec")
        if not found:
            defined = {each.name for each in ast.parse(code).body if isinstance(each, ast.FunctionDef)}
            if name not in defined:
                found = [Problem("code", "name_not_defined", f"The code does not define {name!r}.")]
        if found:
            raise InvalidInput(found)
        versions = self.code.setdefault((kind, name), [])
        if versions and versions[-1].code == code:
            return versions[-1], False
        digest = hashlib.sha256(code.encode()).hexdigest()
        versions.append(CodeVersion(name, len(versions) + 1, digest, code, description, NOW))
        return versions[-1], True


def _syntax(path: str, code: str, mode: str) -> list[Problem]:
    try:
        compile(code, "submitted", mode, flags=ast.PyCF_ONLY_AST)
    except SyntaxError as wrong:
        return [Problem(path, "syntax_error", wrong.msg, wrong.lineno, wrong.offset)]
    return []


@dataclass(frozen=True)
class FakeState:
    data: Mapping[str, Json]
    commit: int
    conflicts: tuple[str, ...] = ()


@dataclass
class FakeRuns:
    """Runs that end as soon as they are submitted, unless ``hold`` is set; then `say` and `end` move them."""

    catalog: FakeCatalog
    settings: Settings
    records: dict[str, RunRecord] = field(default_factory=dict)
    journals: dict[str, list[JournalRecord]] = field(default_factory=dict)
    keys: dict[str, tuple[str, str, Mapping[str, Json]]] = field(default_factory=dict)
    hold: bool = False
    status: RunStatus = RunStatus.COMPLETED
    error: Exception | None = None
    followers: int = 0
    waiting: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(
        self, graph_id: str, initial_state: Mapping[str, Json], *, idempotency_key: str | None = None
    ) -> tuple[RunRecord, bool]:
        if self.error is not None:
            raise self.error
        graph = self.catalog.graphs.get(graph_id)
        if graph is None:
            raise NotFound("graph", graph_id)
        if idempotency_key in self.keys:
            run_id, *body = self.keys[idempotency_key]
            if body != [graph_id, initial_state]:
                raise Conflict("The key was used for another run.", code="idempotency_key_reused")
            return self.records[run_id], False
        run_id = f"run_{len(self.records) + 1}"
        self.records[run_id] = RunRecord(
            run_id, graph_id, graph.name, "image", RunStatus.PENDING, None, 0, 0, NOW, None, None, initial_state, None
        )
        self.journals[run_id] = []
        if idempotency_key is not None:
            self.keys[idempotency_key] = (run_id, graph_id, initial_state)
        if not self.hold:
            await self.say(run_id, "working")
            await self.end(run_id, self.status)
        return self.records[run_id], True

    async def say(self, run_id: str, *messages: str) -> None:
        for message in messages:
            await self._append(run_id, record(self._next(run_id), message, kind="log", type_="stdout"))

    async def end(self, run_id: str, status: RunStatus = RunStatus.COMPLETED) -> None:
        run = self.records[run_id]
        failure = Failure("error", "It broke.", node="work") if status is RunStatus.FAILED else None
        final = {**run.initial_state, "done": True} if status is RunStatus.COMPLETED else None
        self.records[run_id] = replace(
            run, status=status, failure=failure, final_state=final, started_at=NOW, finished_at=NOW, last_commit=1
        )
        await self._append(run_id, record(self._next(run_id), f"The run is {status}.", type_="run", status=status))

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_s), self.news:
                await self.news.wait_for(lambda: self.records[run_id].status.is_final)
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
        return self.records[run_id]

    async def cancel(self, run_id: str) -> RunRecord:
        run = self._run(run_id)
        if run.status.is_final and run.status is not RunStatus.CANCELLED:
            raise Conflict(f"The run {run_id} is {run.status} already.", code="run_already_finished")
        if not run.status.is_final:
            await self.end(run_id, RunStatus.CANCELLED)
        return self.records[run_id]

    async def state(self, run_id: str, at: int | None) -> FakeState:
        run = self._run(run_id)
        if at is not None and at > run.last_commit:
            raise NotFound("checkpoint", str(at))
        if at is None:
            at = run.last_commit
        return FakeState(run.final_state or run.initial_state if at else run.initial_state, at)

    async def follow(self, run_id: str, after: int) -> AsyncIterator[list[JournalRecord]]:
        self._run(run_id)
        if self.error is not None:
            raise self.error
        self.followers += 1
        try:
            while True:
                batch = [each for each in self.journals[run_id] if each.seq > after]
                if batch:
                    after = batch[-1].seq
                    yield batch
                elif self.records[run_id].status.is_final:
                    return
                else:
                    async with self.news:
                        while len(self.journals[run_id]) <= after:
                            await self.news.wait()
        finally:
            self.followers -= 1

    def _run(self, run_id: str) -> RunRecord:
        if run_id not in self.records:
            raise NotFound("run", run_id)
        return self.records[run_id]

    def _next(self, run_id: str) -> int:
        return len(self.journals[run_id]) + 1

    async def _append(self, run_id: str, new: JournalRecord) -> None:
        async with self.news:
            self.journals[run_id].append(new)
            self.records[run_id] = replace(self.records[run_id], last_seq=new.seq)
            self.news.notify_all()


@dataclass
class FakeReader:
    catalog: FakeCatalog
    runs: FakeRuns

    async def list_code(self, kind: CodeKind, *, cursor: str | None, limit: int) -> Page[CodeVersion]:
        return _page([versions[-1] for (of, _), versions in self.catalog.code.items() if of is kind], cursor, limit)

    async def graph(self, graph_id: str) -> GraphVersion:
        if graph_id not in self.catalog.graphs:
            raise NotFound("graph", graph_id)
        return self.catalog.graphs[graph_id]

    async def list_graphs(self, *, name: str | None, cursor: str | None, limit: int) -> Page[GraphVersion]:
        return _page([each for each in self.catalog.graphs.values() if name in {None, each.name}], cursor, limit)

    async def run_summary(self, run_id: str) -> RunSummary:
        if run_id not in self.runs.records:
            raise NotFound("run", run_id)
        return self.runs.records[run_id]

    async def list_runs(
        self, *, status: RunStatus | None, graph_id: str | None, cursor: str | None, limit: int
    ) -> Page[RunSummary]:
        found: list[RunSummary] = [
            each
            for each in self.runs.records.values()
            if status in {None, each.status} and graph_id in {None, each.graph_id}
        ]
        return _page(found, cursor, limit)

    async def node_runs(self, run_id: str) -> list[NodeRunRecord]:
        await self.run_summary(run_id)
        failure = Failure("timeout", "It took longer than 1 s.", node="work")
        later = NOW + timedelta(seconds=1.5)
        usage = Usage(wall_s=1.0, pids_peak=3, signal=9, queue_s=0.5, start_s=0.25)
        tries = (
            AttemptRecord(1, AttemptStatus.TIMEOUT, failure, usage, NOW + timedelta(seconds=1), later),
            AttemptRecord(2, AttemptStatus.RUNNING, None, None, later, None),
        )
        return [
            NodeRunRecord("start", 1, NodeRunStatus.SUCCEEDED, "start succeeded", None, (), NOW, NOW),
            NodeRunRecord("work", 1, NodeRunStatus.RUNNING, "", None, tries, NOW, None),
        ]

    async def journal(self, run_id: str, *, after: int, limit: int) -> list[JournalRecord]:
        await self.run_summary(run_id)
        return [each for each in self.runs.journals[run_id] if each.seq > after][:limit]


def _page(items: Sequence[T], cursor: str | None, limit: int) -> Page[T]:
    if cursor is not None and not cursor.isdecimal():
        raise InvalidInput.at("cursor", "invalid_cursor", "This is no cursor of this list; begin without one.")
    start = int(cursor or 0)
    newest = items[::-1][start:]
    return Page(tuple(newest[:limit]), str(start + limit) if len(newest) > limit else None)


@dataclass
class FakeHealth:
    down: bool = False

    async def check(self) -> Mapping[str, object]:
        if self.down:
            raise Unavailable("The Docker engine does not answer.", code="engine_unavailable")
        return {"active_runs": 0}


@dataclass
class World:
    """All of it, as one test has it."""

    settings: Settings
    catalog: FakeCatalog
    runs: FakeRuns
    health: FakeHealth

    @classmethod
    def make(cls, settings: Settings) -> World:
        catalog = FakeCatalog()
        return cls(settings, catalog, FakeRuns(catalog, settings), FakeHealth())

    def services(self) -> Services:
        return Services(self.catalog, self.runs, FakeReader(self.catalog, self.runs), self.health, self.settings)

    def stored(self) -> tuple[object, ...]:
        """Return all that is kept, for comparison."""
        return dict(self.catalog.code), dict(self.catalog.graphs), dict(self.runs.records)


FULL = QueueFull("As many runs wait as may; try again later.", retry_after_s=7)
