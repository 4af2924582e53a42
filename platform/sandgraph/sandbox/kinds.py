"""What a container cannot change once it runs, and so what the pool keeps apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sandgraph.model.limits import Limits

#: How the names of runtimes begin under which PID 1 can be killed from inside, and limits cannot change once it runs.
_GVISOR = ("runsc", "gvisor")


@dataclass(frozen=True, slots=True)
class Kind:
    """Containers of one kind can stand in for each other.

    Attributes:
        image_id: The runner image's digest.
        runtime: The OCI runtime.
        limits: Those that it is started with; most others can be given to it later.
    """

    image_id: str
    runtime: str
    limits: Limits


def is_gvisor(runtime: str) -> bool:
    """Tell whether a runtime is gVisor's, by its name."""
    return runtime.startswith(_GVISOR)


def container_limits(limits: Limits, cpus: int) -> Limits:
    """Return what of an attempt's limits is its container's: not its time, not its output, and no CPU there is not."""
    usual = Limits()
    return replace(limits, cpus=min(limits.cpus, cpus), timeout_s=usual.timeout_s, output_kb=usual.output_kb)


def kind_for(image_id: str, runtime: str, limits: Limits, usual: Limits) -> Kind:
    """Return the kind that serves an attempt.

    Args:
        image_id: The runner image's digest.
        runtime: The OCI runtime.
        limits: What the container shall have at the lease.
        usual: What those that wait have, except for the size of ``/tmp``, which is fixed when a container is created.
    """
    return Kind(image_id, runtime, limits if is_gvisor(runtime) else replace(usual, tmp_mb=limits.tmp_mb))
