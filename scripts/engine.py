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
from scripts.console import SetupError, quiet, say

TOPIC = "engine"
SYSTEM_SOCKET = Path("/var/run/docker.sock")
SYSTEM_HOST = f"unix://{SYSTEM_SOCKET}"
LOG = Path("/var/log/dockerd.log")
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
    """The engine the docker command is configured for, else one behind a well-known socket."""
    if shutil.which("docker") is None:
        return None
    host = quiet(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout_s=ANSWER_S)
    asked = os.environ.get("DOCKER_HOST")
    configured = asked or host or SYSTEM_HOST
    version = _version({})
    if version is not None:
        return Engine(configured, version, configured=True)
    if asked and asked != SYSTEM_HOST:
        raise SetupError(f"DOCKER_HOST is {asked}, where no Docker engine answers. Start it, or unset DOCKER_HOST.")
    for candidate in _sockets():
        found = f"unix://{candidate}"
        if found != configured and candidate.is_socket():
            version = _version({"DOCKER_HOST": found})
            if version is not None:
                return Engine(found, version, configured=False)
    return None


def _version(env: dict[str, str]) -> str | None:
    return quiet(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=ANSWER_S, env=env) or None


def _sockets() -> list[Path]:
    home = Path.home()
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    return [
        SYSTEM_SOCKET,
        home / ".docker" / "run" / "docker.sock",
        home / ".docker" / "desktop" / "docker.sock",
        home / ".colima" / "default" / "docker.sock",
        home / ".config" / "colima" / "default" / "docker.sock",
        home / ".orbstack" / "run" / "docker.sock",
        home / ".rd" / "docker.sock",
        Path(runtime) / "docker.sock",
    ]


def ensure() -> Engine:
    """Find an engine, or make one, or say what to do."""
    engine = find()
    if engine is None:
        if not debian.may_install():
            raise SetupError(advice())
        _install()
        _start()
        engine = find()
        if engine is None:
            raise SetupError(f"the Docker engine was started but does not answer; see {LOG}")
    elif debian.may_install() and shutil.which("dockerd") and not has_compose():
        _install()
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
        _install_newer()
        return
    if not debian.available("docker.io"):
        debian.update(TOPIC)
    wanted = ["docker.io", "docker-cli", "docker-buildx", "docker-compose-v2", "docker-compose"]
    packages = [package for package in wanted if debian.available(package)]
    if "docker-compose-v2" in packages and "docker-compose" in packages:
        packages.remove("docker-compose")  # Ubuntu's package of that name is compose v1
    _install_missing(packages)


def _install_newer() -> None:
    newer = ["docker.io", "docker-cli", "docker-buildx", "docker-compose"]
    missing = [package for package in newer if not debian.installed(package)]
    # A docker.io that is there already, of whatever version, is the machine's own choice.
    if not missing:
        return
    if missing == newer:
        say(TOPIC, "no Docker engine here: installing one from Debian's packages")
    with debian.newer_sources(newer) as options:
        debian.update(TOPIC, options)
        debian.install(TOPIC, missing, options)


def _install_missing(packages: list[str]) -> None:
    missing = [package for package in packages if not debian.installed(package)]
    if missing:
        debian.install(TOPIC, missing)


def _start() -> None:
    say(TOPIC, "starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False, timeout=START_S)
    else:
        _forget_dead_processes()
        with LOG.open("ab") as log:
            # A session of its own: the engine outlives the shell that ran setup.
            process = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        _wait_for(process)


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if SYSTEM_SOCKET.is_socket() and _version({"DOCKER_HOST": SYSTEM_HOST}) is not None:
            return
        if process.poll() is not None:
            tail = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise SetupError("dockerd ended at once:\n" + "\n".join(f"    {line}" for line in tail))
        time.sleep(0.25)
    raise SetupError(f"dockerd did not answer within {START_S} s; see {LOG}")


def _forget_dead_processes() -> None:
    """Remove what an engine that was killed, or a machine that was switched off, leaves in the way of the next one."""
    for file, name in (
        (Path("/var/run/docker.pid"), "dockerd"),
        (Path("/var/run/docker/containerd/containerd.pid"), "containerd"),
    ):
        if file.exists() and not _runs(file, name):
            file.unlink(missing_ok=True)
    for stale in (Path("/run/containerd/containerd.sock"), Path("/var/run/docker/containerd/containerd.sock")):
        if stale.is_socket() and not _listens(stale):
            stale.unlink(missing_ok=True)


def _runs(pid_file: Path, name: str) -> bool:
    # After a reboot the number may be another program's.
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == name
    except (OSError, ValueError):
        return False


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
