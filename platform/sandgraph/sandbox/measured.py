"""What an attempt used, put together from whoever knows: the host's clock, the supervisor's reports, the engine."""

from __future__ import annotations

import time
from typing import TypeVar

from sandgraph.model.run import Usage
from sandgraph.sandbox.observed import ContainerUsage
from sandgraph_runner.protocol import Report, Used

N = TypeVar("N", int, float)


_UNKNOWN = ContainerUsage(None, None, None)


class Measured:
    """Collects one attempt's figures while it runs.

    Args:
        start_s: Seconds its lease waited for the sandbox.
        engine_knows: Whether what the engine counts for the container is this attempt's.
    """

    def __init__(self, *, start_s: float, engine_knows: bool) -> None:
        self._start_s = start_s
        self._engine_knows = engine_knows
        self._began: float | None = None
        self._wall_s: float | None = None
        self._used: Used | None = None
        self._engine = _UNKNOWN
        self._report: Report | None = None
        self.printed = 0

    def wait(self, seconds: float) -> None:
        """Note that the sandbox was not ready for so long."""
        self._start_s += seconds

    def begin(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def end(self, report: Report | None = None) -> None:
        """Stop the clock; once is enough, and the first time counts."""
        if self._wall_s is None and self._began is not None:
            self._wall_s = time.monotonic() - self._began
        if report is not None:
            self._report, self._used = report, report.used

    def note(self, used: Used) -> None:
        """Take what the supervisor said on the way."""
        self._used = used

    def note_engine(self, usage: ContainerUsage | None) -> None:
        """Take what the engine said before it killed."""
        if self._engine_knows and usage is not None:
            self._engine = usage

    def usage(self) -> Usage:
        """Return what is known by now."""
        wall_s = self._wall_s
        if wall_s is None:
            wall_s = 0.0 if self._began is None else time.monotonic() - self._began
        used, engine, report = self._used, self._engine, self._report
        return Usage(
            wall_s=wall_s,
            # Both count the same cgroup, and the engine looked last; the supervisor alone knows peaks everywhere.
            cpu_s=_most(used.cpu_s if used else None, engine.cpu_s),
            peak_memory_bytes=_most(used.peak_memory_bytes if used else None, engine.peak_memory_bytes),
            pids_peak=_most(used.pids_peak if used else None, engine.pids),
            output_bytes=self.printed if report is None else report.output_bytes,
            oom_kills=0 if used is None else used.oom_kills,
            exit_code=None if report is None else report.exit_code,
            signal=None if report is None else report.signal,
            start_s=self._start_s,
        )


def _most(one: N | None, other: N | None) -> N | None:
    return max((each for each in (one, other) if each is not None), default=None)
