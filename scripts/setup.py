"""Makes everything ready: the virtual environment, a Docker engine, the runner image. Does only what is missing.

Run as `make setup`, or `python3 -m scripts.setup` from the repository's root.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from scripts import base_image, dotenv, engine, gvisor, images, packages, postgres
from scripts.console import SetupError, alone, say

ROOT = Path(__file__).resolve().parent.parent
DOTENV = ROOT / ".env"


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.setup", description=__doc__)
    parser.add_argument("--only", choices=["venv", "postgres"], help="one part; neither needs a Docker engine")
    parser.add_argument("--gvisor", action="store_true", help="the engine and gVisor for it, and nothing else")
    parser.add_argument("--print-docker-host", action="store_true", help="print where the engine is, and do nothing")
    options = parser.parse_args()
    if sys.version_info < packages.OLDEST:
        print(f"setup: Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    try:
        if options.print_docker_host:
            return _print_docker_host()
        with alone(ROOT / packages.LOCK):
            if options.gvisor:
                gvisor.ensure(engine.ensure())
            elif options.only == "postgres":
                postgres.ensure()
            else:
                _setup(only_venv=options.only == "venv")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _setup(*, only_venv: bool) -> None:
    started = time.monotonic()
    python = packages.ensure(ROOT)
    if only_venv:
        return
    found = engine.ensure()
    say(engine.TOPIC, f"Docker {found.version} at {found.host}")
    base = images.ensure_base(found, DOTENV)
    runner = images.ensure_runner(found, ROOT / "runner_image", base)
    dotenv.write(DOTENV, _for_compose(found, python, base))
    if not engine.has_compose():
        say(dotenv.TOPIC, "the docker command has no compose plugin (v2); `docker compose up` needs it")
    say("ready", f"Docker {found.version}, {runner.tag}, {time.monotonic() - started:.1f} s")
    if not found.configured:
        say("note", f"the docker command itself looks elsewhere: export DOCKER_HOST={found.host}")


def _for_compose(found: engine.Engine, python: Path, base: str) -> dict[str, str]:
    wanted: dict[str, str] = {}
    if base == base_image.TAG:
        wanted[images.BASE_SETTING] = base
    bundle = dotenv.ca_bundle(python)
    if bundle is not None:
        wanted["SANDGRAPH_CA_FILE"] = bundle
    if found.rootless_socket is not None:
        wanted["SANDGRAPH_DOCKER_SOCKET"] = found.rootless_socket
    return wanted


def _print_docker_host() -> int:
    found = engine.find()
    if found is None:
        raise SetupError(engine.advice())
    print(found.host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
