"""What the store gives back: plain, saved, immutable. Times are UTC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.annotations import NO_ANNOTATIONS, Annotations
from sandgraph.model.graph import Graph
from sandgraph.model.log_filter import LogFilter
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.model.state import Json, StateDiff
from sandgraph.telemetry.trace import SpanRef, run_span

T = TypeVar("T")


class CodeKind(StrEnum):
    """What registered code is for."""

    FUNCTION = "function"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class CodeSource:
    """A function or a tool that may not be stored yet."""

    kind: CodeKind
    name: str
    code: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """A version of a function or a tool; ``hash`` is the SHA-256 of its code, in hexadecimal."""

    name: str
    version: int
    hash: str
    code: str
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GraphVersion:
    """An immutable version of a graph; ``graph_id`` names this version, ``name`` is shared by all."""

    graph_id: str
    name: str
    version: int
    graph: Graph
    created_at: datetime
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as it stands, without its states: what a list shows.

    Attributes:
        run_id: Sorts by the time of creation.
        graph_id: The graph version it executes.
        graph_name: That graph's name.
        image: The sandbox image it pinned.
        status: Where it stands.
        failure: Why it failed, was cancelled or was interrupted.
        last_seq: Number of the last record of its journal.
        last_commit: Number of its last commit.
        created_at: Accepted.
        started_at: Claimed.
        finished_at: Ended.
        tenant: Whose it is.
        owner: Who works on it; None where nobody does.
        recoveries: How often it was taken up again after the platform stopped.
        paused: Whether it starts nothing at present, as somebody asked for.
        wake_at: When it goes on, where it waits for a time and nobody works on it.
        forked_from: The run whose history it began with.
        forked_at: Number of the checkpoint at which it goes its own way: of that run, where it was forked; of its own
            last commit of the history, where it was resumed.
        traceparent: Of the request that made it; None where it is of no trace.
        annotations: What people noted about it.
    """

    run_id: str
    graph_id: str
    graph_name: str
    image: str
    status: RunStatus
    failure: Failure | None
    last_seq: int
    last_commit: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    tenant: str = field(default=DEFAULT_TENANT, kw_only=True)
    owner: str | None = field(default=None, kw_only=True)
    recoveries: int = field(default=0, kw_only=True)
    paused: bool = field(default=False, kw_only=True)
    wake_at: datetime | None = field(default=None, kw_only=True)
    forked_from: str | None = field(default=None, kw_only=True)
    forked_at: int | None = field(default=None, kw_only=True)
    traceparent: str | None = field(default=None, kw_only=True)

    @property
    def trace(self) -> SpanRef | None:
        """The run's span; None where it is of no trace."""
        return run_span(self.traceparent, self.run_id)

    annotations: Annotations = field(default=NO_ANNOTATIONS, kw_only=True)

    @property
    def is_final(self) -> bool:
        """Whether it ended for good; an interrupted run that goes on after the next start did not."""
        return self.status.is_final and (self.status is not RunStatus.INTERRUPTED or self.finished_at is not None)


@dataclass(frozen=True, slots=True)
class RunRecord(RunSummary):
    """A run as it stands, with its states.

    Attributes:
        initial_state: Commit 0.
        final_state: Once the scheduler ended it; None where it was interrupted, and its commits tell the state.
    """

    initial_state: Mapping[str, Json]
    final_state: Mapping[str, Json] | None


@dataclass(frozen=True, slots=True)
class Reads:
    """Top-level keys of the state that an attempt read, by its own word; ``cut`` where there were more."""

    keys: tuple[str, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of a node run."""

    attempt: int
    status: AttemptStatus
    failure: Failure | None
    usage: Usage | None
    started_at: datetime
    finished_at: datetime | None
    reads: Reads | None = None


@dataclass(frozen=True, slots=True)
class NodeRunRecord:
    """One node in one iteration, with its attempts in order; ``first_seq`` asks for those that began after it."""

    node: str
    iteration: int
    status: NodeRunStatus
    message: str
    failure: Failure | None
    attempts: tuple[AttemptRecord, ...]
    started_at: datetime
    finished_at: datetime | None
    scope: str = ""
    first_seq: int = 0


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A state commit, as `model.commands.RecordCommit` describes it.

    ``trunk`` is None in the runs of earlier releases, which had none; ``merged_writers`` says of the keys of ``merged``
    which commits wrote them.
    """

    number: int
    parents: tuple[int, ...]
    diff: StateDiff
    node: str
    iteration: int
    attempt: int | None
    created_at: datetime
    scope: str = ""
    trunk: int | None = None
    merged: StateDiff = field(default_factory=StateDiff)
    merged_writers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after a commit; ``writers`` names, by key, the commit that set or deleted it last, 0 for the start."""

    state: Mapping[str, Json]
    writers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The runs that had not ended when nobody worked on any.

    Attributes:
        queue: Ids of those that are to begin or to be resumed, oldest first; also what iterating gives.
        waiting: Ids of those that wait, parked, oldest first.
    """

    queue: tuple[str, ...]
    waiting: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        """Go through the queue."""
        return iter(self.queue)


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event that somebody sent a run; ``told`` is the number under which the run was told it, None until then."""

    number: int
    event_id: str
    name: str
    payload: Json
    told: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event that a run was told, to be stored with the step that followed from it.

    Attributes:
        number: From 1, without gaps.
        document: As `model.event_document` writes it.
    """

    number: int
    document: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class StoredEvent(RunEvent):
    """An event that a run was told; ``commit`` and ``diff`` are those of the commit that it made, where it made one."""

    commit: int | None
    diff: StateDiff
    at: datetime


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """A record of a run's one sequence: an event, or a line that submitted code printed.

    Attributes:
        seq: From 1, without gaps.
        ts: When it was stored.
        kind: ``event`` or ``log``; ``gap`` where lines are kept no more.
        type: An event's kind: ``run``, ``node``, ``attempt``, ``state`` or ``edge``; a log's stream.
        node: The node it is about; None where it is about the run.
        iteration: The node run's.
        attempt: The attempt's, where it is about one.
        status: The status that was reached; of a log line, ``running``.
        message: For a person; a log's line.
        data: More, by type. Of a failed run, node or attempt: ``error``. Of an edge: ``source`` and ``target``. Of a
            state: ``commit``, ``parents`` and ``diff``, or in the place of a long diff ``keys`` (the first ones that it
            changed) and ``truncated``. Of a log line: ``elapsed_s``, and whether it was ``cut``. Of a run that was
            interrupted: ``resumes``, where it goes on after the platform's next start.
        scope: The node run's.
        trace: The span that it is part of, where its run is of a trace: the attempt's, or the run's.
    """

    seq: int
    ts: datetime
    kind: str
    type: str
    node: str | None
    iteration: int | None
    attempt: int | None
    status: str
    message: str
    data: Mapping[str, Json]
    scope: str = ""
    trace: SpanRef | None = None
    #: What readers make of it, for those that come after them.
    memo: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def is_end(self) -> bool:
        """Whether it is the one of its run's end."""
        is_run = self.kind == "event" and self.type == "run"
        return is_run and RunStatus(self.status).is_final and not self.data.get("resumes")

    @property
    def is_truncation(self) -> bool:
        """Whether it says that an attempt's output ended at its limit, and is not all that it printed."""
        is_attempt = self.kind == "event" and self.type == "attempt"
        return is_attempt and self.status == AttemptStatus.OUTPUT_LIMIT.value


@dataclass(frozen=True, slots=True)
class TailPage:
    """Records of a run, and where it stands.

    Attributes:
        records: In order of their numbers.
        last_seq: The run's last number.
        is_final: Whether it has ended.
        kept_from: No line with a lower number is kept.
        removed: How many there were.
    """

    records: tuple[JournalRecord, ...]
    last_seq: int
    is_final: bool
    kept_from: int
    removed: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Part of a run's log, in order of the numbers.

    Attributes:
        records: Lines, events where they were asked for, and where lines are missing a record that says so.
        next: What follows has higher numbers.
        previous: What comes before has lower numbers than this; None where that is nothing.
        more: Whether it ended before all was looked at that was asked for.
        is_final: Whether the run has ended, and nothing follows.
    """

    records: tuple[JournalRecord, ...]
    next: int
    previous: int | None
    more: bool
    is_final: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; ``next_cursor`` asks for what follows, None at the end."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which part of a run's log is wanted.

    Attributes:
        wanted: Which records.
        after: Those with higher numbers.
        before: Those with lower numbers.
        since: Those stored then or later.
        limit: At most so many.
        newest: Whether the last ones of that part are wanted rather than the first.
    """

    wanted: LogFilter = field(default_factory=LogFilter)
    after: int = 0
    before: int | None = None
    since: datetime | None = None
    limit: int = 200
    newest: bool = False


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer, and the fingerprint of the request that it is one to."""

    fingerprint: str
    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant.

    Attributes:
        tenant: Its name.
        quotas: Those that it has of its own.
        version: How often they were changed; 0 where they never were.
        created_at: When they were first.
        updated_at: When they were last.
    """

    tenant: str
    quotas: Mapping[str, float]
    version: int
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Writer:
    """Who set a key.

    Attributes:
        commit: Number of the checkpoint; 0 is the initial state.
        key: The node run; None where it came with the initial state.
        attempt: The attempt, where one did.
    """

    commit: int
    key: NodeRunKey | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """A state, and where it stands in the run's history.

    Attributes:
        data: The state.
        commit: Number of the checkpoint, or of the last commit so far.
        conflicts: Keys that branches in flight have both set; ``data`` has the latest commit's value.
        writers: Who set each key last.
    """

    data: Mapping[str, Json]
    commit: int
    conflicts: tuple[str, ...] = ()
    writers: Mapping[str, Writer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    Attributes:
        run: The run.
        node_runs: A page of its node runs, in order of their start.
        has_more: Whether others follow.
        in_progress: Those that have begun and not ended.
    """

    run: RunSummary
    node_runs: Sequence[NodeRunRecord]
    has_more: bool
    in_progress: Sequence[NodeRunRecord]
