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

#: Runtimes that are attacked where the engine has them; in CI it has to.
_OTHERS = ("runsc",)
_DEFAULT = "default"


@cache
def _known() -> frozenset[str]:
    command = ["docker", "info", "--format", "{{json .Runtimes}}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        return frozenset(json.loads(said))
    except (OSError, subprocess.SubprocessError, ValueError):
        # The test that needs the engine says what is wrong with it.
        return frozenset()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attacked" in metafunc.fixturenames:
        is_ci = os.environ.get("CI") == "true"
        runtimes = [_DEFAULT, *(name for name in _OTHERS if is_ci or name in _known())]
        metafunc.parametrize("attacked", runtimes, indirect=True, scope="session")


@pytest.fixture(scope="session")
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A platform whose sandboxes have one of the engine's runtimes."""
    if request.param == _DEFAULT:
        yield request.getfixturevalue("served")
        return
    request.getfixturevalue("engine_required")
    if request.param not in _known():
        pytest.fail(f"the engine has no runtime {request.param}: make gvisor")
    data = tmp_path_factory.mktemp(str(request.param))
    with serve(data, f"test-{uuid.uuid4().hex[:12]}", runtime=request.param) as platform:
        yield platform
    assert platform.process.returncode == 0
    assert platform.containers() == []
