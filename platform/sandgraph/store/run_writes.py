"""The store's methods that change runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sandgraph.model.annotations import NO_ANNOTATIONS, AnnotationChange, Annotations
from sandgraph.model.commands import Command, RecordRun
from sandgraph.model.run import Failure, LogLine, NodeRunKey, RunStatus, Usage
from sandgraph.model.state import Json
from sandgraph.store import annotations as run_annotations
from sandgraph.store import forks, journal, leases, received_events, recovery, runs, steps
from sandgraph.store.database import Database
from sandgraph.store.known import Known
from sandgraph.store.records import (
    CodeVersion,
    GraphVersion,
    HandedBack,
    Reads,
    ReceivedEvent,
    RunEvent,
    RunRecord,
)
from sandgraph.store.runs import NewRun
from sandgraph.store.steps import Taken


class RunWrites:
    """What changes runs; part of `Store`.

    Where a ``lease`` is given and is not the run's present one, nothing is stored, and `Conflict` is raised
    (``lease_lost``): somebody else works on the run.
    """

    def __init__(self, database: Database, known: Known) -> None:
        self._database = database
        self._known = known

    async def create_run(
        self,
        graph: GraphVersion,
        initial_state: Mapping[str, Json],
        *,
        functions: Mapping[str, CodeVersion],
        tools: Mapping[str, CodeVersion],
        image: str,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> tuple[RunRecord, bool]:
        """Accept a run, pending, and return it and whether it was made now.

        Args:
            graph: The version it executes.
            initial_state: Commit 0.
            functions: The versions it pins, by name.
            tools: The versions it pins, by name.
            image: The sandbox image it pins.
            idempotency_key: A second call with it returns the run that the first one made.
            fingerprint: Of the request that the key stands for.
            annotations: What is noted about it.

        Raises:
            Conflict: The key stands for a request of another fingerprint (``idempotency_key_reused``).
        """
        new = NewRun(graph, initial_state, functions, tools, image, idempotency_key, fingerprint, annotations)
        mails = self._known.mails
        record, is_new = await self._database.write(runs.create, new)
        if is_new:
            # Whoever works on it asks for these first.
            self._known.is_made(record.run_id, (dict(functions), dict(tools)), mails)
        return record, is_new

    async def fork_run(
        self, new: NewRun, commands: Sequence[Command], told: Sequence[RunEvent], *, forked_from: str, forked_at: int
    ) -> tuple[RunRecord, bool]:
        """Accept a run that begins with the history of another, and return it and whether it was made now.

        Its status is what the history leaves it in, and so are its attempts: those that run at the end of it are still
        to be told as lost.

        Args:
            new: As `create_run` makes it of what it is given.
            commands: All that followed from what it was told, in order.
            told: All of that, from number 1.
            forked_from: The other run.
            forked_at: Number of the other's last event that is part of this one's history.

        Raises:
            Conflict: The key stands for a request of another fingerprint (``idempotency_key_reused``).
            ValueError: The history is that of a run that has ended.
        """
        history = tuple(commands), tuple(told)
        return await self._database.write(forks.create, new, *history, forked_from, forked_at)

    async def annotate_run(
        self, run_id: str, change: AnnotationChange, *, expected: frozenset[int] | None = None
    ) -> Annotations:
        """Change what is noted about a run, and return it.

        Args:
            run_id: The run.
            change: What is to be other.
            expected: Revisions that it may be of; any without it.

        Raises:
            NotFound: There is no run of that id.
            PreconditionFailed: It is of another revision.
            InvalidInput: There would be too much (``metadata``).
        """
        return await self._database.write(run_annotations.change, run_id, change, expected)

    # Who works on a run

    async def claim_run(self, run_id: str, owner: str) -> int:
        """Give a run to somebody who is to work on it, and return the lease: every earlier one is over.

        A parked run is parked no more.

        Raises:
            NotFound: There is no run of that id.
            Conflict: The run has ended (``run_ended``).
        """
        return await self._database.write(leases.claim, run_id, owner)

    async def take_pending_run(self, run_id: str, owner: str) -> tuple[RunRecord, int] | None:
        """As `claim_run`, of a run that is pending; return it and the lease, and None of any other.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.write(leases.take_pending, run_id, owner)

    async def park_run(self, run_id: str, lease: int, wake_at: datetime | None) -> bool:
        """Let a run that waits do so with nobody working on it; tell whether it does.

        It does not where an event came in that it was not told (`untold_events`). After this, one that comes in makes
        the run due at once.

        Args:
            run_id: The run.
            lease: Of whoever works on it.
            wake_at: When it goes on in any case; None where only an event can wake it.

        Raises:
            NotFound: There is no run of that id.
            Conflict: The lease is over (``lease_lost``), or the run's status is another (``run_not_waiting``).
        """
        return await self._database.write(leases.park, run_id, lease, wake_at)

    async def interrupt_runs(self) -> list[str]:
        """End every run that has not ended as interrupted, and return their ids.

        For the start, before any run begins, and for the end, once nobody works on one.
        """
        # Among the writes: those that were called before may end runs.
        found = await self._database.write(recovery.in_flight)
        return [run_id for run_id in found if await self._database.write(recovery.interrupt, run_id)]

    async def hand_back_runs(self) -> HandedBack:
        """Mark every run in progress as interrupted until `resume_run`; return those, the pending and the waiting ones.

        For the start and the end, as `interrupt_runs`. Runs whose events were not stored are interrupted for good. A
        run that waits, with no attempt in progress, is left as it is; it is due at once (`due_runs`) if whoever worked
        on it did not park it. Leases of all of them but the pending and the parked ones are over.
        """
        found = await self._database.write(recovery.in_progress)
        waiting = [run_id for run_id in found if await self._database.write(recovery.hand_back, run_id)]
        return HandedBack(tuple(await self._database.write(recovery.in_line)), tuple(waiting))

    async def hand_back_run(self, run_id: str) -> None:
        """As `hand_back_runs`, of one run: the database failed whoever worked on it."""
        await self._database.write(recovery.hand_back, run_id)

    async def resume_run(self, run_id: str, limit: int, image: str) -> bool:
        """Count one more recovery of an interrupted run, call it running, and tell whether it goes on.

        Args:
            run_id: The run.
            limit: Recoveries that it may have; with more it fails (``too_many_recoveries``).
            image: The sandbox image it goes on with; the journal tells where it is not the one that it pinned.
        """
        return await self._database.write(recovery.resume, run_id, limit, image)

    async def give_up_run(self, run_id: str, failure: Failure, *, lease: int | None = None) -> bool:
        """Fail a run that nobody works on, with all that was in progress in it; tell whether it had not ended."""
        return await self._database.write(recovery.end, run_id, RecordRun(RunStatus.FAILED, failure), lease)

    # What a run does

    async def apply(
        self,
        run_id: str,
        commands: Sequence[Command],
        *,
        usage: Usage | None = None,
        told: RunEvent | None = None,
        reads: Reads | None = None,
        lease: int | None = None,
    ) -> int:
        """Store a step of the scheduler, all or nothing, and return the number of the run's last record.

        Args:
            run_id: The run.
            commands: Of one step, in its order; those that record nothing are passed over.
            usage: Of the first attempt that ends in this step.
            told: What the step follows from. With it, a step that is stored already is not stored again: whoever did
                not hear whether it was can call this again. An event that came from outside (`receive_event`) is told
                with it.
            reads: What the first attempt that ends in this step read.
            lease: Of whoever works on the run.

        Raises:
            NotFound: There is no run of that id.
            Conflict: The run has ended (``run_ended``), was told something else under the event's number
                (``event_conflict``), or is somebody else's (``lease_lost``); nothing was stored.
        """
        return await self.apply_all(run_id, [Taken(tuple(commands), told, usage, reads)], lease=lease)

    async def apply_all(self, run_id: str, taken: Sequence[Taken], *, lease: int | None = None) -> int:
        """Store steps that follow one another, all or nothing; otherwise as `apply`."""
        return await self._database.write(steps.apply, run_id, tuple(taken), lease)

    async def record_usage(
        self, run_id: str, key: NodeRunKey, attempt: int, usage: Usage, *, lease: int | None = None
    ) -> None:
        """Store what an attempt used that was stopped, or came too late to count; what is known of it already stays."""
        await self._database.write(steps.record_usage, run_id, key, attempt, usage, lease)

    async def append_logs(
        self, run_id: str, key: NodeRunKey, attempt: int, lines: Sequence[LogLine], *, lease: int | None = None
    ) -> int:
        """Store lines that an attempt printed, and return the number of the run's last record.

        Lines that come once the run has ended are dropped: the record of its end is the last.

        Raises:
            NotFound: There is no run of that id.
        """
        return await self._database.write(journal.append_logs, run_id, key, attempt, tuple(lines), lease)

    async def receive_event(
        self, run_id: str, name: str, payload: Json, event_id: str | None = None, *, limit: int
    ) -> tuple[ReceivedEvent, bool]:
        """Keep an event that somebody sent a run, until the run is told it; return it and whether it is new.

        A parked run is due at once (`due_runs`).

        Args:
            run_id: The run.
            name: What waits speak of.
            payload: What they are given.
            event_id: A second call with it returns the event of the first one; made up without it.
            limit: Events that may be sent to one run.

        Raises:
            NotFound: There is no run of that id.
            Conflict: The id is that of another event (``event_id_reused``), the run has ended (``run_ended``), or was
                sent as many as it may be (``too_many_events``).
        """
        self._known.is_sent(run_id)
        return await self._database.write(received_events.receive, run_id, name, payload, event_id, limit)
