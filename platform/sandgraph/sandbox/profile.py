"""What every sandbox is confined by: the whole profile, in the Engine API's own words, to be reviewed in one place.

`docker inspect` of a sandbox shows these fields with these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sandgraph.errors import ConfigurationError
from sandgraph.model.limits import Limits
from sandgraph.sandbox.kinds import is_gvisor
from sandgraph_runner import protocol

#: Fields of the engine's info that must not be false: it could not enforce the limits, and would only warn.
REQUIRED_OF_ENGINE = ("MemoryLimit", "PidsLimit", "CpuCfsQuota")

#: Nobody: the image's own user too, but the image is not asked.
_USER = "65534:65534"
_MIB = 1024 * 1024
#: A quarter of what a container has by default.
_CPU_SHARES = 256
_PAGES_PER_MIB = 256
#: What gVisor itself takes: measured with a Python that sleeps, 10 MiB and 37 threads.
_GVISOR_BYTES = 32 * _MIB
_GVISOR_PIDS = 64


@dataclass(frozen=True, slots=True)
class Image:
    """What the sandboxes of a pool have in common.

    Attributes:
        image_id: The runner image's digest, not its tag.
        runtime: The OCI runtime.
        seccomp: The seccomp profile's JSON text; None leaves the engine's default, which also is a deny-list.
    """

    image_id: str
    runtime: str
    seccomp: str | None


def container_config(image: Image, limits: Limits, labels: Mapping[str, str]) -> dict[str, object]:
    """Return the body of the engine's ``POST /containers/create`` for one sandbox."""
    tmp_bytes = limits.tmp_mb * _MIB
    return {
        "Image": image.image_id,
        "User": _USER,
        # The same for all: it is the submission's to read.
        "Hostname": "sandbox",
        # Nothing of ours and, unlike with the CLI, nothing of the engine's client configuration (proxies) either.
        "Env": [],
        "Labels": dict(labels),
        "Healthcheck": {"Test": ["NONE"]},
        # The frames' way in and out. Once its owner is gone, stdin ends and the supervisor with it.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "Runtime": image.runtime,
            # Its own namespaces, with nothing in them: one interface (lo), one process tree, no System V IPC of others.
            "NetworkMode": "none",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            # Files: the root is the image's and read-only. Two tmpfs take what is written; their inodes are limited
            # too, or empty files would fill the kernel's memory. No exec: Python sources run from /tmp all the same,
            # and native code that a submission brings along does not. A small /dev/shm stays, for the semaphores of
            # multiprocessing.
            "ReadonlyRootfs": True,
            "Tmpfs": {
                "/tmp": _tmpfs(tmp_bytes, limits.tmp_mb * _PAGES_PER_MIB),  # noqa: S108 - a mount, not a file
                "/dev/shm": _tmpfs(_MIB, 64),  # noqa: S108 - likewise
            },
            # Privileges: none, and no way to gain any.
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", *([f"seccomp={image.seccomp}"] if image.seccomp else [])],
            "Privileged": False,
            # What it may use. The victim of a machine short of memory is a sandbox, not the control plane.
            **resource_limits(limits, image.runtime),
            # Where all processors are busy, the control plane, the engine and other containers come first.
            "CpuShares": _CPU_SHARES,
            "OomScoreAdj": 500,
            "OomKillDisable": False,
            # Hard limits equal soft ones. Not nproc: it would count every sandbox's processes together, being one user.
            "Ulimits": [
                {"Name": name, "Soft": value, "Hard": value}
                for name, value in {"nofile": 1024, "core": 0, "fsize": tmp_bytes, "msgqueue": 0}.items()
            ],
            # What it prints goes to the control plane alone, never to the engine's disk.
            "LogConfig": {"Type": "none"},
            # The supervisor is PID 1 itself. Never started twice; kept after its death, which is to be looked into.
            "Init": False,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
        },
    }


def resource_limits(limits: Limits, runtime: str) -> dict[str, object]:
    """Return those of the limits that can be changed while a sandbox runs: all but the size of ``/tmp``.

    Under gVisor its kernel is a process with many threads among those that are counted, and gets room of its own.
    """
    memory, pids = limits.memory_mb * _MIB, limits.pids
    if is_gvisor(runtime):
        memory, pids = memory + _GVISOR_BYTES, pids + _GVISOR_PIDS
    return {
        "Memory": memory,
        # Memory and swap together, so no swap at all.
        "MemorySwap": memory,
        "NanoCpus": round(limits.cpus * 1_000_000_000),
        "PidsLimit": pids,
    }


def load_seccomp() -> str:
    """Return our seccomp profile's text: from the installed package, or from the source tree beside the runner.

    Raises:
        ConfigurationError: It is in neither; the engine's own profile is no substitute.
    """
    installed = resources.files("sandgraph.sandbox") / "seccomp.json"
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    source = Path(protocol.__file__).parent.parent / "seccomp.json"
    if not source.is_file():
        raise ConfigurationError(f"The seccomp profile {source} is missing; install Sandgraph again.")
    return source.read_text(encoding="utf-8")


def _tmpfs(size: int, inodes: int) -> str:
    return f"rw,noexec,nosuid,nodev,mode=1777,size={size},nr_inodes={inodes}"
