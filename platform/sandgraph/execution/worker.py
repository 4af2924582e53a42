"""One attempt, from its assignment to its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from sandgraph.errors import SandgraphError
from sandgraph.execution.fairness import FairSlots
from sandgraph.execution.transport import Assignment, OnLines, OnStopped
from sandgraph.model.json_text import encoder
from sandgraph.model.run import AttemptStatus, Failure, LogLine, Usage
from sandgraph.model.state import State, has_more_values
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Sandbox, Sandboxes, Succeeded
from sandgraph_runner.protocol import Job, Source

logger = logging.getLogger(__name__)

#: Characters of all the code that an attempt gets; in JSON a character has six bytes at most, and a frame takes 32 MiB.
_MAX_CODE_CHARACTERS = 5 * 1024 * 1024


class Worker:
    """Runs attempts in sandboxes; a `Transport` for dispatchers in the same process.

    Args:
        sandboxes: Where sandboxes come from; started and closed by the caller.
        slots: Attempts that run at the same time; the others wait for their turn, which goes round over tenants.
    """

    def __init__(self, sandboxes: Sandboxes, slots: int) -> None:
        self._sandboxes = sandboxes
        self._slots = FairSlots(slots)
        self._may_begin = asyncio.Event()
        self._may_begin.set()
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        #: Those of the last job, which are most often the next one's too, and their characters.
        self._tools: tuple[tuple[Source, ...], int] = (), 0

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        """See `Transport.perform`."""
        progress = _Progress()
        try:
            async with self._slots.slot(assignment.tenant):
                await self._may_begin.wait()
                progress.has_slot()
                self._begin()
                try:
                    outcome = await self._perform(assignment, on_lines, progress)
                finally:
                    self._end()
        except asyncio.CancelledError:
            await on_stopped(assignment, progress.usage())
            raise
        except SandgraphError as error:
            outcome = _lost(error.message, progress.used())
        except Exception:
            # A defect of ours must cost this attempt, never the run's task and with it the run.
            logger.exception("attempt failed inside the worker", extra={"action": "attempt_crashed"})
            outcome = _lost("The platform failed to run this attempt; its log has the details.", progress.used())
        return replace(outcome, usage=progress.usage(outcome.usage))

    async def drain(self) -> None:
        """Begin no more attempts, and return once those under way have ended; further ones wait to be cancelled."""
        self._may_begin.clear()
        await self._is_idle.wait()

    def _begin(self) -> None:
        self._under_way += 1
        self._is_idle.clear()

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._is_idle.set()

    async def end_run(self, run_id: str) -> None:
        """See `Transport.end_run`."""
        await self._sandboxes.end_run(run_id)

    async def _perform(self, assignment: Assignment, on_lines: OnLines, progress: _Progress) -> Outcome:
        what = "The state it was to start with"
        if failure := _too_many_values(what, assignment.state, assignment):
            return Broken(AttemptStatus.RESULT_INVALID, failure, Usage())
        state = encode_state(assignment.state)
        if failure := _too_large(what, len(state), assignment):
            return Broken(AttemptStatus.RESULT_INVALID, failure, Usage())
        size = self._code_size(assignment.job)
        if size > _MAX_CODE_CHARACTERS:
            message = (
                f"Its function, conditions and tools have {size} characters; an attempt takes {_MAX_CODE_CHARACTERS}."
            )
            return Broken(AttemptStatus.ERROR, Failure("job_too_large", message), Usage())

        async def on_log(lines: Sequence[LogLine]) -> None:
            await on_lines(assignment, lines)

        key, limits = assignment.key, assignment.limits
        owner = Owner(assignment.run_id, key.node, key.iteration, assignment.attempt, assignment.tenant)
        async with self._sandboxes.lease(
            limits, owner, runtime=assignment.runtime, isolation=assignment.isolation
        ) as sandbox:
            progress.has_sandbox(sandbox)
            execution = sandbox.execute(assignment.job, state, timeout_s=limits.timeout_s, on_log=on_log)
            # It may be large: once it is sent, nobody needs it.
            del state
            outcome = await execution
        if isinstance(outcome, Succeeded) and outcome.diff:
            what, left = "The state it would leave", outcome.diff.apply(assignment.state)
            # Counted first: to encode millions of values would hold everything else up.
            failure = _too_many_values(what, left, assignment) or _too_large(what, _encoded_size(left), assignment)
            if failure is not None:
                return Broken(AttemptStatus.RESULT_INVALID, failure, outcome.usage)
        if isinstance(outcome, Succeeded) and assignment.job.item_key is not None:
            # Its map's results together are bounded as it comes back; none alone may be more than a state.
            what, result = "The item's result", {"": outcome.value}
            failure = _too_many_values(what, result, assignment) or _too_large(what, _encoded_size(result), assignment)
            if failure is not None:
                return Broken(AttemptStatus.RESULT_INVALID, failure, outcome.usage)
        return outcome

    def _code_size(self, job: Job) -> int:
        if job.tools is not self._tools[0]:
            self._tools = job.tools, sum(len(tool.code) for tool in job.tools)
        conditions = [each for each in (job.before, job.again, *job.after) if each]
        sources = [job.function, *(condition.function for condition in conditions)]
        expressions = sum(len(condition.expression or "") for condition in conditions)
        return self._tools[1] + expressions + sum(len(source.code) for source in sources if source)


class _Progress:
    """How far an attempt has come, and what it used until now, whatever may end it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._slot_at: float | None = None
        self._sandbox_at: float | None = None
        self._sandbox: Sandbox | None = None

    def has_slot(self) -> None:
        self._slot_at = time.monotonic()

    def has_sandbox(self, sandbox: Sandbox) -> None:
        self._sandbox_at = time.monotonic()
        self._sandbox = sandbox

    def used(self) -> Usage:
        """Return what the sandbox knows; nothing before there is one."""
        return self._sandbox.usage() if self._sandbox else Usage()

    def usage(self, used: Usage | None = None) -> Usage:
        """Return what was used, by the sandbox's account or what it knows now, with the times of waiting."""
        now = time.monotonic()
        slot_at = now if self._slot_at is None else self._slot_at
        sandbox_at = now if self._sandbox_at is None else self._sandbox_at
        return replace(used or self.used(), queue_s=slot_at - self._began, start_s=sandbox_at - slot_at)


_encode = encoder(ensure_ascii=False, allow_nan=True)


def encode_state(state: State) -> bytes:
    """Return the JSON text of a state, as sandboxes get it and as its size is counted."""
    return _encode(state).encode()


def _lost(message: str, usage: Usage) -> Broken:
    return Broken(AttemptStatus.LOST, Failure(AttemptStatus.LOST, message), usage)


def _too_many_values(what: str, state: State, assignment: Assignment) -> Failure | None:
    if not has_more_values(state, assignment.max_state_values):
        return None
    message = f"{what} has more than the {assignment.max_state_values} values that a state may have."
    return Failure(AttemptStatus.RESULT_INVALID, message)


def _too_large(what: str, size: int, assignment: Assignment) -> Failure | None:
    if size <= assignment.max_state_bytes:
        return None
    message = f"{what} has {size} bytes as JSON; a state may have {assignment.max_state_bytes}."
    return Failure(AttemptStatus.RESULT_INVALID, message)


def _encoded_size(state: State) -> int:
    """Return how many bytes `encode_state` would give, key by key: the whole text is never there."""
    sizes = (len(encode_state({key: value})) - 1 for key, value in state.items())
    return sum(sizes) + 1 if state else 2
