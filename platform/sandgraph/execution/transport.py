"""The seam between the dispatcher, which decides, and the worker, which has the Docker engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandgraph.model.access import DEFAULT_TENANT
from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import LogLine, NodeRunKey, Usage
from sandgraph.model.state import State
from sandgraph.sandbox.spec import Outcome
from sandgraph.telemetry.trace import SpanRef
from sandgraph_runner.protocol import Job


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a worker needs for one attempt.

    Attributes:
        run_id: The run.
        key: The node run.
        attempt: From 1.
        job: What the sandbox does.
        state: What it sees.
        limits: What it may use.
        max_state_bytes: Largest state, as JSON, before and after.
        max_state_values: Most values of a state, before and after.
        isolation: What its sandbox is shared by.
        runtime: The sandbox's OCI runtime; None for the deployment's.
        tenant: Whose the run is.
        trace: Its span; None where its run is of no trace.
    """

    run_id: str
    key: NodeRunKey
    attempt: int
    job: Job
    state: State
    limits: Limits
    max_state_bytes: int
    max_state_values: int
    isolation: Isolation = Isolation.NODE
    runtime: str | None = None
    tenant: str = DEFAULT_TENANT
    trace: SpanRef | None = None


#: Receives an attempt's printed lines, in order; returns once they are stored.
OnLines = Callable[[Assignment, Sequence[LogLine]], Awaitable[None]]

#: Is told what an attempt used that was stopped, once its sandbox is gone.
OnStopped = Callable[[Assignment, Usage], Awaitable[None]]


class Transport(Protocol):
    """Carries assignments to a worker and its outcomes back; in one process, the worker itself."""

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        """Run an attempt and return how it ended; every failure is an outcome, none is raised.

        Cancelling the task kills the attempt's sandbox and calls ``on_stopped`` before the cancellation goes on.
        """

    async def end_run(self, run_id: str) -> None:
        """Let go of what is kept for a run: it has ended, and no attempt of it comes any more."""
