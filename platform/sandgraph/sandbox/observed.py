"""What the engine says of itself and of containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine is.

    Attributes:
        version: The engine's version.
        image_id: Digest that names the runner image from now on, whatever becomes of its tag.
        runtime: OCI runtime of the sandboxes.
        cpus: CPUs of the engine's machine.
        runtimes: All OCI runtimes that a lease may name, the deployment's own first.
    """

    version: str
    image_id: str
    runtime: str
    cpus: int
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """The engine's word on one container; ``exit_code`` means something once it does not run."""

    is_running: bool
    was_oom_killed: bool
    exit_code: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A container as the engine lists it."""

    container_id: str
    name: str
    labels: Mapping[str, str]
    is_running: bool = True


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a running container has used so far; None for what the engine does not know.

    Attributes:
        cpu_s: CPU seconds of all its processes, also of those that ended.
        peak_memory_bytes: The most it had at one time; what it has now, where the kernel does not keep the peak.
        pids: Processes and threads at present.
    """

    cpu_s: float | None
    peak_memory_bytes: int | None
    pids: int | None
