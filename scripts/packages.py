"""The virtual environment: made, filled from the lock file, with the project in it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from scripts import debian
from scripts.console import SetupError, quiet, say, work

TOPIC = "python"
OLDEST = (3, 11)
LOCK = "requirements-dev.lock"
STAMP = ".sandgraph-setup.json"
INSTALL_S = 900


def ensure(root: Path) -> Path:
    """Return the Python of an environment that holds exactly what the lock file says, and the project."""
    folder = root / ".venv"
    python = folder / "bin" / "python"
    stamp = folder / STAMP
    if _version(python) is None:
        _create(folder)
    before = _read(stamp)
    version = _version(python)
    if version is None:
        raise SetupError(f"{python} does not run; remove {folder} and run `make setup` again.")
    now = {"python": version, "lock": _hash(root / LOCK), "project": _hash(root / "pyproject.toml"), "root": str(root)}
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    if (before.get("python"), before.get("lock")) != (now["python"], now["lock"]):
        command = [*pip, "--require-hashes", "--requirement", str(root / LOCK)]
        spent = work(TOPIC, f"installing {LOCK}", command, timeout_s=INSTALL_S)
        say(TOPIC, f"installed in {spent:.0f} s")
    if before != now:
        work(
            TOPIC,
            "installing the project",
            [*pip, "--no-deps", "--no-build-isolation", "--editable", str(root)],
            timeout_s=INSTALL_S,
        )
        stamp.write_text(json.dumps(now), encoding="utf-8")
    say(TOPIC, f"Python {version} in .venv, as {LOCK} says")
    return python


def _create(folder: Path) -> None:
    if quiet([sys.executable, "-c", "import ensurepip"], timeout_s=30) is None:
        _install_venv()
    # --clear: what is there may be an environment whose Python has gone.
    work(TOPIC, "making .venv", [sys.executable, "-m", "venv", "--clear", str(folder)], timeout_s=120)


def _install_venv() -> None:
    own = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    system = Path(sys.executable).resolve().is_relative_to("/usr/bin")
    if system and debian.may_install():
        if not debian.available(own):
            debian.update(TOPIC)
        debian.install(TOPIC, [own])
    elif system and shutil.which("apt-get") is not None:
        raise SetupError(f"this Python cannot make virtual environments. Run `sudo apt-get install {own}`, then again.")
    else:
        raise SetupError(f"{sys.executable} lacks the ensurepip module; install a complete Python 3.11 or newer.")


def _version(python: Path) -> str | None:
    code = "import pip, platform, sys; print(platform.python_version()); sys.exit(sys.version_info < (3, 11))"
    return quiet([str(python), "-c", code], timeout_s=30)


def _read(stamp: Path) -> dict[str, str]:
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
