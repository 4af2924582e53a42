"""What a sandbox is asked for, and what comes back: the seam between `execution` and whatever runs submitted code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, Failure, Usage
from sandgraph.model.run import LogLine as LogLine  # noqa: PLC0414 - part of the seam
from sandgraph.model.state import Json, StateDiff
from sandgraph_runner.protocol import Check, Job

#: Message of a cancellation that ends an attempt because the platform stops, not for a reason of the run's own: what it
#: printed until then is handed over still.
STOPPING = "the platform stops"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a sandbox works for; becomes the container's labels."""

    run_id: str
    node: str
    iteration: int
    attempt: int
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt's outcome, checked in form and size.

    Attributes:
        diff: What it changed in the state.
        entered: False where a loop's first check said no.
        again: Whether the loop goes on; None where it was not asked.
        after: The outgoing edges' conditions, in the job's order; empty where the loop goes on.
        usage: What it used.
        value: What the function returned for the map's item; None where the job was for none.
        reads: Names of the top-level keys that submitted code read or looked for, sorted: its own word, good for
            showing and for nothing else. Empty where it is not known.
        reads_cut: Whether there were more.
    """

    diff: StateDiff
    entered: bool
    again: bool | None
    after: tuple[bool, ...]
    usage: Usage
    value: Json = None
    reads: tuple[str, ...] = ()
    reads_cut: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """The attempt ended without a result."""

    status: AttemptStatus
    failure: Failure
    usage: Usage


Outcome = Succeeded | Broken

OnLog = Callable[[Sequence[LogLine]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CheckProblem:
    """What is wrong with one of the checked sources or expressions; ``index`` counts sources, then expressions."""

    index: int
    code: str
    message: str
    line: int | None
    column: int | None


class Sandbox(Protocol):
    """One leased sandbox: good for a single job."""

    @property
    def sandbox_id(self) -> str:
        """The container's id, or a name of the same kind."""

    async def execute(self, job: Job, state: bytes, *, timeout_s: float, on_log: OnLog) -> Outcome:
        """Run one job over a state (a JSON object's bytes) and say how it ended.

        Never raises for anything submitted code does. Cancelling the task kills the container before the cancellation
        goes on. Log lines are handed over in order, and all of them before this returns.
        """

    def usage(self) -> Usage:
        """Tell what was used so far; also after the end, and after a cancellation."""

    async def check(self, check: Check, *, timeout_s: float) -> Sequence[CheckProblem] | Broken:
        """Check sources and expressions; an empty sequence means that nothing is wrong."""


class Sandboxes(Protocol):
    """Where sandboxes come from: the pool, or the in-process stand-in."""

    async def start(self) -> None:
        """Reap what an earlier process left and begin to fill.

        Raises:
            EngineUnavailable: The engine does not answer, or has no such image or runtime.
        """

    async def close(self) -> None:
        """Remove every sandbox; afterwards no container of this process is left."""

    def lease(
        self, limits: Limits, owner: Owner, *, runtime: str | None = None, isolation: Isolation = Isolation.NODE
    ) -> AbstractAsyncContextManager[Sandbox]:
        """Hand out a started sandbox; at the end of the block it is destroyed.

        Args:
            limits: What it may use.
            owner: Whom it works for.
            runtime: The OCI runtime, one of the deployment's; None for the one it runs by default.
            isolation: With ``run``, a sandbox whose attempt ended in order is wiped and kept for the owner's run.

        Raises (on entering):
            EngineUnavailable: None could be started, after retries.
        """

    async def end_run(self, run_id: str) -> None:
        """Destroy what is kept for a run; it asks for no more sandboxes."""

    async def ping(self) -> None:
        """Do nothing, if sandboxes can be had.

        Raises:
            EngineUnavailable: The engine does not answer, or the image is gone.
        """

    def facts(self) -> Mapping[str, object]:
        """Tell what there is, for health checks: engine, image, sandboxes waiting and leased."""
