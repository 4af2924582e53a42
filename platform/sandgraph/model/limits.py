"""What one attempt may use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from sandgraph.errors import Problem


class Isolation(StrEnum):
    """What shares a sandbox."""

    NODE = "node"  # nothing: each attempt has its own
    RUN = "run"  # the attempts of one run, one after another, wiped in between


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of one attempt's sandbox.

    Attributes:
        cpus: CPU cores' worth of time, may be a fraction.
        memory_mb: Memory and swap together, in MiB; ``/tmp`` counts towards it.
        timeout_s: Wall time of the attempt in seconds, measured by the host.
        pids: Processes and threads, the supervisor among them.
        tmp_mb: Size of ``/tmp`` in MiB.
        output_kb: Bytes on stdout and stderr together, in KiB; in lines, one for each 16 bytes of them.
    """

    cpus: float = 1.0
    memory_mb: int = 256
    timeout_s: float = 30.0
    pids: int = 64
    tmp_mb: int = 16
    output_kb: int = 1024

    def above(self, ceiling: Limits, path: str) -> list[Problem]:
        """Return a problem for each limit that is above the deployment's ceiling."""
        return [
            Problem(
                f"{path}.{field.name}",
                "limit_above_ceiling",
                f"{getattr(self, field.name)} is above this deployment's ceiling of {getattr(ceiling, field.name)}.",
            )
            for field in fields(self)
            if not getattr(self, field.name) <= getattr(ceiling, field.name)
        ]

    def below(self, floor: Limits, path: str) -> list[Problem]:
        """Return a problem for each limit that is below what a sandbox needs."""
        return [
            Problem(
                f"{path}.{field.name}",
                "limit_below_floor",
                f"{getattr(self, field.name)} is below the least a sandbox needs, {getattr(floor, field.name)}.",
            )
            for field in fields(self)
            if getattr(self, field.name) < getattr(floor, field.name)
        ]


#: The smallest values a limit may take: below them not even the supervisor starts.
FLOOR = Limits(cpus=0.05, memory_mb=32, timeout_s=0.1, pids=8, tmp_mb=1, output_kb=1)
