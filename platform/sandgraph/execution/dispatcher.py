"""Takes runs in, gives each its turn, and answers for them until they end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from sandgraph.errors import Conflict, InvalidInput, QueueFull, Unavailable
from sandgraph.execution import runtimes
from sandgraph.execution.actor import RunActor
from sandgraph.execution.bus import Bus
from sandgraph.execution.checkpoints import RunState, read_past, read_state
from sandgraph.execution.jobs import RunPlan
from sandgraph.execution.transport import Transport
from sandgraph.execution.worker import encode_state
from sandgraph.model import events, scheduler
from sandgraph.model.commands import RecordRun
from sandgraph.model.replay import Past
from sandgraph.model.run import Failure, RunStatus
from sandgraph.model.state import Json, has_more_values
from sandgraph.model.topology import analyse
from sandgraph.settings import Settings
from sandgraph.store.records import CodeKind, JournalRecord, RunRecord
from sandgraph.store.store import Store

logger = logging.getLogger(__name__)

#: Records fetched at a time for one follower: with the longest lines there are, some 2 MB.
_PAGE = 100

_CLOSING = "shutting_down"


class Dispatcher:
    """Accepts, runs, cancels and follows runs.

    Args:
        store: Holds the truth.
        transport: Carries attempts to a worker.
        settings: Of the deployment.
        image: The sandboxes' image, pinned by its digest.
        allowed: The OCI runtimes that a graph may name.
    """

    def __init__(
        self, store: Store, transport: Transport, settings: Settings, image: str, allowed: Sequence[str] = ()
    ) -> None:
        self._store = store
        self._transport = transport
        self._settings = settings
        self._image = image
        self._runtimes = allowed
        self._bus = Bus()
        self._queue: deque[str] = deque()
        self._actors: dict[str, RunActor] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled_early: set[str] = set()
        self._arriving = 0
        self._accepting = False
        self._is_closed = False

    async def start(self) -> None:
        """Queue what an earlier process left in flight, or end it as interrupted, and begin to accept runs."""
        if self._settings.resume_runs:
            self._queue.extend(await self._store.hand_back_runs())
            logger.info("runs taken up", extra={"action": "runs_taken_up", "runs": len(self._queue)})
        else:
            for run_id in await self._store.interrupt_runs():
                logger.warning("run interrupted", extra={"action": "run_interrupted", "run": run_id})
        self._accepting = True
        self._start_next()

    async def close(self) -> None:
        """Stop every run: its containers are killed, and it goes on after the next start, or is interrupted."""
        self._accepting = False
        self._queue.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        resumes = self._settings.resume_runs
        left = await (self._store.hand_back_runs() if resumes else self._store.interrupt_runs())
        self._is_closed = True
        for run_id in left:
            self._bus.publish(run_id)

    async def submit(
        self, graph_id: str, initial_state: Mapping[str, Json], *, idempotency_key: str | None = None
    ) -> tuple[RunRecord, bool]:
        """Accept a run; it starts at once or waits for its turn.

        Returns:
            The run, and whether it is new: the same ``idempotency_key`` again gives the run it gave before.

        Raises:
            NotFound: There is no such graph.
            InvalidInput: The initial state is over its limits.
            QueueFull: As many runs wait as may.
            Conflict: The idempotency key was used for something else.
            Unavailable: The platform is shutting down.
        """
        if not self._accepting:
            raise Unavailable("The platform is shutting down and takes no more runs.", code=_CLOSING)
        version = await self._store.graph(graph_id)
        state = self._encoded(initial_state)
        waiting = len(self._queue) + self._arriving
        if waiting >= self._settings.max_queued_runs and not self._has_room():
            raise QueueFull(f"{waiting} runs are waiting already; try again later.", retry_after_s=5)
        self._arriving += 1
        try:
            record, created = await self._store.create_run(
                version,
                initial_state,
                functions=await self._store.latest_code(
                    CodeKind.FUNCTION, {name for _, name in version.graph.functions()}
                ),
                tools=await self._store.all_tools(),
                image=self._image,
                idempotency_key=idempotency_key,
                fingerprint=hashlib.sha256(graph_id.encode() + b"\0" + state).hexdigest() if idempotency_key else None,
            )
            if created:
                self._queue.append(record.run_id)
        finally:
            self._arriving -= 1
        self._start_next()
        return record, created

    async def wait(self, run_id: str, timeout_s: float) -> RunRecord:
        """Return the run once it ended, or as it is after ``timeout_s`` seconds.

        Raises:
            NotFound: There is no such run.
        """
        try:
            async with asyncio.timeout(timeout_s):
                with self._bus.subscribe(run_id) as news:
                    while run_id in self._queue or run_id in self._tasks:
                        await news.wait()
        except TimeoutError:
            pass
        return await self._store.run(run_id)

    async def cancel(self, run_id: str) -> RunRecord:
        """Cancel a run: its containers are killed at once, and nothing they still say counts.

        Raises:
            NotFound: There is no such run.
            Conflict: It has ended otherwise.
            Unavailable: The platform is shutting down, and the run goes on after its next start.
        """
        if run_id in self._queue:
            self._queue.remove(run_id)
            self._cancelled_early.add(run_id)
            self._own(run_id, self._drive)
        elif run_id in self._actors:
            self._actors[run_id].tell(events.CancelRequested())
        elif run_id in self._tasks:
            self._cancelled_early.add(run_id)
        if run_id in self._tasks:
            await asyncio.wait([self._tasks[run_id]])
        record = await self._store.run(run_id)
        if not record.is_final:
            raise Unavailable("The platform is shutting down; cancel the run after its next start.", code=_CLOSING)
        if record.status is not RunStatus.CANCELLED:
            raise Conflict(f"The run {run_id} is {record.status} already.", code="run_already_finished")
        return record

    async def state(self, run_id: str, at: int | None) -> RunState:
        """Return a run's state; see `read_state`."""
        return await read_state(self._store, run_id, at)

    async def follow(self, run_id: str, after: int) -> AsyncIterator[list[JournalRecord]]:
        """Yield a run's records after number ``after``: first what is stored, then what comes, up to the run's end.

        A run that goes on after the platform's next start has no end yet: its records stop where the platform does.

        Raises:
            NotFound: There is no such run.
        """
        with self._bus.subscribe(run_id) as news:
            while True:
                run = await self._store.run_summary(run_id)
                while records := await self._store.journal(run_id, after=after, limit=_PAGE):
                    after = records[-1].seq
                    yield records
                if run.is_final or self._is_closed:
                    return
                await news.wait()

    def facts(self) -> dict[str, int]:
        """Return how many runs are active and how many wait."""
        return {"active_runs": len(self._tasks), "queued_runs": len(self._queue)}

    def _encoded(self, state: Mapping[str, Json]) -> bytes:
        """Return the JSON text of an initial state that is within its bounds."""
        settings = self._settings
        # Counted first: to encode millions of values would hold everything else up.
        if has_more_values(state, settings.max_state_values):
            message = f"The state has more than the {settings.max_state_values} values that it may have."
            raise InvalidInput.at("initial_state", "too_many_values", message)
        text, limit = encode_state(state), settings.max_state_kb * 1024
        if len(text) > limit:
            message = f"The state has {len(text)} bytes as JSON; it may have {limit}."
            raise InvalidInput.at("initial_state", "state_too_large", message)
        if len(state) > settings.max_state_keys:
            message = f"The state has {len(state)} keys; it may have {settings.max_state_keys}."
            raise InvalidInput.at("initial_state", "too_many_keys", message)
        return text

    def _has_room(self) -> bool:
        return len(self._tasks) < self._settings.max_active_runs

    def _start_next(self) -> None:
        while self._accepting and self._queue and self._has_room():
            run_id = self._queue.popleft()
            self._own(run_id, self._drive)

    def _own(self, run_id: str, work: Callable[[str], Awaitable[None]]) -> None:
        """See to a run's work until it is over, however it ends."""

        async def see_to_it() -> None:
            try:
                await work(run_id)
            except Exception as error:
                logger.exception("run failed inside the platform", extra={"action": "run_crashed", "run": run_id})
                await self._give_up(run_id, error)
            finally:
                self._actors.pop(run_id, None)
                self._cancelled_early.discard(run_id)
                del self._tasks[run_id]
                self._bus.publish(run_id)
                self._start_next()

        self._tasks[run_id] = asyncio.create_task(see_to_it(), name=run_id)

    async def _drive(self, run_id: str) -> None:
        run = await self._store.run_summary(run_id)
        if run.status is RunStatus.INTERRUPTED:
            actor = await self._resumed(run_id)
        elif run_id in self._cancelled_early:
            await self._withdraw(run_id)
            return
        else:
            actor = await self._actor(run_id)
        if actor is None:
            return
        self._actors[run_id] = actor
        if run_id in self._cancelled_early:
            actor.tell(events.CancelRequested())
        await actor.drive()

    async def _resumed(self, run_id: str) -> RunActor | None:
        """Return what goes on with an interrupted run; None where it had to fail instead."""
        if not await self._store.resume_run(run_id, self._settings.max_recoveries, self._image):
            return None
        self._bus.publish(run_id)
        try:
            return await self._actor(run_id, resumes=True)
        except Unavailable:
            raise
        except Exception as error:
            logger.exception("run not recoverable", extra={"action": "run_not_recoverable", "run": run_id})
            failure = Failure("not_recoverable", f"The run cannot go on where the platform stopped: {error}")
            await self._store.give_up_run(run_id, failure)
            return None

    async def _actor(self, run_id: str, *, resumes: bool = False) -> RunActor | None:
        record = await self._store.run(run_id)
        graph = (await self._store.graph(record.graph_id)).graph
        if message := runtimes.refusal(graph, self._runtimes):
            # Stored when the deployment had it.
            failure = Failure(runtimes.CODE, message)
            if resumes:
                await self._store.give_up_run(run_id, failure)
            else:
                await self._store.apply(run_id, [RecordRun(RunStatus.FAILED, failure, record.initial_state)])
            return None
        topology = analyse(graph)
        if isinstance(topology, list):
            # Stored by a version that accepted it.
            raise InvalidInput(topology)
        functions, tools = await self._store.run_code(run_id)
        past = Past(scheduler.Run(graph, topology))
        if resumes:
            past = await read_past(self._store, record, past)
        plan = RunPlan(run_id, graph, topology, functions, tools)
        return RunActor(plan, record.initial_state, past, self._store, self._transport, self._bus, self._settings)

    async def _withdraw(self, run_id: str) -> None:
        record = await self._store.run(run_id)
        failure = Failure("cancelled", "The run was cancelled before it started.")
        await self._store.apply(run_id, [RecordRun(RunStatus.CANCELLED, failure, record.initial_state)])

    async def _give_up(self, run_id: str, error: Exception) -> None:
        failure = Failure("internal_error", f"The platform failed to go on with this run: {error}")
        try:
            await self._store.give_up_run(run_id, failure)
        except Exception:
            # The next start takes it up again.
            logger.exception("run not marked as failed", extra={"action": "run_lost", "run": run_id})
