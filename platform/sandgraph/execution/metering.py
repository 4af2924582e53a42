"""Attempts on their way to a worker and back: what they use is counted, and what is too much is held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from sandgraph.execution.quotas import TenantQuotas
from sandgraph.execution.replays import REPLAY
from sandgraph.execution.transport import Assignment, OnLines, OnStopped, Transport
from sandgraph.model.run import AttemptStatus, Failure, LogLine, Usage
from sandgraph.sandbox.spec import Broken, Outcome

#: Runs whose output is remembered; of others, it is counted anew.
_REMEMBERED = 10_000

#: What a line takes in the store beside its text.
_LINE_BYTES = 64

_MB = 1024 * 1024


class MeteredTransport:
    """A transport that counts.

    Args:
        inner: Carries the attempts.
        quotas: Of their tenants.
        max_run_output_mb: What one run may print, over all its attempts.
        output_of: Tells how much a run has printed that is stored.
    """

    def __init__(
        self,
        inner: Transport,
        quotas: TenantQuotas,
        max_run_output_mb: int,
        output_of: Callable[[str], Awaitable[int]],
    ) -> None:
        self._inner = inner
        self._quotas = quotas
        self._most = max_run_output_mb * _MB
        self._output_of = output_of
        self._printed: OrderedDict[str, int] = OrderedDict()
        self._told: set[str] = set()

    async def perform(self, assignment: Assignment, on_lines: OnLines, on_stopped: OnStopped) -> Outcome:
        """See `Transport.perform`."""
        tenant = assignment.tenant
        if not self._quotas.may_run(tenant):
            message = "This tenant has used its CPU time of today; resume the run tomorrow (the day begins in UTC)."
            return Broken(AttemptStatus.ERROR, Failure("cpu_quota_exceeded", message), Usage())

        async def keep(asked: Assignment, lines: Sequence[LogLine]) -> None:
            if kept := await self._kept(asked, lines):
                await on_lines(asked, kept)

        async def stopped(asked: Assignment, usage: Usage) -> None:
            self._quotas.used(tenant, usage)
            await on_stopped(asked, usage)

        outcome = await self._inner.perform(assignment, keep, stopped)
        self._quotas.used(tenant, outcome.usage)
        return outcome

    async def end_run(self, run_id: str) -> None:
        """See `Transport.end_run`."""
        self._printed.pop(run_id, None)
        self._told.discard(run_id)
        await self._inner.end_run(run_id)

    async def _kept(self, assignment: Assignment, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        """Return the lines that may be stored still, and a last one where there are no more."""
        run_id, tenant = assignment.run_id, assignment.tenant
        if REPLAY in run_id:
            # Nothing of it is stored.
            return lines
        printed = self._printed.get(run_id)
        if printed is None:
            printed = await self._output_of(run_id)
        kept: list[LogLine] = []
        for line in lines:
            size = len(line.text)
            if printed + size > self._most or self._quotas.has_no_room(tenant):
                if run_id not in self._told:
                    self._told.add(run_id)
                    is_own = printed + size > self._most
                    what = "the run has printed as much as one may" if is_own else "its tenant may store no more"
                    kept.append(LogLine(line.stream, line.elapsed_s, f"truncated: {what}", is_cut=True))
                break
            printed += size
            self._quotas.stored(tenant, size + _LINE_BYTES)
            kept.append(line)
        self._printed[run_id] = printed
        self._printed.move_to_end(run_id)
        while len(self._printed) > _REMEMBERED:
            forgotten, _ = self._printed.popitem(last=False)
            self._told.discard(forgotten)
        return kept
