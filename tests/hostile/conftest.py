"""The platforms that are attacked: one for each OCI runtime of the engine that isolates in a way of its own."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from functools import cache

import pytest
from served import Served, serve

#: Runtimes that are attacked too, where the engine has them: `SANDGRAPH_TEST_RUNTIMES=runsc make test`.
_OTHERS = os.environ.get("SANDGRAPH_TEST_RUNTIMES", "").split()
_DEFAULT = "default"


@cache
def _runtimes() -> list[str]:
    command = ["docker", "info", "--format", "{{json .Runtimes}}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        known = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        # The test that needs the engine says what is wrong with it.
        return [_DEFAULT]
    return [_DEFAULT, *(name for name in _OTHERS if name in known)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attacked" in metafunc.fixturenames:
        metafunc.parametrize("attacked", _runtimes(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A platform whose sandboxes have one of the engine's runtimes."""
    if request.param == _DEFAULT:
        yield request.getfixturevalue("served")
        return
    request.getfixturevalue("engine_required")
    data = tmp_path_factory.mktemp(str(request.param))
    with serve(data, f"test-{uuid.uuid4().hex[:12]}", runtime=request.param) as platform:
        yield platform
    assert platform.process.returncode == 0
    assert platform.containers() == []
