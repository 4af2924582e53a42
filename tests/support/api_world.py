"""The API over services made of dictionaries: small, and honest in what they refuse."""

from __future__ import annotations

import ast
import asyncio
import hashlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from webhook_world import FakeWebhooks

from sandgraph.api.services import Services
from sandgraph.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, Problem, QueueFull
from sandgraph.execution.health_report import Checked, HealthReport
from sandgraph.execution.runtimes import refusal
from sandgraph.model.annotations import NO_ANNOTATIONS, UNCHANGED, AnnotationChange, Annotations
from sandgraph.model.commands import EMPTY
from sandgraph.model.graph import Graph
from sandgraph.model.limits import Limits
from sandgraph.model.quotas import Quotas, QuotaUse
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import Json, SetKey, StateDiff
from sandgraph.model.topology import analyse
from sandgraph.model.validity import problems
from sandgraph.settings import Settings
from sandgraph.store.filters import GraphFilter, NameSort, RunFilter, RunSort
from sandgraph.store.logs import wants
from sandgraph.store.node_runs import IN_PROGRESS
from sandgraph.store.records import (
    AttemptRecord,
    CodeKind,
    CodeVersion,
    CommitRecord,
    GraphVersion,
    JournalRecord,
    KeptAnswer,
    LogPage,
    LogQuery,
    NodeRunRecord,
    Page,
    Reads,
    RunRecord,
    RunSummary,
    Standing,
    TenantRecord,
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
class FakeWriter:
    commit: int
    key: NodeRunKey | None = None
    attempt: int | None = None


@dataclass(frozen=True)
class FakeState:
    data: Mapping[str, Json]
    commit: int
    writers: Mapping[str, FakeWriter]
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FakeReceipt:
    run_id: str
    event_id: str
    name: str
    is_new: bool


@dataclass(frozen=True)
class FakePlace:
    position: int
    waits_for: str


@dataclass(frozen=True)
class FakeOutcome:
    status: AttemptStatus
    diff: StateDiff = EMPTY
    entered: bool = True
    again: bool | None = None
    after: tuple[bool, ...] = ()
    value: Json = None
    failure: Failure | None = None


@dataclass(frozen=True)
class FakeReplayed:
    run_id: str
    key: NodeRunKey
    attempt: int
    drift: tuple[str, ...]
    recorded: FakeOutcome
    replayed: FakeOutcome
    images: tuple[str, str] = ("image", "image")


@dataclass
class FakeRuns:
    """Runs that end as soon as they are submitted, unless ``hold`` is set; then `say` and `end` move them."""

    catalog: FakeCatalog
    settings: Settings
    records: dict[str, RunRecord] = field(default_factory=dict)
    journals: dict[str, list[JournalRecord]] = field(default_factory=dict)
    keys: dict[str, tuple[str, object]] = field(default_factory=dict)
    events: dict[tuple[str, str], tuple[str, Json]] = field(default_factory=dict)
    hold: bool = False
    status: RunStatus = RunStatus.COMPLETED
    error: Exception | None = None
    followers: int = 0
    waiting: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(
        self,
        graph_id: str,
        initial_state: Mapping[str, Json],
        *,
        idempotency_key: str | None = None,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        if self.error is not None:
            raise self.error
        graph = self.catalog.graphs.get(graph_id)
        if graph is None:
            raise NotFound("graph", graph_id)
        request = (graph_id, initial_state, annotations)
        return await self._start(graph, initial_state, idempotency_key, request, annotations)

    async def _start(
        self,
        graph: GraphVersion,
        state: Mapping[str, Json],
        key: str | None,
        request: object,
        annotations: Annotations,
        forked: tuple[str, int] | None = None,
    ) -> tuple[RunRecord, bool]:
        if key is not None and key in self.keys:
            run_id, before = self.keys[key]
            if before != request:
                raise Conflict("The key was used for another run.", code="idempotency_key_reused")
            return self.records[run_id], False
        run_id = f"run_{len(self.records) + 1}"
        made = RunRecord(
            run_id, graph.graph_id, graph.name, "image", RunStatus.PENDING, None, 0, 0, NOW, None, None, state, None
        )
        made = replace(made, annotations=annotations)
        if forked is not None:
            made = replace(made, forked_from=forked[0], forked_at=forked[1])
        self.records[run_id] = made
        self.journals[run_id] = []
        if key is not None:
            self.keys[key] = (run_id, request)
        if not self.hold:
            await self.say(run_id, "working")
            await self.end(run_id, self.status)
        return self.records[run_id], True

    async def delete(self, run_id: str) -> None:
        if not self._run(run_id).is_final:
            raise Conflict(f"The run {run_id} has not ended.", code="run_not_finished")
        del self.records[run_id]

    async def send_event(self, run_id: str, name: str, payload: Json, event_id: str | None) -> FakeReceipt:
        self._in_flight(run_id)
        event_id = event_id or f"event_{len(self.events) + 1}"
        is_new = (run_id, event_id) not in self.events
        if self.events.setdefault((run_id, event_id), (name, payload)) != (name, payload):
            raise Conflict("The id is that of another event.", code="event_id_reused")
        return FakeReceipt(run_id, event_id, name, is_new)

    async def pause(self, run_id: str) -> RunSummary:
        return self._paused(run_id, is_paused=True)

    async def unpause(self, run_id: str) -> RunSummary:
        return self._paused(run_id, is_paused=False)

    async def fork(
        self,
        run_id: str,
        at: int,
        changes: StateDiff,
        *,
        latest: bool,
        idempotency_key: str | None,
        annotated: AnnotationChange = UNCHANGED,
    ) -> tuple[RunRecord, bool]:
        if self.error is not None:
            raise self.error
        state = (await self.state(run_id, at)).data
        graph = self.catalog.graphs[self.records[run_id].graph_id]
        request = (run_id, at, changes, latest, annotated)
        notes = annotated.of_new(self.records[run_id].annotations)
        return await self._start(graph, changes.apply(state), idempotency_key, request, notes, (run_id, at))

    async def annotate(self, run_id: str, change: AnnotationChange, expected: frozenset[int] | None) -> Annotations:
        run = self._run(run_id)
        if expected is not None and run.annotations.revision not in expected:
            raise PreconditionFailed("They were changed meanwhile.")
        self.records[run_id] = replace(run, annotations=change.apply(run.annotations))
        return self.records[run_id].annotations

    async def resume(
        self, run_id: str, *, latest: bool, idempotency_key: str | None, annotated: AnnotationChange = UNCHANGED
    ) -> tuple[RunRecord, bool]:
        run = self._run(run_id)
        if run.status is not RunStatus.FAILED:
            raise Conflict(f"The run {run_id} is {run.status}.", code="run_not_finished")
        return await self.fork(
            run_id,
            run.last_commit,
            StateDiff(),
            latest=latest,
            idempotency_key=idempotency_key,
            annotated=annotated,
        )

    async def replay(self, run_id: str, key: NodeRunKey, attempt: int | None) -> FakeReplayed:
        self._run(run_id)
        if key.node != "work":
            raise NotFound("node_run", str(key))
        if attempt not in {None, 1}:
            raise NotFound("attempt", str(attempt))
        before = FakeOutcome(AttemptStatus.SUCCEEDED, StateDiff((SetKey("n", 1),)), after=(True,))
        after = FakeOutcome(AttemptStatus.ERROR, failure=Failure("error", "It broke.", node=key.node))
        return FakeReplayed(run_id, key, attempt or 1, ("status", "diff"), before, after)

    async def place(self, run_id: str) -> FakePlace | None:
        return FakePlace(1, "max_active_runs") if self._run(run_id).status is RunStatus.PENDING else None

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
        data = run.final_state or run.initial_state if at else run.initial_state
        done = FakeWriter(1, NodeRunKey("work", 2, "sub#1"), 1)
        return FakeState(data, at, {key: done if key == "done" else FakeWriter(0) for key in data})

    async def follow(self, run_id: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
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

    def _paused(self, run_id: str, *, is_paused: bool) -> RunSummary:
        run = self._in_flight(run_id)
        self.records[run_id] = replace(run, paused=is_paused)
        return self.records[run_id]

    def _in_flight(self, run_id: str) -> RunRecord:
        run = self._run(run_id)
        if run.status.is_final:
            raise Conflict(f"The run {run_id} is {run.status} already.", code="run_already_finished")
        return run

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
    commits: list[CommitRecord]
    asked: list[tuple[RunFilter, RunSort]]

    async def list_code(
        self, kind: CodeKind, *, prefix: str, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        found = [each[-1] for (of, name), each in self.catalog.code.items() if of is kind and name.startswith(prefix)]
        return _page(found if sort.is_descending or sort is NameSort.NAME else found[::-1], cursor, limit)

    async def code_versions(
        self, kind: CodeKind, name: str, *, version: int | None, cursor: str | None, limit: int
    ) -> Page[CodeVersion]:
        found = [each for each in self.catalog.code.get((kind, name), ()) if version in {None, each.version}]
        if not found:
            raise NotFound(kind.value, name)
        return _page(found, cursor, limit)

    async def graph(self, graph_id: str) -> GraphVersion:
        if graph_id not in self.catalog.graphs:
            raise NotFound("graph", graph_id)
        return self.catalog.graphs[graph_id]

    async def list_graphs(
        self, where: GraphFilter, *, sort: NameSort, cursor: str | None, limit: int
    ) -> Page[GraphVersion]:
        found = [each for each in self.catalog.graphs.values() if where.name in {None, each.name}]
        found = [each for each in found if each.name.startswith(where.prefix)]
        return _page(found if sort.is_descending else found[::-1], cursor, limit)

    async def run_summary(self, run_id: str) -> RunSummary:
        if run_id not in self.runs.records:
            raise NotFound("run", run_id)
        return self.runs.records[run_id]

    async def list_runs(self, where: RunFilter, *, sort: RunSort, cursor: str | None, limit: int) -> Page[RunSummary]:
        self.asked.append((where, sort))
        found: list[RunSummary] = [
            each
            for each in self.runs.records.values()
            if (not where.statuses or each.status in where.statuses)
            and where.graph_id in {None, each.graph_id}
            and where.failure in {None, each.failure and each.failure.code}
            and {*where.tags} <= {*each.annotations.tags}
        ]
        return _page(found if sort.is_descending else found[::-1], cursor, limit)

    async def standing(self, run_id: str, *, after: int, limit: int) -> Standing:
        run, every = await self.run_summary(run_id), await self.node_runs(run_id)
        later = [each for each in every if each.first_seq > after]
        in_progress = [] if run.is_final else [each for each in every if each.status in IN_PROGRESS]
        return Standing(run, later[:limit], len(later) > limit, in_progress)

    async def state(self, run_id: str, at: int | None) -> tuple[RunSummary, FakeState]:
        return await self.run_summary(run_id), await self.runs.state(run_id, at)

    async def node_runs(self, run_id: str) -> list[NodeRunRecord]:
        await self.run_summary(run_id)
        failure = Failure("timeout", "It took longer than 1 s.", node="work")
        later = NOW + timedelta(seconds=1.5)
        usage = Usage(wall_s=1.0, pids_peak=3, signal=9, queue_s=0.5, start_s=0.25)
        reads = Reads(("input",), cut=True)
        tries = (
            AttemptRecord(1, AttemptStatus.TIMEOUT, failure, usage, NOW + timedelta(seconds=1), later, reads),
            AttemptRecord(2, AttemptStatus.RUNNING, None, None, later, None),
        )
        return [
            NodeRunRecord("start", 1, NodeRunStatus.SUCCEEDED, "start succeeded", None, (), NOW, NOW, "", 2),
            NodeRunRecord("work", 1, NodeRunStatus.RUNNING, "", None, tries, NOW, None, "sub#1", 5),
        ]

    async def history(
        self, run_id: str, *, scope: str | None, node: str | None, cursor: str | None, limit: int
    ) -> Page[CommitRecord]:
        await self.run_summary(run_id)
        found = [each for each in self.commits if node in {None, each.node} and scope in {None, ""}]
        return _page(found[::-1], cursor, limit)

    async def log(self, run_id: str, query: LogQuery) -> LogPage:
        run = await self.run_summary(run_id)
        high = run.last_seq if query.before is None else min(query.before - 1, run.last_seq)
        among = [each for each in self.runs.journals[run_id] if query.after < each.seq <= high]
        found = [each for each in among if wants(query.wanted, each) and (each.kind == "log" or query.wanted.events)]
        shown = found[-query.limit :] if query.newest else found[: query.limit]
        more = len(found) > len(shown)
        low, last = query.after, max(high, query.after)
        if more:
            low, last = (shown[0].seq - 1, last) if query.newest else (low, shown[-1].seq)
        return LogPage(tuple(shown), last, low + 1 if low else None, more, run.is_final and last >= run.last_seq)

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

    def alive(self) -> HealthReport:
        return HealthReport([Checked("heart", is_ok=not self.down, detail="It beats, or not.")], {})

    async def ready(self) -> HealthReport:
        checks = [Checked("database", is_ok=True, detail="It can be written.")]
        return HealthReport([*checks, Checked("engine", is_ok=not self.down, detail="version 26")], {"active_runs": 0})


@dataclass
class FakeTenants:
    settings: Settings

    async def page(self, *, cursor: str | None, limit: int) -> Page[TenantRecord]:
        if cursor is not None:
            raise InvalidInput.at("cursor", "invalid_cursor", "It is none of this list.")
        return Page((await self.get("acme"),)[:limit], None)

    async def get(self, tenant: str) -> TenantRecord:
        return TENANTS.get(tenant, TenantRecord(tenant, {}, 0, None, None))

    async def set(self, tenant: str, quotas: Mapping[str, float], versions: Collection[int] | None) -> TenantRecord:
        present = await self.get(tenant)
        if versions is not None and present.version not in versions:
            raise Conflict(f"They are at version {present.version} now.", code="tenant_changed")
        TENANTS[tenant] = TenantRecord(tenant, quotas, present.version + 1, NOW, NOW)
        return TENANTS[tenant]

    def of(self, tenant: str) -> Quotas:
        return Quotas().changed(TENANTS[tenant].quotas if tenant in TENANTS else {})

    def use(self, tenant: str) -> QuotaUse:
        return QuotaUse(len(tenant), 0, 1.5, 1_000)


#: Of all worlds: tests that set any remove them.
TENANTS: dict[str, TenantRecord] = {}


@dataclass
class FakeAnswers:
    kept: dict[tuple[str, str, str], KeptAnswer] = field(default_factory=dict)

    async def find(self, tenant: str, route: str, key: str) -> KeptAnswer | None:
        return self.kept.get((tenant, route, key))

    async def keep(self, tenant: str, route: str, key: str, answer: KeptAnswer) -> None:
        self.kept.setdefault((tenant, route, key), answer)


@dataclass
class World:
    """All of it, as one test has it."""

    settings: Settings
    catalog: FakeCatalog
    runs: FakeRuns
    health: FakeHealth
    commits: list[CommitRecord] = field(default_factory=list)
    webhooks: FakeWebhooks = field(default_factory=FakeWebhooks)
    answers: FakeAnswers = field(default_factory=FakeAnswers)
    asked: list[tuple[RunFilter, RunSort]] = field(default_factory=list)

    @classmethod
    def make(cls, settings: Settings) -> World:
        catalog = FakeCatalog()
        return cls(settings, catalog, FakeRuns(catalog, settings), FakeHealth())

    def services(self, _tenant: str = "") -> Services:
        reader = FakeReader(self.catalog, self.runs, self.commits, self.asked)
        tenants = FakeTenants(self.settings)
        return Services(
            self.catalog, self.runs, reader, self.webhooks, self.health, self.settings, tenants, self.answers
        )

    def stored(self) -> tuple[object, ...]:
        """Return all that is kept, for comparison."""
        return dict(self.catalog.code), dict(self.catalog.graphs), dict(self.runs.records)


FULL = QueueFull("As many runs wait as may; try again later.", retry_after_s=7)
