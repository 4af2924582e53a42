"""What a deployment needs, checked before anything of it is started; `sandgraph doctor` shows the same.

All that is wrong is found at once, so that nobody mends one thing to be told of the next.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from sandgraph.api.auth.jwks import is_safe
from sandgraph.errors import ConfigurationError, SandgraphError
from sandgraph.model.limits import Limits
from sandgraph.sandbox.engine import Engine
from sandgraph.settings import Access, Settings, WrongSetting, shown_value, unknown_variables
from sandgraph.store import examine
from sandgraph.store.beside import has_keys

#: Seconds that one check may take: the engine is asked several things.
_PATIENCE_S = 30.0

#: Less free disk than this is said; with less than the other nothing can be stored.
_LITTLE_BYTES, _NO_BYTES = 1024**3, 32 * 1024**2

#: Fewer open files than this are soon used up: each sandbox, and each client, has some.
_FEW_FILES = 1_024


#: What says who is let in.
_OF_ACCESS = ("data_dir", "database_url", "host", "access", "oidc_issuer", "oidc_audience", "oidc_jwks_url")


class Level(StrEnum):
    """What a finding means for the deployment."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: Name of the check.
        level: With ``fail`` the platform cannot start, or not work.
        message: What there is, or what is wrong.
        advice: What to do about it; empty where there is nothing to do.
        setting: The setting that it is about; empty where it is about none.
        value: Of that setting, safe to be shown.
    """

    check: str
    level: Level
    message: str
    advice: str = ""
    setting: str = ""
    value: str = ""

    @property
    def line(self) -> str:
        """The whole of it in one line."""
        about = f"{self.setting} = {self.value}: " if self.setting else ""
        return f"{about}{self.message}{f' {self.advice}' if self.advice else ''}"


Check = Callable[[Settings], Awaitable[Sequence[Finding]]]


async def check(
    settings: Settings,
    wrong: Sequence[WrongSetting] = (),
    *,
    is_live: bool = False,
    only: Collection[str] | None = None,
) -> list[Finding]:
    """Check everything that a deployment needs, and change nothing.

    Args:
        settings: Of the deployment.
        wrong: What is wrong with them already; what depends on those is not checked.
        is_live: Whether a platform runs with these settings: its folder is in use then, and its port taken.
        only: Names of the checks; all without it.
    """
    named = [
        Finding("settings", Level.FAIL, f"{each.message}.", _about(each.name), each.name, each.value) for each in wrong
    ]
    unsure = {each.name for each in wrong}
    checks = [
        (name, work)
        for name, (work, needs) in _checks(is_live=is_live).items()
        if (only is None or name in only) and not unsure.intersection(needs)
    ]
    found = await asyncio.gather(*(_patient(name, work, settings) for name, work in checks))
    return [*named, *(finding for each in found for finding in each)]


async def demand(settings: Settings, wrong: Sequence[WrongSetting] = ()) -> list[Finding]:
    """Return what is worth knowing about a deployment that can be started.

    Raises:
        ConfigurationError: It cannot; a line for each thing that is wrong.
    """
    found = await check(settings, wrong)
    failed = [finding.line for finding in found if finding.level is Level.FAIL]
    if failed:
        raise ConfigurationError.of(failed)
    return found


def _checks(*, is_live: bool) -> dict[str, tuple[Check, Collection[str]]]:
    """Return the checks by name, with the settings that each needs."""
    checks: dict[str, tuple[Check, Collection[str]]] = {
        "settings": (_settings, ()),
        "files": (_files, ()),
        "data_folder": (_data_folder, ("data_dir", "lease_s")),
        "database": (_database, ("data_dir", "database_url")),
        "access": (_access, _OF_ACCESS),
        "engine": (_engine, ("docker_host", "runner_image", "runtime", "runtimes")),
    }
    if not is_live:
        checks["holder"] = (_holder, ("data_dir", "database_url", "lease_s"))
        checks["port"] = (_port, ("host", "port"))
    return checks


async def _patient(name: str, work: Check, settings: Settings) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await work(settings)
    except TimeoutError:
        return [Finding(name, Level.FAIL, f"It did not come to an end in {_PATIENCE_S:g} s.", "Look at the machine.")]
    except OSError as error:
        return [Finding(name, Level.FAIL, f"It could not be checked: {error.strerror}.")]


async def _settings(settings: Settings) -> Sequence[Finding]:
    found = [*_too_large(settings), *_too_low(settings)]
    found += [
        Finding("settings", Level.WARN, f"{name} is set, and there is no such setting.", "Look for a slip in its name.")
        for name in unknown_variables()
    ]
    return found or [Finding("settings", Level.OK, "They fit together.")]


def _too_large(settings: Settings) -> Iterator[Finding]:
    """Find settings that may not be above another one."""
    for name, limit in (("pool_min", "pool_max"),):
        least, most = getattr(settings, name), getattr(settings, limit)
        if least > most:
            yield _of(
                settings, "settings", name, f"It is more than {limit}, which is {most}.", f"Lower it, or raise {limit}."
            )
    for name, limit in (("max_code_kb", "max_body_kb"), ("max_event_kb", "max_body_kb")):
        if getattr(settings, name) > getattr(settings, limit):
            message = f"No request can bring so much: {limit} is {getattr(settings, limit)}."
            yield _of(settings, "settings", name, message, f"Raise {limit}.", Level.WARN)


def _too_low(settings: Settings) -> Iterator[Finding]:
    """Find ceilings that are below what a node has that asks for nothing."""
    usual = Limits()
    for each in fields(Limits):
        name, default = f"ceiling_{each.name}", getattr(usual, each.name)
        if getattr(settings, name) < default:
            message = f"A node has {default:g} unless it says less: graphs that say nothing of it are refused."
            yield _of(settings, "settings", name, message, f"Raise it to {default:g} at least.", Level.WARN)


async def _files(_: Settings) -> Sequence[Finding]:
    allowed, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < _FEW_FILES:
        message = f"The process may have {allowed} files open; sandboxes and clients take some each."
        return [Finding("files", Level.WARN, message, f"Raise it to {_FEW_FILES} at least (ulimit -n).")]
    return [Finding("files", Level.OK, f"The process may have {allowed} files open.")]


async def _data_folder(settings: Settings) -> Sequence[Finding]:
    trouble = await asyncio.to_thread(examine.folder, settings.data_dir)
    if trouble:
        return [
            _of(settings, "data_folder", "data_dir", _sentence(trouble), "Choose another, or give this user access.")
        ]
    free = await asyncio.to_thread(examine.free_bytes, settings.data_dir)
    if free < _LITTLE_BYTES:
        level = Level.FAIL if free < _NO_BYTES else Level.WARN
        message = f"{free // 2**20} MiB are left on its file system."
        return [_of(settings, "data_folder", "data_dir", message, "Make room, or choose another.", level)]
    return [Finding("data_folder", Level.OK, f"It can be written, and {free // 2**30} GiB are left.")]


async def _holder(settings: Settings) -> Sequence[Finding]:
    holder = await asyncio.to_thread(examine.holder, settings.data_dir, settings.lease_s, settings.database_url)
    if holder is None:
        return [Finding("holder", Level.OK, "No other process works on the database.")]
    message = f"It is in use by another Sandgraph process ({holder})."
    return [_of(settings, "holder", _place(settings), message, "Stop that one, or choose another.")]


def _place(settings: Settings) -> str:
    """Return the setting that says where the database is."""
    return "database_url" if settings.database_url else "data_dir"


async def _database(settings: Settings) -> Sequence[Finding]:
    trouble = await asyncio.to_thread(examine.database, settings.data_dir, settings.database_url)
    if trouble:
        return [
            _of(settings, "database", _place(settings), _sentence(trouble), "Choose another, or bring a backup back.")
        ]
    return [Finding("database", Level.OK, "This release can use it.")]


async def _access(settings: Settings) -> Sequence[Finding]:
    if settings.oidc_issuer:
        return _issuer(settings)
    if settings.access is Access.CLOSED:
        return [Finding("access", Level.OK, "Who has a key is let in, and nobody else.")]
    if await has_keys(settings.data_dir, settings.database_url):
        return [Finding("access", Level.OK, "There are keys: who has one is let in, and nobody else.")]
    everybody = "There are no keys yet: everybody who reaches it may do everything."
    if settings.access is Access.OPEN:
        return [_of(settings, "access", "access", everybody, "Make a key (sandgraph keys create).", Level.WARN)]
    if settings.listens_on_loopback:
        return [Finding("access", Level.OK, "It runs open, for this machine alone, until there is a key.")]
    advice = (
        "Make a key (sandgraph keys create), or set oidc_issuer; or say with access=closed that keys come later, "
        "or with access=open that everybody may."
    )
    return [_of(settings, "access", "host", everybody, advice)]


def _issuer(settings: Settings) -> Sequence[Finding]:
    found = []
    if not settings.oidc_audience:
        message = "Without it, tokens for any other service of the issuer would be good here."
        found.append(_of(settings, "access", "oidc_audience", message, "Set it to what the issuer calls this service."))
    for name in ("oidc_issuer", "oidc_jwks_url"):
        url = getattr(settings, name)
        if url and not is_safe(url):
            message = "What comes from there could be anybody's."
            found.append(_of(settings, "access", name, message, "Use https; http is for this machine alone."))
    return found or [Finding("access", Level.OK, f"Who has a key, or a token of {settings.oidc_issuer}, is let in.")]


async def _engine(settings: Settings) -> Sequence[Finding]:
    engine = Engine(settings)
    try:
        lacks = await engine.lacks()
    except SandgraphError as trouble:
        lacks = {"docker_host": trouble.message}
    finally:
        await engine.close()
    if not lacks:
        return [Finding("engine", Level.OK, "It answers, and has the runner image and the runtimes.")]
    return [_of(settings, "engine", name, message) for name, message in lacks.items()]


async def _port(settings: Settings) -> Sequence[Finding]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(1)
        except OSError as error:
            name = "port" if settings.port else "host"
            message = f"{settings.host}:{settings.port} cannot be bound ({error.strerror})."
            return [_of(settings, "port", name, message, "Choose another --host or --port, or stop who has it.")]
    return [Finding("port", Level.OK, f"{settings.host}:{settings.port} is free.")]


def _of(
    settings: Settings, check: str, name: str, message: str, advice: str = "", level: Level = Level.FAIL
) -> Finding:
    return Finding(check, level, message, advice, name, shown_value(name, getattr(settings, name)))


def _about(name: str) -> str:
    field = Settings.model_fields.get(name)
    if field is None:
        return "There is no such setting."
    return f"It is: {field.description} Its default is {field.default!r}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
