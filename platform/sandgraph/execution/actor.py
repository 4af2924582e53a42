"""One run in progress: tells the scheduler what happens, commits what it answers, and does what it asks."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import tenacity

from sandgraph.errors import Unavailable
from sandgraph.execution.attempts import Attempts, Lease
from sandgraph.execution.bus import Bus
from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.tracing import record_commits
from sandgraph.execution.transport import Transport
from sandgraph.model import events, scheduler
from sandgraph.model.commands import Command, RecordAttempt, ScheduleRetry, ScheduleTimer, StartAttempt, StopAttempt
from sandgraph.model.event_document import to_document
from sandgraph.model.replay import Past, timed
from sandgraph.model.run import NodeRunKey, RunStatus, Usage
from sandgraph.model.state import State
from sandgraph.sandbox.spec import STOPPING
from sandgraph.settings import Settings
from sandgraph.store.records import Reads, RunEvent
from sandgraph.store.steps import Taken
from sandgraph.store.store import Store
from sandgraph.telemetry.spans import Spans

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds for which a step that the database would not take is tried again before the run is given up.
_COMMIT_PATIENCE_S = 60

#: Steps stored in one transaction: a few milliseconds.
_STEPS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class _News:
    """What a run is to be told: an event, or without one, those that the store keeps for it.

    Attributes:
        event: The event.
        usage: Of the attempt that it is the end of.
        reads: Of the same.
        done: Is done once the event is stored, or will never be.
    """

    event: events.Event | None
    usage: Usage | None = None
    reads: Reads | None = None
    done: asyncio.Future[None] | None = None

    def settle(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class RunActor:
    """Drives one run until it ends or has nothing to do but wait; owns its attempts and timers.

    Args:
        plan: What the run pinned.
        state: What it starts with.
        past: The run as far as it was told.
        lease: The right to work on it.
        store: Where each step is committed before anything follows from it.
        transport: Carries attempts to a worker.
        bus: Wakes up the journal's readers.
        settings: Of the deployment.
        is_made: Whether the run was made with this past, so that what followed from it last is to be done still.
        spans: Take what was done when.
    """

    def __init__(  # noqa: PLR0913 - the composition root of a run
        self,
        plan: RunPlan,
        state: State,
        past: Past,
        lease: Lease,
        store: Store,
        transport: Transport,
        bus: Bus,
        settings: Settings,
        *,
        is_made: bool = False,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._plan = plan
        self._lease = lease
        self._store = store
        self._transport = transport
        self._bus = bus
        self._settings = settings
        self._run = past.run
        self._told = past.number
        self._past = past
        # Bounded by what is in progress: an event an attempt, a timer each, and what people ask for.
        self._inbox: asyncio.Queue[_News] = asyncio.Queue()
        self._attempts = Attempts(plan, lease, store, transport, bus, settings, self.tell)
        self._attempts.know_results(past.run)
        self._timers: set[asyncio.TimerHandle] = set()
        self._due: dict[NodeRunKey, datetime] = {}
        self._left = [each for each in past.commands if isinstance(each, StartAttempt)] if is_made else []
        lost = [] if is_made else past.lost()
        # Their ends were stored when the run was interrupted.
        self._ended = {(event.key, event.attempt) for event in lost}
        for event in lost if past.run.status is not RunStatus.PENDING else [events.RunStarted(state)]:
            self.tell(event)
        self.look_for_mail()
        self._is_listening = False
        #: Whether the run waits, and nobody works on it any more.
        self.is_parked = False
        #: Whether it hears nothing more.
        self.is_over = False

    @property
    def status(self) -> RunStatus:
        """The run's, as far as it was told."""
        return self._run.status

    @property
    def plan(self) -> RunPlan:
        """What the run pinned, and whose it is."""
        return self._plan

    @property
    def is_quiet(self) -> bool:
        """Whether all that the run was told so far is stored, or never will be."""
        return self.is_over or (self._is_listening and self._inbox.empty())

    def tell(
        self,
        event: events.Event,
        usage: Usage | None = None,
        reads: Reads | None = None,
        done: asyncio.Future[None] | None = None,
    ) -> None:
        """Hand the run an event; it is taken in its turn. ``done`` is set once it was, or never will be."""
        self._inbox.put_nowait(_News(event, usage, reads, done))

    def look_for_mail(self) -> None:
        """Have the run told what the store keeps for it; in its turn."""
        self._inbox.put_nowait(_News(None))

    async def drive(self) -> None:
        """Go on until the run ends, or waits. Cancelling this stops every attempt; the run is as the store has it.

        Raises:
            Unavailable: The database took no step for a minute.
            Conflict: Somebody else works on the run (``lease_lost``).
        """
        self._take_up()
        try:
            while not self._run.status.is_final:
                if self._run.status is RunStatus.WAITING and self._inbox.empty() and await self._park():
                    self.is_parked = True
                    return
                heard = await self._listen()
                try:
                    await self._hear(heard)
                finally:
                    for news in heard:
                        news.settle()
        finally:
            self.is_over = True
            for timer in self._timers:
                timer.cancel()
            await self._attempts.stop_all(None if self._run.status.is_final else STOPPING)
            while not self._inbox.empty():
                news = self._inbox.get_nowait()
                await self._record_late(news)
                news.settle()
            await self._end()

    def _take_up(self) -> None:
        """Begin to count the times that the run has, and what was left to be done."""
        now = datetime.now(UTC)
        ceiling = self._settings.run_timeout_s
        timeout_s = min(self._plan.own.graph.timeout_s or ceiling, ceiling)
        self._later(timeout_s - self._past.worked_s(now), events.RunTimedOut(timeout_s))
        waiting = {key: active.attempt for key, active in self._run.attempts() if active.is_waiting}
        for key, (retry, since) in self._past.waits.items():
            if waiting.get(key) == retry.attempt:
                self._retry(retry, _seconds_since(since, now))
        for timer, since in self._past.timers.values():
            self._limit(timer, since)
        self._perform(self._left)

    async def _listen(self) -> list[_News]:
        """Return what the run is to be told next: what came while a step was stored shares the next one's commit."""
        self._is_listening = True
        try:
            heard = [await self._inbox.get()]
        finally:
            self._is_listening = False
        # The store is asked for what it keeps once all that came before is stored.
        while heard[-1].event is not None and not self._inbox.empty() and len(heard) < _STEPS_AT_ONCE:
            heard.append(self._inbox.get_nowait())
        return heard

    async def _hear(self, heard: Sequence[_News]) -> None:
        await self._take([news for news in heard if news.event is not None])
        if heard[-1].event is None:
            kept = await _patient(partial(self._store.untold_events, self._plan.run_id))
            told = [_News(events.EventReceived(each.name, each.payload, each.event_id)) for each in kept]
            for start in range(0, len(told), _STEPS_AT_ONCE):
                await self._take(told[start : start + _STEPS_AT_ONCE])

    async def _take(self, heard: Sequence[_News]) -> None:
        """Tell the run one event after another, store what follows from all of them, and then do it."""
        taken, late = list[Taken](), list[_News]()
        for news in heard:
            if news.event is None or self._run.status.is_final:
                late.append(news)
                continue
            self._run, commands = scheduler.step(self._run, news.event)
            if commands:
                told = RunEvent(self._told + len(taken) + 1, to_document(news.event))
                taken.append(Taken(self._news(commands), told, news.usage, news.reads))
            else:
                late.append(news)
        if taken:
            began_ns = time.time_ns()
            await _patient(partial(self._store.apply_all, self._plan.run_id, taken, lease=self._lease.token))
            self._told += len(taken)
            self._bus.publish(self._plan.run_id)
            if self._spans is not None and self._spans.is_on:
                record_commits(self._spans, self._plan, taken, began_ns, time.time_ns())
            self._perform([command for step in taken for command in step.commands])
        for news in late:
            await self._record_late(news)

    def _news(self, commands: Sequence[Command]) -> list[Command]:
        """Return the commands but the ends of attempts that are stored already."""
        return [
            command
            for command in commands
            if not (isinstance(command, RecordAttempt) and (command.key, command.attempt) in self._ended)
        ]

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case StartAttempt():
                    self._attempts.start(command)
                case StopAttempt(key, attempt):
                    self._attempts.stop(key, attempt)
                case ScheduleRetry():
                    self._retry(command)
                case ScheduleTimer():
                    self._limit(command, datetime.now(UTC))
                case _:
                    pass

    async def _park(self) -> bool:
        """Let the run wait with nobody working on it, unless there is news; tell whether it does."""
        run_id = self._plan.run_id
        alive = set(timed(self._run))
        wake_at = min((due for key, due in self._due.items() if key in alive), default=None)
        is_parked = await _patient(partial(self._store.park_run, run_id, self._lease.token, wake_at))
        if not is_parked:
            self.look_for_mail()
        elif not self._inbox.empty():
            # It came in meanwhile. Whoever was woken for the run by now has the lease, and this one loses it.
            self._lease.token = await _patient(partial(self._store.claim_run, run_id, self._store.process_id))
            is_parked = False
        return is_parked

    def _retry(self, command: ScheduleRetry, waited_s: float = 0.0) -> None:
        # Jitter spreads load; it guards nothing.
        wait_s = random.uniform(0, command.delay_s) if command.jitter else command.delay_s  # noqa: S311
        self._later(wait_s - waited_s, events.RetryDue(command.key, command.attempt))

    def _limit(self, command: ScheduleTimer, since: datetime) -> None:
        try:
            due = since + timedelta(seconds=command.delay_s)
        except OverflowError:
            # Later than any date there is.
            return
        self._due[command.key] = due
        self._later((due - datetime.now(UTC)).total_seconds(), events.TimeElapsed(command.key))

    def _later(self, delay_s: float, event: events.Event) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            self.tell(event)

        timer = asyncio.get_running_loop().call_later(max(0.0, delay_s), ring)
        self._timers.add(timer)

    async def _record_late(self, news: _News) -> None:
        """Store what was used by an attempt that came too late to count."""
        event, usage = news.event, news.usage
        if usage is not None and isinstance(event, events.AttemptSucceeded | events.AttemptFailed):
            await self._attempts.record_usage(event.key, event.attempt, usage)

    async def _end(self) -> None:
        try:
            await self._transport.end_run(self._plan.run_id)
        except Exception:
            # The run is over, or waits: what it came to does not change.
            logger.exception("run not let go", extra={"action": "end_run_failed", "run": self._plan.run_id})


async def _patient(work: Callable[[], Awaitable[T]]) -> T:
    """Do something with the database, which is tried again where it does not answer."""
    try:
        return await work()
    except Unavailable:
        # What tries again costs more than a step: it is made where it is needed.
        pass
    tries = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=tenacity.wait_random_exponential(0.05, max=2),
        stop=tenacity.stop_after_delay(_COMMIT_PATIENCE_S),
        reraise=True,
    )
    return await tries(work)


def _seconds_since(then: datetime, now: datetime) -> float:
    """Return how long ago something was stored; a clock that was set back makes it no shorter than no time."""
    return max(0.0, (now - then).total_seconds())
