"""Takes runs in, gives each its turn, and answers for them until they end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from sandgraph.errors import Conflict, InvalidInput, QueueFull, Unavailable
from sandgraph.execution.bus import Bus
from sandgraph.execution.fairness import FairSlots, has_share
from sandgraph.execution.floor import Floor
from sandgraph.execution.forks import Forks
from sandgraph.execution.intake import Intake
from sandgraph.execution.queue import Place
from sandgraph.execution.quotas import TenantQuotas
from sandgraph.execution.replays import Replayed, Replays
from sandgraph.execution.retention import Retention
from sandgraph.execution.starting import Starter
from sandgraph.execution.tails import Tails
from sandgraph.execution.transport import Transport
from sandgraph.execution.watched import WatchedTransport
from sandgraph.model import events
from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.annotations import NO_ANNOTATIONS, UNCHANGED, AnnotationChange, Annotations
from sandgraph.model.run import NodeRunKey, RunStatus
from sandgraph.model.state import Json, StateDiff, has_more_values
from sandgraph.settings import Settings
from sandgraph.store.records import HandedBack, JournalRecord, RunRecord, RunSummary
from sandgraph.store.store import Store
from sandgraph.telemetry import trace
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.spans import Spans

logger = logging.getLogger(__name__)

#: Runs that are stored at the same time, as they come in.
_AT_ONCE = 4

#: Characters of an event's name, and of its id.
_MAX_NAME = 128

#: Seconds for which a run that is unpaused may wait for its turn while the caller does.
_PATIENCE_S = 10

_CLOSING = "shutting_down"


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """An event that a run was sent, and stored.

    Attributes:
        run_id: The run.
        event_id: Unique in the run.
        name: What waits speak of.
        is_new: Whether the run had no event of that id before.
    """

    run_id: str
    event_id: str
    name: str
    is_new: bool


class Dispatcher:
    """Accepts, runs, pauses, cancels, forks and follows runs.

    Args:
        store: Holds the truth.
        transport: Carries attempts to a worker.
        settings: Of the deployment.
        image: The sandboxes' image, pinned by its digest.
        allowed: The OCI runtimes that a graph may name.
        metrics: Take what is measured.
        spans: Take what was done when.
        quotas: Of tenants; as the settings have them without it.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        settings: Settings,
        image: str,
        allowed: Sequence[str] = (),
        metrics: Metrics | None = None,
        spans: Spans | None = None,
        quotas: TenantQuotas | None = None,
    ) -> None:
        self._metrics = metrics = metrics or Metrics()
        self._spans = spans = spans or Spans()
        watched = WatchedTransport(transport, metrics, spans)
        self._store = store
        self._settings = settings
        self._bus = Bus()
        self._tails = Tails(store, self._bus)
        self._retention = Retention(store, settings)
        starter = Starter(store, watched, self._bus, settings, image, allowed, metrics, spans)
        self._quotas = quotas or TenantQuotas(store.tenants, settings)
        self._floor = Floor(store, starter, self._bus, settings, self._quotas.most_active, metrics=metrics)
        self._intake = Intake(store, settings, image)
        self._forks = Forks(store, settings, image)
        self._replays = Replays(store, transport, settings, image)
        self._arriving: Counter[str] = Counter()
        self._turns = FairSlots(_AT_ONCE)
        self._accepting = False
        self._is_lost = False

    async def start(self) -> None:
        """Queue what an earlier process left in flight, or end it as interrupted, and begin to accept runs."""
        left: HandedBack | None = None
        if self._settings.resume_runs:
            left = await self._store.hand_back_runs()
            logger.info("runs taken up", extra={"action": "runs_taken_up", "runs": len(left.queue)})
        else:
            for run_id in await self._store.interrupt_runs():
                logger.warning("run interrupted", extra={"action": "run_interrupted", "run": run_id})
        self._accepting = True
        await self._floor.open(left)
        self._retention.start()

    @property
    def is_accepting(self) -> bool:
        """Whether runs may be handed in: it was started, and is not being stopped."""
        return self._accepting

    async def stop_taking(self) -> None:
        """Take no more runs and begin with none; those in progress go on, until `close`."""
        self._accepting = False
        await self._floor.stop_taking()
        # Whoever waits for a run that has not begun waits in vain.
        self._bus.publish_all()

    async def quiet(self) -> None:
        """Return once each run in progress has stored what it was told."""
        await self._floor.quiet()

    async def close(self) -> None:
        """Stop every run: its containers are killed, and it goes on after the next start, or is interrupted."""
        self._accepting = False
        await self._retention.stop()
        await self._floor.close()
        if not self._is_lost:
            await (self._store.hand_back_runs() if self._settings.resume_runs else self._store.interrupt_runs())
        await self._tails.close()
        self._bus.publish_all()

    async def abandon(self) -> None:
        """Stop every run, and store nothing: another process took this one's place, and goes on with them."""
        self._is_lost = True
        await self.close()

    # New runs

    async def submit(
        self,
        graph_id: str,
        initial_state: Mapping[str, Json],
        *,
        idempotency_key: str | None = None,
        tenant: str = DEFAULT_TENANT,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        """Accept a run; it starts at once or waits for its turn.

        Returns:
            The run, and whether it is new: the same ``idempotency_key`` again gives the run it gave before.

        Raises:
            NotFound: The tenant has no such graph.
            InvalidInput: The initial state is over its limits.
            QueueFull: As many runs wait as may.
            Conflict: The idempotency key was used for something else.
            Unavailable: The platform is shutting down.
        """
        making = self._intake.submit(graph_id, initial_state, idempotency_key, tenant, annotations)
        return await self._accept(making, tenant)

    async def fork(
        self,
        run_id: str,
        at: int,
        changes: StateDiff,
        *,
        latest: bool,
        idempotency_key: str | None,
        tenant: str = DEFAULT_TENANT,
        annotated: AnnotationChange = UNCHANGED,
    ) -> tuple[RunRecord, bool]:
        """Accept a run that goes on from a checkpoint of another, which stays as it is; else as `submit`.

        Args:
            run_id: The other one; it may be in progress.
            at: The checkpoint; 0 is the initial state.
            changes: To the state there.
            latest: Whether it pins functions and tools as they are by now, and not as the other did.
            idempotency_key: As in `submit`.
            tenant: Whose it is.
            annotated: What is to be noted otherwise than about the other one.

        Raises:
            NotFound: There is no such run, or ``checkpoint``.
            InvalidInput: With the changes, the state is over its limits; at ``state``.
            Conflict: The checkpoint is none of an attempt's and cannot be changed (``commit_not_amendable``), the run
                ended with it (``nothing_left``), or cannot be made again (``not_recoverable``).
        """
        making = self._forks.fork(
            run_id, at, changes, latest=latest, idempotency_key=idempotency_key, annotated=annotated
        )
        return await self._accept(making, tenant)

    async def resume(
        self,
        run_id: str,
        *,
        latest: bool,
        idempotency_key: str | None,
        tenant: str = DEFAULT_TENANT,
        annotated: AnnotationChange = UNCHANGED,
    ) -> tuple[RunRecord, bool]:
        """Accept a run that goes on where another failed, was cancelled or interrupted: what was done stays done.

        Args:
            run_id: The other one, which stays as it is.
            latest: Whether it pins functions and tools as they are by now, and not as the other did.
            idempotency_key: As in `submit`.
            tenant: Whose it is.
            annotated: What is to be noted otherwise than about the other one.

        Raises:
            NotFound: There is no such run.
            Conflict: It has not ended (``run_not_finished``), is completed (``run_already_finished``), or cannot be
                made again (``not_recoverable``).
        """
        making = self._forks.resume(run_id, latest=latest, idempotency_key=idempotency_key, annotated=annotated)
        return await self._accept(making, tenant)

    async def _accept(
        self, making: Coroutine[None, None, tuple[RunRecord, bool]], tenant: str
    ) -> tuple[RunRecord, bool]:
        try:
            self._make_room(tenant)
        except BaseException:
            making.close()
            raise
        self._arriving[tenant] += 1
        try:
            # What is stored is stored in turn: so many of one tenant are never between another and the database.
            async with self._turns.slot(tenant):
                with trace.within(trace.current() or self._spans.root()):
                    record, created = await making
            # One that was made before may wait for nobody: whoever handed it in was told that it was not stored.
            is_new = record.owner is None and record.status in {RunStatus.PENDING, RunStatus.RUNNING}
            if created:
                self._metrics.run_accepted(record.tenant)
                about = {"run": record.run_id, "tenant": record.tenant, "graph": record.graph_name}
                logger.info("run accepted", extra={"action": "run_accepted", **about})
            if created or (is_new and not self._floor.has(record.run_id)):
                await self._floor.enter(record)
        finally:
            making.close()
            self._arriving[tenant] -= 1
        return record, created

    def _make_room(self, tenant: str) -> None:
        if not self._accepting:
            raise Unavailable("The platform is shutting down and takes no more runs.", code=_CLOSING)
        waiting = Counter(self._floor.queue.waiting()) + self._arriving
        self._quotas.demand_means(tenant)
        if self._floor.queue.has_room(tenant):
            return
        self._quotas.demand_room(tenant, waiting[tenant])
        if not has_share(self._settings.max_queued_runs, waiting, tenant):
            raise QueueFull(f"{waiting.total()} runs are waiting already; try again later.", retry_after_s=5)

    # Runs that there are

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        """Return the run once it ended, or as it is after ``timeout_s`` seconds.

        Raises:
            NotFound: There is no such run.
        """
        try:
            async with asyncio.timeout(timeout_s):
                with self._bus.subscribe(run_id) as news:
                    while True:
                        # What happens meanwhile is news, too, and nothing to wake up for.
                        await self._floor.left(run_id)
                        if not self._floor.has(run_id):
                            run = await self._store.run(run_id)
                            # Nobody works on it: for good, or until the platform's next start; or it only waits.
                            if run.is_final or not self._accepting:
                                return run
                        await news.wait()
        except TimeoutError:
            pass
        return await self._store.run(run_id)

    async def cancel(self, run_id: str) -> RunRecord:
        """Cancel a run: its containers are killed at once, and nothing they still say counts.

        Raises:
            NotFound: There is no such run.
            Conflict: It has ended otherwise (``run_already_finished``).
            Unavailable: The platform is shutting down, and the run goes on after its next start.
        """
        run = await self._store.run_summary(run_id)
        if not run.is_final:
            await self._floor.tell(run, events.CancelRequested(), at_once=True)
            await self._floor.left(run_id)
        record = await self._store.run(run_id)
        if not record.is_final:
            raise Unavailable("The platform is shutting down; cancel the run after its next start.", code=_CLOSING)
        if record.status is not RunStatus.CANCELLED:
            raise _finished(record)
        return record

    async def annotate(self, run_id: str, change: AnnotationChange, expected: frozenset[int] | None) -> Annotations:
        """Change what is noted about a run; see `Store.annotate_run`."""
        return await self._store.annotate_run(run_id, change, expected=expected)

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended, and all that is kept of it: it is there no more, and its rows go soon.

        Raises:
            NotFound: There is no such run.
            Conflict: It has not ended (``run_not_finished``).
        """
        await self._store.delete_run(run_id)
        self._retention.rouse()

    async def pause(self, run_id: str) -> RunSummary:
        """Let what runs come to its end and start nothing more, until `unpause`; a paused run stays paused.

        Raises:
            NotFound: There is no such run.
            Conflict: It has ended (``run_already_finished``).
            Unavailable: The platform is shutting down.
        """
        return await self._set_paused(run_id, events.PauseRequested())

    async def unpause(self, run_id: str) -> RunSummary:
        """Let a paused run go on; raises as `pause`, and Unavailable where it must wait for its turn for too long."""
        return await self._set_paused(run_id, events.UnpauseRequested())

    async def _set_paused(self, run_id: str, event: events.PauseRequested | events.UnpauseRequested) -> RunSummary:
        is_pause = isinstance(event, events.PauseRequested)
        run = await self._store.run_summary(run_id)
        if run.is_final:
            raise _finished(run)
        if run.paused is not is_pause and not await self._floor.note(run, event):
            try:
                # To pause it starts nothing; to go on it has to be its turn.
                async with asyncio.timeout(_PATIENCE_S):
                    await self._floor.tell(run, event, at_once=is_pause)
            except TimeoutError:
                message = f"The run {run_id} goes on when it is its turn; too many others are in progress."
                raise Unavailable(message, code="run_waits_for_turn") from None
        run = await self._store.run_summary(run_id)
        if run.is_final and is_pause:
            raise _finished(run)
        # One that went on may have come to its end since.
        if run.paused is not is_pause and not run.is_final:
            raise Unavailable("The platform is shutting down; try again after its next start.", code=_CLOSING)
        return run

    async def send_event(self, run_id: str, name: str, payload: Json, event_id: str | None) -> EventReceipt:
        """Give a run an event; the first node that waits for that name takes it, now or later.

        Args:
            run_id: The run.
            name: What waits speak of.
            payload: What the wait gets; None for nothing.
            event_id: The same one again is the same event; without it, each is another.

        Raises:
            NotFound: There is no such run.
            InvalidInput: At ``name``, ``event_id`` or ``payload``.
            Conflict: The run has ended (``run_ended``), the id is that of another event (``event_id_reused``), or the
                run was sent as many as it may be (``too_many_events``).
        """
        for path, text in (("name", name), ("event_id", event_id)):
            if text is not None and not 1 <= len(text) <= _MAX_NAME:
                raise InvalidInput.at(path, "out_of_range", f"It must have 1 to {_MAX_NAME} characters.")
        limit = self._settings.max_event_kb * 1024
        # Counted first: to encode millions of values would hold everything else up.
        if has_more_values({"payload": payload}, limit) or _size(payload) > limit:
            raise InvalidInput.at("payload", "payload_too_large", f"It may have {limit} bytes as JSON.")
        most = self._settings.max_run_events
        received, is_new = await self._store.receive_event(run_id, name, payload, event_id, limit=most)
        if received.told is None:
            self._floor.has_mail(run_id)
        return EventReceipt(run_id, received.event_id, received.name, is_new)

    async def replay(self, run_id: str, key: NodeRunKey, attempt: int | None) -> Replayed:
        """Run an attempt that ended again over what it saw, with the code of then, and compare; nothing is stored.

        Args:
            run_id: The run.
            key: The node run.
            attempt: From 1; the last one that ended without it.

        Raises:
            NotFound: There is no such run, node run or attempt.
            Conflict: It has not ended (``attempt_not_finished``), or the run cannot be made again
                (``not_recoverable``).
            Unavailable: The platform is shutting down.
        """
        if not self._accepting:
            raise Unavailable("The platform is shutting down and tries no attempt again.", code=_CLOSING)
        return await self._replays.replay(run_id, key, attempt)

    async def place(self, run_id: str) -> Place | None:
        """Return where a run stands that waits for its turn; None for others."""
        queue = self._floor.queue
        place = queue.place(run_id)
        if place is not None and place.waits_for == "tenant_max_active_runs":
            is_short = not self._quotas.may_run(queue.tenant_of(run_id))
            return replace(place, waits_for="tenant_cpu_s_per_day") if is_short else place
        return place

    def go_on(self) -> None:
        """Begin with runs that may begin now: a quota was changed, or a day has begun."""
        self._floor.start_next()

    def load_of(self, tenant: str) -> tuple[int, int]:
        """Return how many runs of a tenant are active, and how many wait."""
        return self._floor.queue.active.of(tenant), self._floor.queue.waiting().get(tenant, 0)

    async def follow(self, run_id: str, after: int) -> AsyncGenerator[list[JournalRecord]]:
        """Yield a run's records after number ``after``: first what is stored, then what comes, up to the run's end.

        Where lines are kept no more, a record of the kind ``gap`` stands for them.

        A run that goes on after the platform's next start has no end yet: its records stop where the platform does.

        Raises:
            NotFound: There is no such run.
        """
        async with aclosing(self._tails.follow(run_id, after)) as records:
            async for batch in records:
                yield batch

    def facts(self) -> dict[str, int]:
        """Return how many runs are active and how many wait."""
        return {"active_runs": self._floor.active, "queued_runs": len(self._floor.queue)}


def _finished(run: RunSummary) -> Conflict:
    return Conflict(f"The run {run.run_id} is {run.status} already.", code="run_already_finished")


def _size(value: Json) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))
