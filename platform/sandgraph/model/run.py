"""Runs, node runs and attempts: their statuses, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RunStatus(StrEnum):
    """Status of one execution of a graph version."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """Whether the run ended for good; an interrupted one may be resumed, which the status alone does not say."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.INTERRUPTED}


class NodeRunStatus(StrEnum):
    """Status of one node in one iteration."""

    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class AttemptStatus(StrEnum):
    """How one attempt ended, from the engine's facts and the supervisor's; ``running`` until then."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ERROR = "error"
    TIMEOUT = "timeout"
    OOM = "oom"
    KILLED = "killed"
    NO_RESULT = "no_result"
    RESULT_INVALID = "result_invalid"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class NodeRunKey:
    """Names one NodeRun inside its run.

    Attributes:
        node: The node's name.
        iteration: From 1; a loop node's or a cycle's every pass is its own NodeRun, and so is a map's every item.
        scope: Path of the node run it is part of, as `path` writes it: a subgraph's, or for an item the map's own;
            empty for the nodes of the run's own graph.
    """

    node: str
    iteration: int = 1
    scope: str = ""

    @property
    def path(self) -> str:
        """The scope of what is inside this node run: unlike ``str()``, it tells any two node runs apart."""
        name = self.node.replace("~", "~0").replace("/", "~1").replace("#", "~2")
        own = f"{name}#{self.iteration}"
        return f"{self.scope}/{own}" if self.scope else own

    def __str__(self) -> str:
        """Render as ``node`` or ``node#3``, after its scope: ``review#1/check``."""
        own = self.node if self.iteration == 1 else f"{self.node}#{self.iteration}"
        return f"{self.scope}/{own}" if self.scope else own


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, a node or a run failed.

    Attributes:
        code: Stable identifier: an attempt's status, or what the scheduler found (``max_steps_exceeded`` …).
        message: For a person.
        type: The exception's class name, where submitted code raised.
        traceback: The submitted code's own frames, cut to a bounded size.
        node: The node that failed, where one did.
        condition: The condition that raised, where one did.
    """

    code: str
    message: str
    type: str | None = None
    traceback: str | None = None
    node: str | None = None
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt used, as far as it was measured.

    Attributes:
        wall_s: Seconds from dispatch into the sandbox to the outcome, by the host's clock.
        cpu_s: CPU seconds, user and system, of all processes in the sandbox's cgroup, the supervisor among them.
        peak_memory_bytes: Most memory of that cgroup, ``/tmp`` and the supervisor among it.
        pids_peak: Most processes and threads of that cgroup at one time, the supervisor among them.
        output_bytes: Bytes the submission printed.
        oom_kills: Processes the kernel killed for memory; not all of them end the attempt.
        exit_code: The child's exit code, where it exited.
        signal: The signal that ended the child, where one did.
        queue_s: Seconds the attempt waited for a worker's slot.
        start_s: Seconds from then until its sandbox was there, with its limits.
    """

    wall_s: float = 0.0
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    pids_peak: int | None = None
    output_bytes: int = 0
    oom_kills: int = 0
    exit_code: int | None = None
    signal: int | None = None
    queue_s: float = 0.0
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that submitted code printed.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        elapsed_s: Seconds since the attempt began, by the supervisor's clock.
        text: Without its newline; invalid UTF-8 replaced, NUL replaced.
        is_cut: Whether the line was longer than the limit, or the output's limit fell into it.
    """

    stream: str
    elapsed_s: float
    text: str
    is_cut: bool = False
