"""What `sandgraph doctor` looks at beyond what a start needs: how well a deployment is set up, and what to mend."""

from __future__ import annotations

import asyncio
import platform
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx2

from sandgraph import checks
from sandgraph.checks import Finding, Level
from sandgraph.errors import SandgraphError
from sandgraph.sandbox import diagnosis as engines
from sandgraph.settings import Settings, WrongSetting
from sandgraph.store import diagnosis, examine

#: Seconds for a look through the database, and for one check.
_LOOK_S, _PATIENCE_S = 20.0, 60.0

#: Seconds by which two clocks may differ.
_SKEW_S = 5.0

_SOON = timedelta(days=14)

#: A write-ahead log of more is not cut back, as it should be.
_LONG_LOG_BYTES = 256 * 2**20

#: Part of a server's connections from which on there are few left.
_MOST_CONNECTIONS = 0.8

#: Storage drivers that copy whole images, or are no more looked after.
_POOR_STORAGE = {"vfs", "devicemapper", "aufs"}

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

_OK, _WARN, _FAIL = Level.OK, Level.WARN, Level.FAIL

Look = Callable[[Settings], Awaitable[Sequence[Finding]]]


async def examine_deployment(
    settings: Settings, wrong: Sequence[WrongSetting] = (), *, is_quick: bool = False
) -> list[Finding]:
    """Look at everything, and change nothing; a sandbox is started and removed.

    Args:
        settings: Of the deployment.
        wrong: What is wrong with them; what depends on those is not looked at.
        is_quick: Leave out what takes seconds: the sandbox, and the look through the database.
    """
    holder = await asyncio.to_thread(examine.holder, settings.data_dir, settings.lease_s, settings.database_url)
    is_live = holder is not None
    unsure = {each.name for each in wrong}
    looks = {
        name: look
        for name, (look, needs, takes_long) in _LOOKS.items()
        if not unsure.intersection(needs) and not (is_quick and takes_long)
    }
    if is_live:
        looks["platform"] = _platform
    else:
        looks["leftovers"] = _leftovers
    basic, *more = await asyncio.gather(
        checks.check(settings, wrong, is_live=is_live),
        *(_patient(name, look, settings) for name, look in looks.items()),
    )
    # Where the engine is not there, one line says so.
    has_engine = not any(each.check == "engine" and each.level is _FAIL for each in basic)
    found = [finding for each in more for finding in each]
    return [*basic, *(each for each in found if has_engine or each.check not in _OF_ENGINE)]


async def _patient(name: str, look: Look, settings: Settings) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await look(settings)
    except TimeoutError:
        return [Finding(name, _FAIL, f"It did not come to an end in {_PATIENCE_S:g} s.", "Look at the machine's load.")]
    except SandgraphError as error:
        return [Finding(name, _FAIL, error.message, "See the check of the engine or of the database.")]
    except OSError as error:
        return [Finding(name, _FAIL, f"It could not be looked at: {error.strerror}.", "Run it as the platform's user.")]


async def _python(_: Settings) -> Sequence[Finding]:
    said = f"Python {platform.python_version()} on {platform.system()} {platform.release()}, {ssl.OPENSSL_VERSION}."
    if platform.system() != "Linux":
        return [Finding("python", _WARN, said, "For production, run it on Linux, beside its engine.")]
    return [Finding("python", _OK, said)]


async def _place(settings: Settings) -> Sequence[Finding]:
    if settings.database_url:
        return []
    found = await asyncio.to_thread(diagnosis.place, settings.data_dir)
    out = []
    if found.is_open:
        advice = f"chmod 700 {settings.data_dir}"
        out.append(Finding("data_folder", _WARN, "Other users of the machine can look into the data folder.", advice))
    if found.is_remote:
        advice = "Put it on a local disk, or use PostgreSQL (SANDGRAPH_DATABASE_URL)."
        out.append(Finding("file_system", _FAIL, f"It is {found.kind}: locks of SQLite do not hold there.", advice))
    elif found.is_fleeting:
        advice = "Put the data folder on a volume or a disk."
        out.append(Finding("file_system", _WARN, f"It is {found.kind}: gone with the machine or container.", advice))
    else:
        out.append(Finding("file_system", _OK, f"{found.kind or 'Of an unknown kind'}, on this machine."))
    if trouble := await asyncio.to_thread(diagnosis.log_trouble, settings.data_dir):
        advice = "Put the data folder on a local file system."
        out.append(Finding("file_system", _FAIL, f"SQLite can have no write-ahead log there: {trouble}.", advice))
    return out


async def _contents(settings: Settings) -> Sequence[Finding]:
    if settings.database_url:
        return await _server(settings)
    found = await asyncio.to_thread(diagnosis.contents, settings.data_dir, _LOOK_S)
    if found is None:
        return [Finding("integrity", _OK, "There is no database yet.")]
    if found.damage:
        advice = "Stop the platform and bring a backup back (docs/operations.md)."
        return [Finding("integrity", _FAIL, f"The database is damaged: {found.damage}.", advice)]
    size = f"{found.size // 2**20} MiB, and {found.log_size // 2**20} MiB of write-ahead log"
    if found.log_size > _LONG_LOG_BYTES:
        advice = "Look for a program that reads the database without end, and end it."
        return [Finding("integrity", _WARN, f"It has {size}: the log is not cut back.", advice)]
    looked = "whole" if found.is_all else f"whole as far as it was looked through in {_LOOK_S:g} s"
    return [Finding("integrity", _OK, f"It is {looked}: {size}.")]


async def _server(settings: Settings) -> Sequence[Finding]:
    found = await asyncio.to_thread(diagnosis.server, settings.database_url)
    said = (
        f"PostgreSQL {found.version}, {found.size // 2**20} MiB; {found.connections} of {found.most} connections are "
        "open."
    )
    if found.connections > _MOST_CONNECTIONS * found.most:
        return [Finding("server", _WARN, said, "Raise max_connections, or close what else is connected.")]
    return [Finding("server", _OK, said)]


async def _keys(settings: Settings) -> Sequence[Finding]:
    soon = datetime.now(UTC) + _SOON
    found = await asyncio.to_thread(diagnosis.ending_keys, settings.data_dir, settings.database_url, soon)
    return [
        Finding(
            "keys",
            _WARN,
            f"The key {each.name!r} ({each.key_id}) of {each.tenant} ends on {each.expires_at:%Y-%m-%d}.",
            "Make another (sandgraph keys create), give it to who uses this one, and revoke this one.",
        )
        for each in found
    ] or [Finding("keys", _OK, f"None ends within {_SOON.days} days.")]


async def _engine(settings: Settings) -> Sequence[Finding]:
    before = datetime.now(UTC)
    found = await engines.describe_engine(settings)
    after = datetime.now(UTC)
    said = (
        f"Docker {found.version} on {found.system}: cgroup v{found.cgroup}, {found.storage}, runtimes "
        f"{', '.join(found.runtimes)}."
    )
    out = [Finding("engine_set_up", _OK, said)]
    if "seccomp" not in found.security:
        advice = "Use an engine and a kernel with seccomp: sandboxes are confined by it."
        out.append(Finding("engine_set_up", _FAIL, "It has no seccomp.", advice))
    if found.storage in _POOR_STORAGE:
        advice = "Use overlay2 (storage-driver in daemon.json)."
        out.append(Finding("engine_set_up", _WARN, f"Its storage driver {found.storage} is slow.", advice))
    confined = found.security & {"rootless", "userns"}
    who = f"It is {' and '.join(sorted(confined))}." if confined else "It is root's, and maps no users."
    hint = "" if confined else "Sandboxes are nobody's all the same; rootless, or gVisor, is one wall more."
    out.append(Finding("engine_set_up", _OK, who, hint))
    if not found.keeps_running:
        hint = '"live-restore": true in daemon.json lets attempts outlive an upgrade of the engine.'
        out.append(Finding("engine_set_up", _OK, "Its restart ends what runs.", hint))
    out.append(_clock(found.at, before, after))
    return out


def _clock(at: datetime | None, before: datetime, after: datetime) -> Finding:
    if at is None:
        return Finding("clock", _OK, "The engine does not tell the time.")
    skew = max((before - at).total_seconds(), (at - after).total_seconds(), 0.0)
    if skew > _SKEW_S:
        advice = "Let both machines take their time from one server (NTP)."
        return Finding("clock", _WARN, f"The engine's clock and this one differ by {skew:.0f} s.", advice)
    return Finding("clock", _OK, "The engine's clock and this one agree.")


async def _sandbox(settings: Settings) -> Sequence[Finding]:
    wrong = await engines.probe_sandbox(settings)
    if wrong:
        advice = "Do not run code that you do not trust there; look at the engine's set-up and at docs/sandbox.md."
        return [Finding("sandbox", _FAIL, f"A sandbox was started, and {each}.", advice) for each in wrong]
    return [Finding("sandbox", _OK, "One was started: no network, no rights, its limits in force.")]


async def _leftovers(settings: Settings) -> Sequence[Finding]:
    deployment = settings.deployment or await asyncio.to_thread(_kept_name, settings)
    if not deployment:
        return [Finding("leftovers", _OK, "Nothing was ever started here.")]
    found = await engines.leftovers(settings.model_copy(update={"deployment": deployment}))
    if found:
        label = f"sandgraph.deployment={deployment}"
        advice = f"The next start removes them; or: docker rm -f $(docker ps -aq --filter label={label})"
        return [Finding("leftovers", _WARN, f"{len(found)} containers are left of a platform that ended.", advice)]
    return [Finding("leftovers", _OK, "No container is left.")]


def _kept_name(settings: Settings) -> str:
    file = settings.data_dir / "deployment"
    return file.read_text(encoding="ascii").strip() if file.exists() else ""


async def _proxy(settings: Settings) -> Sequence[Finding]:
    if settings.host in _LOOPBACK:
        return [Finding("network", _OK, "It serves this machine alone.")]
    hint = "It speaks plain HTTP: put a proxy with TLS before it, and let nobody past that (docs/operations.md)."
    return [Finding("network", _OK, f"It serves {settings.host}.", hint)]


async def _traces(settings: Settings) -> Sequence[Finding]:
    if settings.otel_endpoint is None:
        return []
    parts = urlsplit(settings.otel_endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)

    def connect() -> None:
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            pass

    try:
        await asyncio.to_thread(connect)
    except OSError as error:
        said = f"{parts.hostname}:{port} takes no connection ({error.strerror or error})."
        return [Finding("traces", _WARN, said, "Start the collector, or leave SANDGRAPH_OTEL_ENDPOINT out.")]
    return [Finding("traces", _OK, f"{parts.hostname}:{port} takes connections.")]


async def _platform(settings: Settings) -> Sequence[Finding]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/readyz"
    try:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
            answer = await client.get(url)
            body = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        said = f"A process has the data folder, and nobody answers at {url} ({type(error).__name__})."
        return [Finding("platform", _WARN, said, "Give doctor the host and port that it serves, or look at its log.")]
    if answer.status_code == httpx2.codes.OK:
        return [Finding("platform", _OK, f"It runs, and is ready: {url}.")]
    return _unready(body)


def _unready(body: object) -> Sequence[Finding]:
    errors = body.get("errors") if isinstance(body, Mapping) else None
    named = [each for each in errors if isinstance(each, Mapping)] if isinstance(errors, list) else []
    advice = "docs/observability.md says of each check what fails it."
    return [
        Finding("platform", _FAIL, f"It runs, and is not ready: {each.get('path')}: {each.get('message')}", advice)
        for each in named
    ] or [Finding("platform", _FAIL, "It runs, and is not ready.", advice)]


#: By name: the look, the settings that it needs, and whether it takes seconds.
_LOOKS: dict[str, tuple[Look, Sequence[str], bool]] = {
    "python": (_python, (), False),
    "place": (_place, ("data_dir", "database_url"), False),
    "integrity": (_contents, ("data_dir", "database_url"), True),
    "keys": (_keys, ("data_dir", "database_url"), False),
    "engine_set_up": (_engine, ("docker_host",), False),
    "sandbox": (_sandbox, ("docker_host", "runner_image", "runtime", "runtimes"), True),
    "network": (_proxy, ("host",), False),
    "traces": (_traces, ("otel_endpoint",), False),
}

_OF_ENGINE = {"engine_set_up", "clock", "sandbox", "leftovers"}
