"""A closer look at the engine, and at a sandbox that is really started: what it could do, not what was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sandgraph.model.limits import Limits
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.kinds import is_gvisor
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL
from sandgraph.sandbox.spec import Broken, LogLine, Owner
from sandgraph.settings import Settings
from sandgraph_runner.protocol import Job, Source

_MIB = 2**20
_NOBODY = 65534
_FILTERED = "2"
_PROBE_S = 20.0

#: What the sandbox is asked; it has nothing but what every submission has.
_PROBE = """
def probe(state):
    import os

    def read(*paths):
        for path in paths:
            try:
                with open(path) as file:
                    return file.read()
            except OSError:
                continue
        return ""

    status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines() if ":" in line)
    for name in ("CapEff", "NoNewPrivs", "Seccomp"):
        state.set(name, status.get(name, "").strip())
    devices = [line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]]
    state.set("interfaces", sorted(devices))
    state.set("uid", os.getuid())
    try:
        os.mkdir("/probe")
        state.set("writable_root", True)
    except OSError:
        state.set("writable_root", False)
    state.set("memory", read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes").strip())
    state.set("pids", read("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max").strip())
"""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine says of itself.

    Attributes:
        version: Of it.
        system: Its machine's.
        cgroup: Version of the kernel's groups that limit containers.
        storage: Driver of its images.
        security: What confines containers, as ``seccomp`` and ``rootless``.
        runtimes: OCI runtimes that it has.
        keeps_running: Whether containers outlive its own restart.
        at: Its machine's time when it answered; None where it does not say.
        warnings: That it gives.
    """

    version: str
    system: str
    cgroup: str
    storage: str
    security: frozenset[str]
    runtimes: tuple[str, ...]
    keeps_running: bool
    at: datetime | None
    warnings: tuple[str, ...]


async def describe_engine(settings: Settings) -> EngineDescription:
    """Return what the engine says of itself.

    Raises:
        EngineUnavailable: There is none.
        ConfigurationError: It is reached in a way that sandboxes cannot use.
    """
    engine = Engine(settings)
    try:
        info = await engine.info()
    finally:
        await engine.close()
    options = _texts(info.get("SecurityOptions"))
    names = {part.removeprefix("name=") for option in options for part in option.split(",") if part.startswith("name=")}
    runtimes = info.get("Runtimes")
    return EngineDescription(
        version=str(info.get("ServerVersion", "")),
        system=str(info.get("OperatingSystem", "")),
        cgroup=str(info.get("CgroupVersion") or "1"),
        storage=str(info.get("Driver", "")),
        security=frozenset(names),
        runtimes=tuple(sorted(map(str, runtimes))) if isinstance(runtimes, Mapping) else (),
        keeps_running=bool(info.get("LiveRestoreEnabled")),
        at=_time(str(info.get("SystemTime", ""))),
        warnings=tuple(_texts(info.get("Warnings"))),
    )


async def leftovers(settings: Settings) -> Sequence[str]:
    """Return the names of a deployment's containers.

    Raises:
        EngineUnavailable: The engine does not answer.
    """
    engine = Engine(settings)
    try:
        await engine.connect()
        return [each.name for each in await engine.labelled(DEPLOYMENT_LABEL, settings.deployment)]
    finally:
        await engine.close()


async def probe_sandbox(settings: Settings) -> Sequence[str]:
    """Start a sandbox with the profile that all have, and return what of its confinement does not hold.

    Raises:
        EngineUnavailable: None can be started.
        ConfigurationError: The engine is reached in a way that sandboxes cannot use.
    """
    # A name of its own: a platform beside it keeps its containers.
    own = settings.model_copy(
        update={"deployment": f"doctor-{secrets.token_hex(4)}", "pool_min": 0, "pool_max": 0, "runtimes": ""}
    )
    limits = Limits()
    pool = SandboxPool(own)
    try:
        await pool.start()
        runtime = str(pool.facts().get("runtime", ""))
        async with pool.lease(limits, Owner("doctor", "probe", 1, 1)) as sandbox:
            job = Job(function=Source("probe", _PROBE))
            outcome = await sandbox.execute(job, b"{}", timeout_s=_PROBE_S, on_log=_drop)
    finally:
        await pool.close()
    if isinstance(outcome, Broken):
        return [f"the probe ended as {outcome.status}: {outcome.failure.message}"]
    return weaknesses(outcome.diff.apply({}), limits, is_gvisor=is_gvisor(runtime))


def weaknesses(found: Mapping[str, object], limits: Limits, *, is_gvisor: bool) -> list[str]:
    """Return what of a sandbox's confinement does not hold, by what a probe in it found."""
    wrong = []
    if set(_texts(found.get("interfaces"))) - {"lo"}:
        wrong.append(f"it has a network: {', '.join(_texts(found['interfaces']))}")
    if found.get("uid") != _NOBODY:
        wrong.append(f"it runs as the user {found.get('uid')}")
    if int(str(found.get("CapEff") or "0"), 16):
        wrong.append(f"it has capabilities: {found['CapEff']}")
    if found.get("writable_root"):
        wrong.append("its root can be written")
    # gVisor has a kernel of its own, which says less of itself.
    if not is_gvisor:
        if found.get("NoNewPrivs") != "1":
            wrong.append("it could gain privileges")
        if found.get("Seccomp") != _FILTERED:
            wrong.append("no seccomp profile is in force")
        wrong += _limits(found, limits)
    return wrong


def _limits(found: Mapping[str, object], limits: Limits) -> list[str]:
    wrong = []
    for name, unit in (("memory", "bytes"), ("pids", "processes")):
        text = str(found.get(name, ""))
        most = limits.memory_mb * _MIB if name == "memory" else limits.pids
        # The supervisor has some beside; an engine whose groups cannot be seen from inside says nothing.
        if text and (not text.isdecimal() or int(text) > 2 * most + 64 * (_MIB if name == "memory" else 1)):
            wrong.append(f"its limit of {name} is {text} {unit}, and not {most}")
    return wrong


async def _drop(_lines: Sequence[LogLine]) -> None:
    """Forget what the probe prints: nothing."""


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _time(text: str) -> datetime | None:
    # With nanoseconds, which Python does not read.
    whole, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789")
    try:
        return datetime.fromisoformat(f"{whole}{zone}") if text else None
    except ValueError:
        return None
