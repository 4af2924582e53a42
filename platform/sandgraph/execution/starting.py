"""Makes the actors of runs: of those that begin, that wake up, and that the platform left when it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sandgraph.errors import Conflict, Unavailable
from sandgraph.execution import plans, runtimes
from sandgraph.execution.actor import RunActor
from sandgraph.execution.attempts import Lease
from sandgraph.execution.bus import Bus
from sandgraph.execution.checkpoints import read_past
from sandgraph.execution.tracing import record_run
from sandgraph.execution.transport import Transport
from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordRun
from sandgraph.model.event_document import to_document
from sandgraph.model.replay import Past
from sandgraph.model.run import Failure, RunStatus
from sandgraph.settings import Settings
from sandgraph.store.records import RunEvent, RunRecord
from sandgraph.store.store import Store
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans

logger = logging.getLogger(__name__)

#: Of conflicts that say that a run is no longer ours to work on.
NOT_OURS = frozenset({"lease_lost", "run_ended"})


class Starter:
    """Takes runs over, and makes who drives them.

    Args:
        store: Holds the truth.
        transport: Carries attempts to a worker.
        bus: Wakes up the journal's readers.
        settings: Of the deployment.
        image: The sandboxes' image, pinned by its digest.
        allowed: The OCI runtimes that a graph may name.
        metrics: Count the runs that end.
        spans: Take what was done when.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        bus: Bus,
        settings: Settings,
        image: str,
        allowed: Sequence[str],
        metrics: Metrics,
        spans: Spans,
    ) -> None:
        self._metrics = metrics
        self._spans = spans
        self._store = store
        self._transport = transport
        self._bus = bus
        self._settings = settings
        self._image = image
        self._runtimes = allowed

    async def actor(self, run_id: str, is_cancelled: Callable[[], bool]) -> RunActor | None:
        """Return what goes on with a run; None where that has ended instead.

        Raises:
            Conflict: The run is not ours to work on (see `NOT_OURS`).
            Unavailable: The database does not answer.
        """
        taken = None if is_cancelled() else await self._store.take_pending_run(run_id, self._store.process_id)
        if taken is not None:
            return await self._actor(*taken)
        run = await self._store.run_summary(run_id)
        if run.is_final:
            # Its end was stored, and nobody heard of it.
            return None
        if run.status is RunStatus.RUNNING and run.owner is not None:
            # It was worked on here, until the database did not answer.
            await self._store.hand_back_run(run_id)
            run = await self._store.run_summary(run_id)
        if run.status is RunStatus.PENDING:
            await self._withdraw(run_id)
            return None
        if run.status is RunStatus.INTERRUPTED:
            if not await self._store.resume_run(run_id, self._settings.max_recoveries, self._image):
                return None
            self._bus.publish(run_id)
        try:
            lease = await self._store.claim_run(run_id, self._store.process_id)
            return await self._actor(await self._store.run(run_id), lease)
        except Unavailable:
            raise
        except Exception as error:
            if isinstance(error, Conflict) and error.code in NOT_OURS:
                raise
            logger.exception("run not recoverable", extra={"action": "run_not_recoverable", "run": run_id})
            failure = Failure("not_recoverable", f"The run cannot go on where the platform stopped: {error}")
            await self._fail(run_id, failure)
            return None

    async def note(self, run_id: str, event: events.Event) -> None:
        """Tell a run that has not begun an event, from which nothing follows yet."""
        lease = await self._store.claim_run(run_id, self._store.process_id)
        record = await self._store.run(run_id)
        fresh = Past(plans.fresh(await plans.load_plan(self._store, record)))
        past = await read_past(self._store, record, fresh)
        _, commands = scheduler.step(past.run, event)
        if commands:
            told = RunEvent(past.number + 1, to_document(event))
            await self._store.apply(run_id, commands, told=told, lease=lease)
            self._bus.publish(run_id)

    async def ended(self, run_id: str, status: RunStatus, tenant: str) -> None:
        """Note that a run ended; nothing depends on it."""
        self._metrics.run_ended(status, tenant)
        about = {"run": run_id, "tenant": tenant, "status": status.value}
        logger.info("run ended: %s", status.value, extra={"action": "run_ended", **about})
        if self._spans.is_on:
            try:
                record_run(self._spans, await self._store.run_summary(run_id))
            except Unavailable:
                logger.warning("run not traced", extra={"action": "run_not_traced", "run": run_id})

    async def give_up(self, run_id: str, error: Exception) -> None:
        """Fail a run that the platform failed to go on with."""
        failure = Failure("internal_error", f"The platform failed to go on with this run: {error}")
        try:
            await self._fail(run_id, failure)
        except Exception:
            # The next start takes it up again.
            logger.exception("run not marked as failed", extra={"action": "run_lost", "run": run_id})

    async def _fail(self, run_id: str, failure: Failure) -> None:
        if await self._store.give_up_run(run_id, failure):
            await self.ended(run_id, RunStatus.FAILED, await self._store.tenant_of(run_id))

    async def _actor(self, run: RunRecord, lease: int) -> RunActor | None:
        run_id = run.run_id
        plan = await plans.load_plan(self._store, run)
        if message := plans.refusal(plan, self._runtimes):
            # Stored when the deployment had it.
            failure = Failure(runtimes.CODE, message)
            if run.status is RunStatus.PENDING:
                ended = RecordRun(RunStatus.FAILED, failure, run.initial_state)
                await self._store.apply(run_id, [ended], lease=lease)
            else:
                await self._store.give_up_run(run_id, failure, lease=lease)
            await self.ended(run_id, RunStatus.FAILED, run.tenant)
            return None
        past = Past(plans.fresh(plan))
        # The journal of one that was told nothing says that it is pending, and nothing else.
        if run.status is not RunStatus.PENDING or run.last_seq > 1:
            past = await read_past(self._store, run, past)
        return RunActor(
            plan,
            run.initial_state,
            past,
            Lease(lease),
            self._store,
            self._transport,
            self._bus,
            self._settings,
            # Others were interrupted, or wait, before anybody takes them up. One that was called running again and
            # then not claimed, as the database failed, is none either: what it had in progress is lost.
            is_made=run.status is RunStatus.RUNNING and run.recoveries == 0,
            spans=self._spans,
        )

    async def _withdraw(self, run_id: str) -> None:
        record = await self._store.run(run_id)
        failure = Failure("cancelled", "The run was cancelled before it started.")
        await self._store.apply(run_id, [RecordRun(RunStatus.CANCELLED, failure, record.initial_state)])
        await self.ended(run_id, RunStatus.CANCELLED, record.tenant)
