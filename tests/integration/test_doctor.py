"""`sandgraph doctor` against a real engine, beside a platform and without one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import containers_of, serve

from sandgraph.sandbox.diagnosis import describe_engine, probe_sandbox
from sandgraph.settings import load_settings

pytestmark = pytest.mark.docker


def doctor(*options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run it, and return its exit code and the gravest finding of each check."""
    command = [sys.executable, "-m", "sandgraph", "doctor", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ})
    found: dict[str, dict[str, Any]] = {}
    for each in json.loads(done.stdout)["findings"]:
        before = found.get(each["check"])
        if before is None or ["ok", "warn", "fail"].index(each["level"]) > ["ok", "warn", "fail"].index(
            before["level"]
        ):
            found[each["check"]] = each
    return done.returncode, found


def test_a_platform_that_runs_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    with serve(tmp_path / "data", "doctored") as platform:
        port = platform.url.rpartition(":")[2]
        code, found = doctor(f"--data-dir={tmp_path}/data", "--deployment=doctored", f"--port={port}")
        assert {name: each for name, each in found.items() if each["level"] == "fail"} == {}
        assert code in {0, 1}
        assert "is ready" in found["platform"]["message"]
        assert "no network, no rights" in found["sandbox"]["message"]
        assert "whole" in found["integrity"]["message"]
        assert platform.get("/readyz")["status"] == "ready"
    assert containers_of(platform.deployment) == []


def test_the_commands_of_the_page_of_operations_work_as_they_are_written(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## Watch\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert len(commands) == 4
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with serve(tmp_path / "data", "watched") as platform:
        for command in commands:
            meant = command.replace("http://127.0.0.1:8000", platform.url)
            if command.startswith("sandgraph"):
                meant += f" --deployment=watched --port={platform.url.rpartition(':')[2]}"
            done = subprocess.run(
                meant,
                shell=True,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
                env=environment,
            )
            assert done.returncode in {0, 1}, done.stdout + done.stderr
            assert any(word in done.stdout for word in ('"ok"', '"ready"', "sandgraph_build_info", "0 failures"))


def test_an_image_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    code, found = doctor(f"--data-dir={tmp_path}/data", "--port=0", "--runner-image=no-such-image:latest", "--quick")
    assert code == 2
    assert "make setup" in found["engine"]["message"]
    assert not (tmp_path / "data").exists()


async def _probe(tmp_path: Path) -> tuple[object, list[str]]:
    settings = load_settings(data_dir=tmp_path)
    return await describe_engine(settings), list(await probe_sandbox(settings))


def test_a_sandbox_of_the_profile_has_no_hole(tmp_path: Path) -> None:
    described, wrong = asyncio.run(_probe(tmp_path))
    assert wrong == []
    assert "seccomp" in described.security  # type: ignore[attr-defined]
    assert described.at is not None  # type: ignore[attr-defined]
