"""Makes runs that go on from another one: from a checkpoint of it, or from where it failed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence

from sandgraph.errors import Conflict, NotFound
from sandgraph.execution import plans
from sandgraph.execution.checkpoints import not_recoverable, read_told
from sandgraph.execution.initial_state import checked_state
from sandgraph.execution.jobs import RunPlan
from sandgraph.model import fork
from sandgraph.model.event_document import to_document
from sandgraph.model.fork import History
from sandgraph.model.replay import Past, Told, replay
from sandgraph.model.run import RunStatus
from sandgraph.model.state import Json, StateDiff
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, CodeVersion, RunEvent, RunRecord
from sandgraph.store.runs import NewRun
from sandgraph.store.store import Store


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
        self, run_id: str, at: int, changes: StateDiff, *, latest: bool, idempotency_key: str | None
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
        history = History(plans.fresh(plan))
        if at > 0:
            told = await self._told(record, plan, upto=at)
            history = await asyncio.to_thread(fork.forked, history.run, told, at, changes, asks=latest)
        return await self._make(
            record,
            plan,
            initial,
            history,
            at,
            latest=latest,
            idempotency_key=idempotency_key,
            request=["fork", run_id, at, changes.to_json(), latest],
        )

    async def resume(self, run_id: str, *, latest: bool, idempotency_key: str | None) -> tuple[RunRecord, bool]:
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
        told = await self._told(record, plan)
        history = await asyncio.to_thread(fork.reopened, plans.fresh(plan), told)
        return await self._make(
            record,
            plan,
            record.initial_state,
            history,
            history.run.commits,
            latest=latest,
            idempotency_key=idempotency_key,
            request=["resume", run_id, latest],
        )

    async def _told(self, record: RunRecord, plan: RunPlan, upto: int | None = None) -> list[Told]:
        """Return what a run was told, up to a commit or all of it, once it went the way that it went.

        Raises:
            Conflict: Nothing is kept of that, or it leads elsewhere (``not_recoverable``).
        """
        past, found = Past(plans.fresh(plan)), list[Told]()
        try:
            async for told in read_told(self._store, record):
                # On a thread, so that the steps of other runs find their turn.
                past = await asyncio.to_thread(replay, past, told)
                found += told
                if upto is not None and past.run.commits >= upto:
                    break
        except ValueError as error:
            raise not_recoverable(record.run_id, error) from error
        if not found and record.started_at is not None:
            raise not_recoverable(record.run_id, "what it was told was not stored")
        return found

    async def _make(
        self,
        record: RunRecord,
        plan: RunPlan,
        initial: Mapping[str, Json],
        history: History,
        at: int,
        *,
        latest: bool,
        idempotency_key: str | None,
        request: Sequence[object],
    ) -> tuple[RunRecord, bool]:
        functions, tools = await self._latest(plan) if latest else (plan.functions, plan.tools)
        graph = await self._store.graph(record.graph_id)
        fingerprint = _fingerprint(request) if idempotency_key else None
        new = NewRun(graph, initial, functions, tools, self._image, idempotency_key, fingerprint)
        told = await asyncio.to_thread(_documents, history)
        return await self._store.fork_run(new, history.commands, told, forked_from=record.run_id, forked_at=at)

    async def _latest(self, plan: RunPlan) -> tuple[Mapping[str, CodeVersion], Mapping[str, CodeVersion]]:
        graphs = [plan.own, *plan.graphs.values()]
        names = plans.functions_of(each.graph for each in graphs)
        return await self._store.latest_code(CodeKind.FUNCTION, names), await self._store.all_tools()


def _documents(history: History) -> list[RunEvent]:
    return [RunEvent(number, to_document(event)) for number, event in enumerate(history.events, 1)]


def _fingerprint(request: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
