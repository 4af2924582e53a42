"""gVisor for the engine: installs runsc and registers it, on Debian and Ubuntu as root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from scripts import debian
from scripts.console import SetupError, quiet, say
from scripts.engine import ANSWER_S, Engine

TOPIC = "gvisor"
NAME = "runsc"
DAEMON_JSON = Path("/etc/docker/daemon.json")
ENGINE_PID = Path("/var/run/docker.pid")
RELOAD_S = 15.0


#: The platform is ptrace: it works on every kernel and in every virtual machine, where KVM may hang. Never
#: `--ignore-cgroups`: nothing would limit a sandbox's memory and processes, and a fork bomb outgrows whoever kills it.
ARGUMENTS = ("--network=none", "--platform=ptrace")


def registered(found: Engine) -> bool:
    """Whether the engine has the runtime."""
    command = ["docker", "info", "--format", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}"]
    said = quiet(command, timeout_s=ANSWER_S, env=found.env)
    return said is not None and NAME in said.split()


def ensure(found: Engine) -> None:
    """See that the engine has gVisor; what is there already stays as it is.

    Raises:
        SetupError: It is not there, and setup may not or cannot put it there.
    """
    if registered(found):
        say(TOPIC, f"the engine has {NAME}")
        return
    if not debian.may_install() or not ENGINE_PID.exists():
        raise SetupError(
            f"the engine has no runtime {NAME}. Install gVisor (https://gvisor.dev/docs/user_guide/install) on the "
            f"engine's machine, register it in its {DAEMON_JSON} and reload the engine. On Debian and Ubuntu, as "
            "root and with an engine of the system's own, setup does all of it."
        )
    program = shutil.which(NAME)
    if program is None:
        if not debian.available(NAME):
            debian.update(TOPIC)
        debian.install(TOPIC, [NAME])
        program = shutil.which(NAME)
    if program is None:
        raise SetupError(f"the package {NAME} brought no program of that name")
    register(DAEMON_JSON, program, list(ARGUMENTS))
    _reload()
    deadline = time.monotonic() + RELOAD_S
    while not registered(found):
        if time.monotonic() > deadline:
            raise SetupError(f"{DAEMON_JSON} names {NAME}, but the engine did not take it up; restart the engine")
        time.sleep(0.1)
    say(TOPIC, f"registered {program} with the engine")


def register(file: Path, program: str, options: list[str]) -> None:
    """Add the runtime to the engine's configuration; everything else in it stays, and an own entry too.

    Raises:
        SetupError: The file is not what an engine could read.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    try:
        settings: Any = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise SetupError(f"{file} is no JSON: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.setdefault("runtimes", {}), dict):
        raise SetupError(f"{file} is not what an engine reads; put it right first")
    if NAME in settings["runtimes"]:
        return
    settings["runtimes"][NAME] = {"path": program, "runtimeArgs": options}
    file.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: an engine that starts meanwhile reads one or the other.
    draft = file.with_name(f"{file.name}.sandgraph")
    draft.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if file.exists():
        shutil.copymode(file, draft)
    draft.replace(file)


def _reload() -> None:
    # The engine reads its runtimes again, and no container notices.
    try:
        os.kill(int(ENGINE_PID.read_text(encoding="ascii")), signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise SetupError(f"the engine could not be told to read {DAEMON_JSON} again: {error}") from error
