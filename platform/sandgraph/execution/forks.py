"""Makes runs that go on from another one: from a checkpoint of it, or from where it failed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sandgraph.errors import Conflict, NotFound
from sandgraph.execution import plans
from sandgraph.execution.checkpoints import not_recoverable, read_told
from sandgraph.execution.initial_state import checked_state
from sandgraph.execution.jobs import RunPlan
from sandgraph.model import fork, scheduler
from sandgraph.model.annotations import UNCHANGED, AnnotationChange
from sandgraph.model.commands import Command
from sandgraph.model.event_document import to_document
from sandgraph.model.fork import History
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json, StateDiff
from sandgraph.settings import Settings
from sandgraph.store.checkpoints import without_views
from sandgraph.store.records import CodeKind, CodeVersion, RunEvent, RunRecord
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, beside the history."""

    request: Sequence[object]
    annotated: AnnotationChange
    idempotency_key: str | None
    latest: bool

    @property
    def fingerprint(self) -> str:
        """What tells the request from others."""
        # Without annotations as releases before there were any have it.
        noted = [] if self.annotated == UNCHANGED else [self.annotated.tags, dict(self.annotated.metadata or {})]
        return hashlib.sha256(json.dumps([*self.request, *noted], sort_keys=True).encode()).hexdigest()


class Forks:
    """Makes a new run of a run's history. The other one stays as it is, and nobody works on the new one yet.

    Args:
        store: Has the one, and gets the other.
        settings: Of the deployment.
        image: The sandboxes' image, which new runs pin.
    """

    def __init__(self, store: Store, settings: Settings, image: str) -> None:
        self._store = store
        self._settings = settings
        self._image = image

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
        """Make a run that goes on from a checkpoint of another; return it, and whether it is new.

        It is pending where it begins at checkpoint 0, and in progress elsewhere: its attempts are to be started.

        Args:
            run_id: The other run, in flight or ended.
            at: The checkpoint's number; 0 is the initial state.
            changes: Laid over the state there.
            latest: Whether it pins functions and tools as they are by now, and not as the other one did. The conditions
                behind the checkpoint are then asked anew.
            idempotency_key: The same one again gives the run that it gave before.
            annotated: What is to be noted otherwise than about the other one.

        Raises:
            NotFound: There is no such run, or it has no such checkpoint.
            InvalidInput: The changed state is over its limits (``state``).
            Conflict: The commit cannot be changed (``commit_not_amendable``), the run ended with it (``nothing_left``),
                the run cannot be made again (``not_recoverable``), or the key was used for something else.
        """
        record = await self._store.run(run_id)
        if not 0 <= at <= record.last_commit:
            raise NotFound("checkpoint", str(at))
        initial = record.initial_state
        if changes:
            before = initial if at == 0 else (await self._store.checkpoint(run_id, at)).state
            changed = changes.apply(before)
            await asyncio.to_thread(checked_state, changed, self._settings, "state")
            initial = changed if at == 0 else initial
        plan = await plans.load_plan(self._store, record)
        retold = _Retold(Past(plans.fresh(plan)), upto=at)
        if at > 0:
            await self._tell(record, retold)
        history = await asyncio.to_thread(retold.forked, changes, asks=latest)
        return await self._make(
            record,
            plan,
            initial,
            history,
            at,
            _Asked(["fork", run_id, at, changes.to_json(), latest], annotated, idempotency_key, latest=latest),
        )

    async def resume(
        self, run_id: str, *, latest: bool, idempotency_key: str | None, annotated: AnnotationChange = UNCHANGED
    ) -> tuple[RunRecord, bool]:
        """Make a run that goes on where another one ended without completing; what was done there stays done.

        Its ``forked_at`` is the number of its own last commit: in the other one, that may have had another.

        Raises:
            NotFound: There is no such run.
            Conflict: The run has not ended (``run_not_finished``), has completed (``run_already_finished``), cannot be
                made again (``not_recoverable``), or the key was used for something else.
        """
        record = await self._store.run(run_id)
        if not record.is_final:
            message = f"The run {run_id} has not ended: there is nothing to be resumed. It may be forked."
            raise Conflict(message, code="run_not_finished")
        if record.status is RunStatus.COMPLETED:
            message = f"The run {run_id} is {record.status} already. It may be forked."
            raise Conflict(message, code="run_already_finished")
        plan = await plans.load_plan(self._store, record)
        retold = _Retold(Past(plans.fresh(plan)))
        await self._tell(record, retold)
        history = await asyncio.to_thread(retold.reopened)
        return await self._make(
            record,
            plan,
            record.initial_state,
            history,
            history.run.commits,
            _Asked(["resume", run_id, latest], annotated, idempotency_key, latest=latest),
        )

    async def _tell(self, record: RunRecord, retold: _Retold) -> None:
        """Tell a run again what it was told, as far as it takes that.

        Raises:
            Conflict: Nothing is kept of that, or it leads elsewhere (``not_recoverable``).
        """
        is_told = False
        try:
            async for told in read_told(self._store, record):
                is_told = True
                # On a thread, so that the steps of other runs find their turn.
                if not await asyncio.to_thread(retold.take, told):
                    break
        except ValueError as error:
            raise not_recoverable(record.run_id, error) from error
        if not is_told and record.started_at is not None:
            raise not_recoverable(record.run_id, "what it was told was not stored")

    async def _make(
        self,
        record: RunRecord,
        plan: RunPlan,
        initial: Mapping[str, Json],
        history: History,
        at: int,
        asked: _Asked,
    ) -> tuple[RunRecord, bool]:
        functions, tools = await self._latest(plan, record.tenant) if asked.latest else (plan.functions, plan.tools)
        graph = await self._store.graph(record.graph_id)
        key, fingerprint = asked.idempotency_key, asked.fingerprint if asked.idempotency_key else None
        notes = asked.annotated.of_new(record.annotations)
        new = NewRun(graph, initial, functions, tools, self._image, key, fingerprint, notes)
        told = await asyncio.to_thread(_documents, history)
        return await self._store.fork_run(new, history.commands, told, forked_from=record.run_id, forked_at=at)

    async def _latest(self, plan: RunPlan, tenant: str) -> tuple[Mapping[str, CodeVersion], Mapping[str, CodeVersion]]:
        graphs = [plan.own, *plan.graphs.values()]
        names = plans.functions_of(each.graph for each in graphs)
        functions = await self._store.latest_code(CodeKind.FUNCTION, names, tenant=tenant)
        return functions, await self._store.all_tools(tenant=tenant)


class _Retold:
    """A run that is told again what it was told, each event once; what follows is kept without its views.

    Args:
        past: The run before it was told anything.
        upto: The commit that it is to be forked at; None where it is to be reopened.
    """

    def __init__(self, past: Past, upto: int | None = None) -> None:
        self._past = past
        self._upto = upto
        self._sound = History(past.run)
        # What came after what is sound: it has to be told again, perhaps without some of it.
        self._rest: list[Told] = []
        self._since: list[Command] = []
        self._is_broken = False

    def take(self, told: Iterable[Told]) -> bool:
        """Tell it more, and tell whether it is to be told what follows.

        Raises:
            ValueError: It does not go the way that it went.
        """
        for each in told:
            past = replay(self._past, [each])
            self._rest.append(each)
            if self._upto is not None and past.run.commits >= self._upto:
                return False
            self._past = past
            self._is_broken = self._is_broken or _is_broken(past.run)
            if not self._is_broken:
                self._since += map(without_views, past.commands)
                if self._upto is not None or not (past.run.inside or past.run.maps):
                    self._keep(past.run)
        return True

    def forked(self, changes: StateDiff, *, asks: bool) -> History:
        """Return the history up to the commit; see `fork.forked`."""
        return self._with(fork.forked(self._sound.run, self._rest, self._upto or 0, changes, asks=asks))

    def reopened(self) -> History:
        """Return the history without what broke it; see `fork.reopened`."""
        return self._with(fork.reopened(self._sound.run, self._rest))

    def _keep(self, run: scheduler.Run) -> None:
        """Take what it was told so far as sound: no event of that led to a failure of what comes later."""
        sound = self._sound
        sound.run, sound.upto = run, sound.upto + len(self._rest)
        sound.commands += self._since
        sound.events += (each.event for each in self._rest)
        self._rest, self._since = [], []

    def _with(self, end: History) -> History:
        sound = self._sound
        commands = [*sound.commands, *map(without_views, end.commands)]
        return History(end.run, commands, [*sound.events, *end.events], sound.upto + end.upto)


def _is_broken(run: scheduler.Run) -> bool:
    return run.status.is_final or run.failure is not None or bool(run.broken)


def _documents(history: History) -> list[RunEvent]:
    return [RunEvent(number, to_document(event)) for number, event in enumerate(history.events, 1)]
