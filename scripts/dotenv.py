"""The `.env` file beside docker-compose.yml: what compose cannot find out by itself on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from scripts.console import quiet, say

TOPIC = "compose"


def read(path: Path) -> dict[str, str]:
    """The assignments in a .env file; a missing one has none."""
    values: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, found, value = line.strip().partition("=")
            if found and not key.startswith("#"):
                values[key.strip()] = value.strip().strip("\"'")
    return values


def setting(path: Path, key: str) -> str | None:
    """What the user wants for this key, in the environment or in the .env file."""
    return os.environ.get(key) or read(path).get(key) or None


def write(path: Path, wanted: Mapping[str, str]) -> None:
    """Add the assignments that are missing; a line that is there already is its author's, and stays."""
    present = read(path)
    missing = {key: value for key, value in wanted.items() if key not in present}
    for key in wanted.keys() & present.keys():
        if present[key] != wanted[key]:
            say(TOPIC, f"{path.name} keeps its own {key}={present[key]}")
    if not missing:
        return
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    text += "# Added by `make setup` for docker compose on this machine.\n"
    text += "".join(f"{key}={value}\n" for key, value in missing.items())
    path.write_text(text, encoding="utf-8")
    say(TOPIC, f"{path.name} now says {', '.join(f'{key}={value}' for key, value in missing.items())}")


def ca_bundle(python: Path) -> str | None:
    """The CA bundle that pip is told to trust here, if any: a build behind the same proxy needs it too."""
    named = [os.environ.get(key) for key in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    named.append(quiet([str(python), "-m", "pip", "config", "get", "global.cert"], timeout_s=20))
    return next((name for name in named if name and Path(name).is_file()), None)
