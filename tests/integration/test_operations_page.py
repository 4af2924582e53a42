"""The commands of docs/operations.md, each run as it stands there, in order, beside a platform that runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Served, serve

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

#: What stands on the page and is not for this test: the platform that the others need runs already, and what is done
#: with docker compose is done by the tests of the deployment.
_ELSEWHERE = ("git clone", "sandgraph serve", "docker compose", "KEY=$(docker compose")

#: Sections whose commands have tests of their own, with what they need.
_OF_OTHERS = ("The database", "Back up and restore", "Upgrade", "Watch")


def commands() -> list[str]:
    """Return the commands of the page, but for those that are tested elsewhere."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "\n".join(section for section in sections if not section.startswith(_OF_OTHERS))
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if not line.startswith(_ELSEWHERE)]


@pytest.fixture
def beside(tmp_path: Path, deployment: Callable[[], str]) -> Iterator[tuple[Served, dict[str, str]]]:
    name = deployment()
    with serve(tmp_path, name) as served:
        scripts = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "SANDGRAPH_DATA_DIR": str(tmp_path),
            "SANDGRAPH_DEPLOYMENT": name,
            "SANDGRAPH_PORT": served.url.rpartition(":")[2],
        }
        made = subprocess.run(
            ["sandgraph", "keys", "create", "--name", "me"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        yield served, {**environment, "KEY": made.stdout.strip()}


@pytest.mark.timeout(200)
def test_every_command_does_what_it_says(beside: tuple[Served, dict[str, str]]) -> None:
    served, environment = beside
    found = commands()
    assert len(found) > 5
    for command in found:
        line = command.replace("http://127.0.0.1:8000", served.url).replace("curl -s", "curl -s --fail-with-body")
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # Doctor: something to be looked at, as on a machine for tests there may be.
        allowed = {0, 1} if shlex.split(command)[:2] == ["sandgraph", "doctor"] else {0}
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout or done.stderr or "docker ps" in command, f"{command} said nothing"
