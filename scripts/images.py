"""The base image, from the registry or from Debian's packages, and the runner image on top of it."""

from __future__ import annotations

import hashlib
import os
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from scripts import base_image, dotenv
from scripts.console import TICK_S, SetupError, quiet, say, work
from scripts.engine import Engine

REGISTRY_BASE = "python:3.13-slim"
BASE_SETTING = "SANDGRAPH_BASE_IMAGE"
RUNNER = "sandgraph-runner"
INPUTS_LABEL = "sandgraph.inputs"
FIRST_WORD_S = 8.0
PULL_S = 900.0
BUILD_S = 600


@dataclass(frozen=True)
class Runner:
    """The runner image as it is now."""

    tag: str
    base: str


def ensure_base(engine: Engine, env_file: Path) -> str:
    """The name of a base image that the engine has."""
    wanted = dotenv.setting(env_file, BASE_SETTING)
    if wanted is not None and wanted != base_image.TAG:
        if image_id(engine, wanted) is None and not pull(engine, wanted):
            raise SetupError(f"{BASE_SETTING} names {wanted}, which the engine neither has nor can pull.")
        return wanted
    if image_id(engine, REGISTRY_BASE) is not None:
        return REGISTRY_BASE
    if base_image.present(engine):
        return base_image.TAG
    if pull(engine, REGISTRY_BASE):
        return REGISTRY_BASE
    base_image.make(engine)
    return base_image.TAG


def image_id(engine: Engine, name: str) -> str | None:
    """The image's id, or None where the engine does not have it."""
    return quiet(["docker", "image", "inspect", "--format", "{{.Id}}", name], timeout_s=20, env=engine.env)


def pull(engine: Engine, name: str) -> bool:
    """Pull an image: a registry that is silent for seconds is taken for absent, one that answers gets its time."""
    topic = base_image.TOPIC
    say(topic, f"pulling {name}")
    process = subprocess.Popen(
        ["docker", "pull", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **engine.env},
    )
    with process:
        try:
            output = _drain(process) if _speaks(process) else b""
        finally:
            process.kill()
    if process.returncode == 0:
        return True
    last = output.decode(errors="replace").strip().rpartition("\n")[2]
    say(topic, f"no registry gave us {name}: {last or 'no answer'}")
    return False


def _speaks(process: subprocess.Popen[bytes]) -> bool:
    with selectors.DefaultSelector() as selector:
        if process.stdout is None:
            return False
        selector.register(process.stdout, selectors.EVENT_READ)
        return bool(selector.select(FIRST_WORD_S))


def _drain(process: subprocess.Popen[bytes]) -> bytes:
    started = time.monotonic()
    while (spent := time.monotonic() - started) < PULL_S:
        try:
            return process.communicate(timeout=TICK_S)[0]
        except subprocess.TimeoutExpired:
            say(base_image.TOPIC, f"  … {spent + TICK_S:.0f} s")
    return b"gave up waiting"


def inputs(context: Path, base_id: str) -> str:
    """One hash over everything the runner image is made of."""
    digest = hashlib.sha256(base_id.encode())
    files = [context / "Dockerfile", *sorted((context / "sandgraph_runner").rglob("*"))]
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            content = file.read_bytes()
            digest.update(f"\0{file.relative_to(context).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def ensure_runner(engine: Engine, context: Path, base: str) -> Runner:
    """Build the runner image, unless its inputs are those of the one that is there."""
    base_id = image_id(engine, base)
    if base_id is None:
        raise SetupError(f"the engine lost its image {base}")
    wanted = inputs(context, base_id)
    tag, latest = f"{RUNNER}:{wanted}", f"{RUNNER}:latest"
    label = f'{{{{index .Config.Labels "{INPUTS_LABEL}"}}}}'
    found = quiet(["docker", "image", "inspect", "--format", label, latest], timeout_s=20, env=engine.env)
    if found == wanted and image_id(engine, tag) is not None:
        say("runner image", f"{tag} is up to date (base {base})")
        return Runner(tag, base)
    command = ["docker", "build", "--build-arg", f"BASE_IMAGE={base}", "--label", f"{INPUTS_LABEL}={wanted}"]
    command += ["--tag", tag, "--tag", latest, str(context)]
    spent = work("runner image", f"building {tag} on {base}", command, timeout_s=BUILD_S, env=engine.env)
    say("runner image", f"built in {spent:.0f} s")
    return Runner(tag, base)
