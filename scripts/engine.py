"""Finds a Docker engine; on Debian and Ubuntu, as root, installs and starts one where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from scripts import debian
from scripts.console import SetupError, alone, quiet, say, work

TOPIC = "engine"
SYSTEM_SOCKET = Path("/var/run/docker.sock")
SYSTEM_HOST = f"unix://{SYSTEM_SOCKET}"
LOG = Path("/var/log/dockerd.log")
PID_FILES = (
    (Path("/var/run/docker.pid"), "dockerd"),
    (Path("/var/run/docker/containerd/containerd.pid"), "containerd"),
)
CONTAINERD_SOCKETS = (Path("/run/containerd/containerd.sock"), Path("/var/run/docker/containerd/containerd.sock"))
SYSTEMD = Path("/run/systemd/system")
ANSWER_S = 10
START_S = 60


@dataclass(frozen=True)
class Engine:
    """An engine that answered."""

    host: str
    version: str
    configured: bool
    """Whether the docker command reaches it without being told where it is."""

    @property
    def env(self) -> dict[str, str]:
        """What makes the docker command use this engine."""
        return {} if self.configured else {"DOCKER_HOST": self.host}

    @property
    def rootless_socket(self) -> str | None:
        """The socket's path, where containers find it under the same path and not under the usual one.

        An engine in a virtual machine (Docker Desktop, colima) has the usual one inside, whatever the host calls it.
        """
        path = self.host.removeprefix("unix://")
        return path if path.startswith("/run/user/") else None


def find() -> Engine | None:
    """The engine that the environment or the docker command names, else one behind a well-known socket.

    The platform looks in the same places (sandgraph/sandbox/engine.py).
    """
    if shutil.which("docker") is None:
        return None
    own, asked = os.environ.get("SANDGRAPH_DOCKER_HOST"), os.environ.get("DOCKER_HOST")
    if own and own != asked:
        return _named("SANDGRAPH_DOCKER_HOST", own, configured=False)
    if asked:
        return _named("DOCKER_HOST", asked, configured=True)
    configured = quiet(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout_s=ANSWER_S)
    version = _version({})
    if version is not None:
        return Engine(configured or SYSTEM_HOST, version, configured=True)
    for host in (f"unix://{path}" for path in _sockets() if path.is_socket()):
        if host != configured and (version := _version({"DOCKER_HOST": host})) is not None:
            return Engine(host, version, configured=False)
    return None


def _named(setting: str, host: str, *, configured: bool) -> Engine | None:
    version = _version({"DOCKER_HOST": host})
    if version is not None:
        return Engine(host, version, configured=configured)
    if host == SYSTEM_HOST:
        return None
    raise SetupError(f"{setting} is {host}, where no Docker engine answers. Start it, or unset {setting}.")


def _version(env: dict[str, str]) -> str | None:
    return quiet(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=ANSWER_S, env=env) or None


def _sockets() -> list[Path]:
    home = Path.home()
    return [
        SYSTEM_SOCKET,
        home / ".docker" / "run" / "docker.sock",
        Path(f"/run/user/{os.getuid()}/docker.sock"),
        home / ".colima" / "default" / "docker.sock",
    ]


def ensure() -> Engine:
    """Find an engine, or make one, or say what to do."""
    engine = find()
    if engine is None:
        if not debian.may_install():
            raise SetupError(advice())
        LOG.touch()
        with alone(LOG):
            engine = find() or _make()
    elif debian.may_install() and debian.installed("docker.io") and not (has_compose() and has_buildx()):
        say(TOPIC, "installing what the docker command lacks: compose and buildx")
        _install()
    return engine


def _make() -> Engine:
    # An engine that is installed, by whatever package, is started and not replaced.
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        say(TOPIC, "no Docker engine here: installing one from Debian's packages")
        _install()
    # A package may have started it.
    engine = find()
    if engine is None:
        _start()
        engine = find()
    if engine is None:
        raise SetupError(f"the Docker engine was started but does not answer; see {_log()}")
    return engine


def advice() -> str:
    """What a person does where setup may not install an engine itself."""
    if shutil.which("docker") is not None:
        known = "The docker command is here, but no engine answers it. "
    else:
        known = "No Docker engine was found. "
    if os.uname().sysname == "Darwin":
        return f"{known}Start Docker Desktop (or colima), wait until it says it is running, and run `make setup` again."
    distribution = debian.release()
    if "debian" in distribution.family:
        return (
            f"{known}Run `sudo apt-get install docker.io` and `sudo systemctl start docker`, add yourself to the group "
            "`docker` (`sudo usermod -aG docker $USER`, then log in again), and run `make setup` again. "
            "As root, `make setup` does all of it."
        )
    return (
        f"{known}On {distribution.name}, install Docker Engine or Docker Desktop, start it, see that `docker version` "
        "shows a server, and run `make setup` again."
    )


def has_compose() -> bool:
    """Whether the docker command has compose v2."""
    return quiet(["docker", "compose", "version"], timeout_s=ANSWER_S) is not None


def has_buildx() -> bool:
    """Whether the docker command has BuildKit, which build secrets need."""
    return quiet(["docker", "buildx", "version"], timeout_s=ANSWER_S) is not None


def _install() -> None:
    if debian.release().codename == debian.NEWER_FOR:
        newer = _missing(["docker.io", "docker-cli", "docker-buildx", "docker-compose"])
        try:
            with debian.newer_sources(newer) as options:
                debian.update(TOPIC, options)
                debian.install(TOPIC, newer, options)
        except SetupError as error:
            say(TOPIC, f"not from {debian.NEWER_SUITE}: {str(error).splitlines()[-1].strip()}")
        else:
            return
    if not debian.available("docker.io"):
        debian.update(TOPIC)
    # Where there is a docker-compose-v2 (Ubuntu), the package docker-compose is version 1, which nothing here speaks.
    compose = "docker-compose-v2" if debian.available("docker-compose-v2") else "docker-compose"
    wanted = ["docker.io", "docker-cli", "docker-buildx", compose]
    debian.install(TOPIC, _missing([package for package in wanted if debian.available(package)]))


def _missing(packages: list[str]) -> list[str]:
    missing = [package for package in packages if not debian.installed(package)]
    if "docker.io" not in missing and "docker-cli" in missing:
        # Before Debian 13 the command is part of docker.io, and its own package would replace the engine.
        missing.remove("docker-cli")
    return missing


def _start() -> None:
    say(TOPIC, "starting the Docker engine")
    if SYSTEMD.is_dir():
        work(TOPIC, "systemctl start docker", ["systemctl", "start", "docker"], timeout_s=START_S)
        return
    forget_dead_processes()
    before = LOG.stat().st_size
    with LOG.open("ab") as log:
        # A session of its own: the engine outlives the shell that ran setup.
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    _wait_for(process, before)


def _log() -> str:
    return "`journalctl -u docker`" if SYSTEMD.is_dir() else str(LOG)


def _wait_for(process: subprocess.Popen[bytes], logged: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if SYSTEM_SOCKET.is_socket() and _version({"DOCKER_HOST": SYSTEM_HOST}) is not None:
            return
        if process.poll() is not None:
            tail = LOG.read_bytes()[logged:].decode(errors="replace").splitlines()[-15:]
            raise SetupError("dockerd ended at once:\n" + "\n".join(f"    {line}" for line in tail))
        time.sleep(0.25)
    raise SetupError(f"dockerd did not answer within {START_S} s; see {LOG}")


def forget_dead_processes() -> None:
    """Remove what an engine that was killed, or a machine that was switched off, leaves in the way of the next one."""
    for file, name in PID_FILES:
        if file.exists() and not _runs(file, name):
            file.unlink(missing_ok=True)
    for stale in CONTAINERD_SOCKETS:
        if stale.is_socket() and not _listens(stale):
            stale.unlink(missing_ok=True)


def _runs(pid_file: Path, name: str) -> bool:
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    # After a reboot the number may be another program's; and one that nobody reaped is dead all the same.
    fields = dict(line.partition(":\t")[::2] for line in status.splitlines())
    return fields.get("Name") == name and not fields.get("State", "").startswith("Z")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
