"""One attempt, from its assignment to its outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from sandgraph.errors import SandgraphError
from sandgraph.execution.transport import Assignment, OnLines
from sandgraph.model.run import AttemptStatus, Failure, LogLine, Usage
from sandgraph.model.state import State
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Sandboxes, Succeeded
from sandgraph_runner.protocol import Job

logger = logging.getLogger(__name__)

#: Characters of all the code that an attempt gets; in JSON a character has six bytes at most, and a frame takes 32 MiB.
_MAX_CODE_CHARACTERS = 5 * 1024 * 1024


class Worker:
    """Runs attempts in sandboxes; a `Transport` for dispatchers in the same process.

    Args:
        sandboxes: Where sandboxes come from; started and closed by the caller.
        slots: Attempts that run at the same time; the others wait for their turn.
    """

    def __init__(self, sandboxes: Sandboxes, slots: int) -> None:
        self._sandboxes = sandboxes
        self._slots = asyncio.Semaphore(slots)

    async def perform(self, assignment: Assignment, on_lines: OnLines) -> Outcome:
        """See `Transport.perform`."""
        queued = time.monotonic()
        async with self._slots:
            try:
                return await self._perform(assignment, on_lines, queued)
            except SandgraphError as error:
                return _lost(error.message, queued)
            except Exception:
                # A defect of ours must cost this attempt, never the run's task and with it the run.
                logger.exception("attempt failed inside the worker", extra={"action": "attempt_crashed"})
                return _lost("The platform failed to run this attempt; its log has the details.", queued)

    async def _perform(self, assignment: Assignment, on_lines: OnLines, queued: float) -> Outcome:
        state = encode_state(assignment.state)
        if len(state) > assignment.max_state_bytes:
            return _too_large("The state it was to start with", len(state), assignment)

        size = _code_size(assignment.job)
        if size > _MAX_CODE_CHARACTERS:
            message = (
                f"Its function, conditions and tools have {size} characters; an attempt takes {_MAX_CODE_CHARACTERS}."
            )
            return Broken(AttemptStatus.ERROR, Failure("job_too_large", message), Usage())

        async def on_log(lines: Sequence[LogLine]) -> None:
            await on_lines(assignment, lines)

        key = assignment.key
        owner = Owner(assignment.run_id, key.node, key.iteration, assignment.attempt)
        async with self._sandboxes.lease(assignment.limits, owner) as sandbox:
            waited = time.monotonic() - queued
            outcome = await sandbox.execute(assignment.job, state, timeout_s=assignment.limits.timeout_s, on_log=on_log)
        outcome = replace(outcome, usage=replace(outcome.usage, start_s=waited))
        if isinstance(outcome, Succeeded) and outcome.diff:
            size = len(encode_state(outcome.diff.apply(assignment.state)))
            if size > assignment.max_state_bytes:
                return _too_large("The state it would leave", size, assignment, outcome.usage)
        return outcome


def encode_state(state: State) -> bytes:
    """Return the JSON text of a state, as sandboxes get it and as its size is counted."""
    return json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()


def _code_size(job: Job) -> int:
    conditions = [each for each in (job.before, job.again, *job.after) if each]
    sources = [job.function, *job.tools, *(condition.function for condition in conditions)]
    expressions = sum(len(condition.expression or "") for condition in conditions)
    return expressions + sum(len(source.code) for source in sources if source)


def _lost(message: str, queued: float) -> Broken:
    usage = Usage(wall_s=time.monotonic() - queued)
    return Broken(AttemptStatus.LOST, Failure(AttemptStatus.LOST, message), usage)


def _too_large(what: str, size: int, assignment: Assignment, usage: Usage | None = None) -> Broken:
    limit = assignment.max_state_bytes
    message = f"{what} has {size} bytes as JSON; a state may have {limit}."
    status = AttemptStatus.RESULT_INVALID
    return Broken(status, Failure(status, message), usage or Usage())
