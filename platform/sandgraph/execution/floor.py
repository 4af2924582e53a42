"""Where runs are worked on: gives each its turn, tells them what people ask of them, and lets those that wait rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sandgraph.errors import Conflict, SandgraphError, Unavailable
from sandgraph.execution.actor import RunActor
from sandgraph.execution.bus import Bus
from sandgraph.execution.fairness import Shares, no_bound
from sandgraph.execution.queue import RunQueue, Waiting
from sandgraph.execution.starting import NOT_OURS, Starter
from sandgraph.execution.waker import Waker
from sandgraph.model import events
from sandgraph.model.run import RunStatus
from sandgraph.settings import Settings
from sandgraph.store.filters import RunFilter
from sandgraph.store.records import HandedBack, RunSummary
from sandgraph.store.store import Store
from sandgraph.telemetry import context
from sandgraph.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

#: Runs read at a time when the platform starts.
_PAGE = 1_000

#: Seconds between two looks at whether all is stored.
_QUIET_S = 0.01

#: Seconds after which a run is taken up again that the database failed.
_PUT_OFF_S = 1.0


@dataclass(frozen=True, slots=True)
class _Request:
    """What somebody asks of a run that nobody works on yet.

    Attributes:
        event: It is told.
        done: Is done once it was.
        at_once: Whether it need not wait for its turn.
    """

    event: events.Event
    done: asyncio.Future[None]
    at_once: bool


class Floor:
    """Runs in progress, and those that wait for their turn.

    Args:
        store: Holds the truth.
        starter: Makes who drives a run.
        bus: Wakes up the journal's readers.
        settings: Of the deployment.
        most_of: Tells how many runs of a tenant may be worked on at the same time.
        metrics: Take what is measured.
    """

    def __init__(
        self,
        store: Store,
        starter: Starter,
        bus: Bus,
        settings: Settings,
        most_of: Callable[[str], int | None] = no_bound,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._since: dict[str, float] = {}
        self._store = store
        self._starter = starter
        self._bus = bus
        self._waker = Waker(store, self.wake, lambda: self.queue.is_backed_up)
        self._actors: dict[str, RunActor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._requests: dict[str, list[_Request]] = {}
        self._limits: dict[str, int | None] = {}
        self._is_open = False
        self.queue = RunQueue(Shares(settings.max_active_runs, most_of))

    async def open(self, left: HandedBack | None) -> None:
        """Begin to work, with what an earlier process left."""
        for run_id in left or ():
            waiting = await self._waiting(await self._store.run_summary(run_id))
            if waiting.goes_on:
                self.queue.count(waiting)
            self.queue.add(waiting)
        cursor: str | None = None
        while left and left.waiting:
            page = await self._store.list_runs(RunFilter(frozenset({RunStatus.WAITING})), cursor=cursor, limit=_PAGE)
            for run in page.items:
                self.queue.count(await self._waiting(run))
            cursor = page.next_cursor
            if cursor is None:
                break
        self._is_open = True
        self._waker.start()
        self.start_next()

    async def stop_taking(self) -> None:
        """Begin with no more runs, and wake none; those that are worked on go on."""
        self._is_open = False
        self.queue.clear()
        self._since.clear()
        await self._waker.stop()

    async def quiet(self) -> None:
        """Return once each run that is worked on has stored what it was told."""
        while not all(actor.is_quiet for actor in self._actors.values()):  # noqa: ASYNC110 - stored in a moment
            await asyncio.sleep(_QUIET_S)

    async def close(self) -> None:
        """Stop every run, and return once their containers are gone."""
        await self.stop_taking()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for requests in self._requests.values():
            _settle(requests)
        self._requests.clear()

    @property
    def active(self) -> int:
        """How many runs are worked on."""
        return len(self._tasks)

    def has(self, run_id: str) -> bool:
        """Tell whether a run is worked on, or waits for its turn."""
        return run_id in self._tasks or run_id in self.queue

    async def enter(self, run: RunSummary) -> None:
        """Let a run that was accepted wait for its turn."""
        self.queue.add(replace(await self._waiting(run), goes_on=False))
        self._since[run.run_id] = time.monotonic()
        self.start_next()

    def start_next(self) -> None:
        """Begin to work on as many runs as may be worked on."""
        while self._is_open and (waiting := self.queue.take()):
            self._own(waiting, self._drive)

    async def left(self, run_id: str) -> None:
        """Return once nobody works on a run."""
        if run_id in self._tasks:
            await asyncio.wait([self._tasks[run_id]])

    # What runs are told

    async def tell(self, run: RunSummary, event: events.Event, *, at_once: bool) -> None:
        """Have a run that has not ended told an event, and return once it was, or the run is over.

        Args:
            run: The run.
            event: The event.
            at_once: Whether it need not wait for its turn, if nobody works on it at present.
        """
        run_id, done = run.run_id, asyncio.get_running_loop().create_future()
        actor = self._actors.get(run_id)
        if actor is not None and not actor.is_over:
            actor.tell(event, done=done)
        elif not self._is_open:
            return
        else:
            request = _Request(event, done, at_once)
            self._requests.setdefault(run_id, []).append(request)
            if not self.has(run_id):
                await self.wake(run_id)
            if not self.has(run_id):
                # It ended meanwhile.
                _settle(self._requests.pop(run_id, []))
            self._hurry(run_id)
        await asyncio.shield(done)

    async def note(self, run: RunSummary, event: events.Event) -> bool:
        """Have a run that has not begun told an event from which nothing follows yet; tell whether it had not begun."""
        run_id = run.run_id
        if run.status is not RunStatus.PENDING or run_id not in self.queue:
            return False
        number, waiting = self.queue.remove(run_id)

        async def work(_: str) -> None:
            await self._starter.note(run_id, event)

        self._own(waiting, work, number)
        await self.left(run_id)
        return True

    def has_mail(self, run_id: str) -> None:
        """Have a run told the events that the store keeps for it, if it has begun."""
        actor = self._actors.get(run_id)
        if actor is not None and not actor.is_over:
            actor.look_for_mail()
        else:
            # If it is parked, it is due.
            self._waker.rearm()

    async def wake(self, run_id: str) -> None:
        """Let a parked run go on when it is its turn; nothing happens if it is no longer parked."""
        if self.has(run_id) or not self._is_open:
            return
        run = await self._store.run_summary(run_id)
        waiting = await self._waiting(run)
        if run.status is RunStatus.WAITING and not self.has(run_id) and self._is_open:
            self.queue.add(replace(waiting, goes_on=True))
            self._since[run_id] = time.monotonic()
            self.start_next()

    def _hurry(self, run_id: str) -> None:
        """Begin with a run out of its turn, if it is asked for."""
        if self._is_open and run_id in self.queue and any(each.at_once for each in self._requests.get(run_id, ())):
            _, waiting = self.queue.remove(run_id)
            if not waiting.goes_on:
                self.queue.count(waiting)
            self._own(waiting, self._drive)

    # Who works on what

    def _own(self, waiting: Waiting, work: Callable[[str], Awaitable[None]], number: int | None = None) -> None:
        """See to a run's work until it is over, however it ends; with a number, it then has its place in line again."""
        run_id = waiting.run_id

        async def see_to_it() -> None:
            # Whoever's request, or other run, it was that made room for this one.
            context.begin(run=run_id)
            try:
                while not await self._is_done(run_id, work):  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(_PUT_OFF_S)
            except Exception as error:
                if isinstance(error, Conflict) and error.code in NOT_OURS:
                    logger.warning("run left to others", extra={"action": "run_left", "run": run_id})
                else:
                    logger.exception("run failed inside the platform", extra={"action": "run_crashed", "run": run_id})
                    await self._starter.give_up(run_id, error)
            finally:
                self._leave(waiting, number)

        if number is None and (since := self._since.pop(run_id, None)) is not None:
            self._metrics.run_waited(time.monotonic() - since)
        self.queue.active.take(waiting.tenant)
        self._tasks[run_id] = asyncio.create_task(see_to_it(), name=run_id)

    async def _is_done(self, run_id: str, work: Callable[[str], Awaitable[None]]) -> bool:
        """Do a run's work; tell whether it is over, or has to be taken up again because the database failed it."""
        try:
            await work(run_id)
        except Unavailable as trouble:
            # What was stored is the run, and nothing of that is lost.
            logger.warning("run put off: %s", trouble.message, extra={"action": "run_put_off", "run": run_id})
            self._actors.pop(run_id, None)
            return False
        return True

    def _leave(self, waiting: Waiting, number: int | None) -> None:
        run_id = waiting.run_id
        actor = self._actors.pop(run_id, None)
        del self._tasks[run_id]
        self.queue.active.give_back(waiting.tenant)
        if not self._is_open:
            pass
        elif number is not None:
            self.queue.add(waiting, number)
        elif actor is None or not actor.is_parked:
            self.queue.ended(waiting)
            _settle(self._requests.pop(run_id, []))
        else:
            self._waker.rearm()
            if run_id in self._requests:
                self.queue.add(replace(waiting, goes_on=True))
        self._hurry(run_id)
        self._bus.publish(run_id)
        self.start_next()

    async def _drive(self, run_id: str) -> None:
        actor = await self._starter.actor(run_id, lambda: self._is_cancelled(run_id))
        if actor is None:
            return
        self._actors[run_id] = actor
        for each in self._requests.pop(run_id, ()):
            actor.tell(each.event, done=each.done)
        context.add(tenant=actor.plan.tenant, trace_id=actor.plan.trace and actor.plan.trace.trace_id)
        await actor.drive()
        if actor.status.is_final:
            await self._starter.ended(run_id, actor.status, actor.plan.tenant)

    def _is_cancelled(self, run_id: str) -> bool:
        return any(isinstance(each.event, events.CancelRequested) for each in self._requests.get(run_id, ()))

    async def _waiting(self, run: RunSummary) -> Waiting:
        goes_on = run.status in {RunStatus.INTERRUPTED, RunStatus.WAITING}
        return Waiting(run.run_id, run.graph_name, await self._limit(run.graph_id), goes_on, run.tenant)

    async def _limit(self, graph_id: str) -> int | None:
        # Graph versions are immutable; there are no more of them than the catalog has.
        if graph_id not in self._limits:
            try:
                self._limits[graph_id] = (await self._store.graph(graph_id)).graph.max_concurrent_runs
            except (SandgraphError, LookupError, TypeError, ValueError):
                # It cannot be read; its runs will say so.
                self._limits[graph_id] = None
        return self._limits[graph_id]


def _settle(requests: list[_Request]) -> None:
    for each in requests:
        if not each.done.done():
            each.done.set_result(None)
