"""The deployment as docker-compose.yml describes it: built here, started, used over HTTP, taken down."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pytest_docker.plugin import Services
from scripts import engine

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"sandgraph-e2e-{os.getpid()}"
# Its own names throughout: a stack of the developer's own on the same engine stays as it is.
SETTINGS = {
    "SANDGRAPH_RUNNER_IMAGE": "sandgraph-runner:e2e",
    "SANDGRAPH_PLATFORM_IMAGE": "sandgraph-platform:e2e",
    "SANDGRAPH_DEPLOYMENT": PROJECT,
    "SANDGRAPH_PORT": "0",
}
DOUBLE = (
    "def double(state):\n    print('doubling', state.get('input'))\n    state.set('output', state.get('input') * 2)\n"
)

# Building both images and starting the stack is part of whichever test comes first.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


@cache
def environment() -> dict[str, str]:
    found = engine.find()
    assert found is not None, engine.advice()
    return {**os.environ, **found.env, **SETTINGS}


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sandboxes() -> list[str]:
    """The containers that this deployment has on the engine, beside its own."""
    labels = ("sandgraph.role=sandbox", f"sandgraph.deployment={PROJECT}")
    return docker("ps", "--all", "--quiet", *(f"--filter=label={label}" for label in labels)).split()


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    changed = {key: value for key, value in environment().items() if os.environ.get(key) != value}
    return shlex.join(["env", *(f"{key}={value}" for key, value in changed.items()), "docker", "compose"])


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up --build --wait --wait-timeout 120"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down --volumes --timeout 30"]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Services]:
    try:
        services = request.getfixturevalue("docker_services")
    except Exception as failed:  # noqa: BLE001 - it is what pytest-docker raises
        logs = docker("compose", "-f", str(ROOT / "docker-compose.yml"), "-p", PROJECT, "logs", "--tail", "50")
        docker("compose", "-f", str(ROOT / "docker-compose.yml"), "-p", PROJECT, "down", "--volumes", "--timeout", "5")
        pytest.fail(f"the stack did not come up: {failed}\n{logs}")
    yield services
    for image in ("SANDGRAPH_PLATFORM_IMAGE", "SANDGRAPH_RUNNER_IMAGE"):
        docker("image", "rm", "--force", SETTINGS[image])


@pytest.fixture(scope="session")
def container(stack: Services) -> dict[str, Any]:
    name = stack._docker_compose.execute("ps --quiet platform").decode().strip().splitlines()[-1]
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


@pytest.fixture(scope="session")
def key(stack: Services) -> str:
    scopes = " ".join(f"--scope {scope}" for scope in ("submit", "read", "operate", "admin"))
    said = str(stack._docker_compose.execute(f"exec -T platform sandgraph keys create --name e2e {scopes}").decode())
    return next(line for line in said.splitlines() if line.startswith("sgk_"))


@pytest.fixture(scope="session")
def url(stack: Services) -> str:
    return f"http://127.0.0.1:{stack.port_for('platform', 8000)}"


@pytest.fixture(scope="session")
def api(url: str, key: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def posted(api: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post(path, json=body)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_platform_is_healthy_and_ready(container: dict[str, Any], api: httpx2.Client) -> None:
    assert container["State"]["Health"]["Status"] == "healthy"
    assert api.get("/readyz").status_code == 200


def test_nobody_is_let_in_without_a_key(url: str, api: httpx2.Client) -> None:
    assert httpx2.get(f"{url}/graph/runs", timeout=60).status_code == 401
    assert httpx2.post(f"{url}/keys", json={"name": "mine", "scopes": ["admin"]}, timeout=60).status_code == 401
    assert api.get("/graph/runs").status_code == 200
    assert api.get("/whoami").json()["open"] is False


def test_it_listens_on_loopback_alone(container: dict[str, Any]) -> None:
    published = container["NetworkSettings"]["Ports"]
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings or []} == {"127.0.0.1"}


def test_it_has_no_privileges_but_the_socket(container: dict[str, Any]) -> None:
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert {mount["Destination"] for mount in container["Mounts"]} == {"/data", "/var/run/docker.sock"}


def test_the_image_holds_no_tools_to_build_with() -> None:
    image = SETTINGS["SANDGRAPH_PLATFORM_IMAGE"]
    code = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) for name in ('pip', 'hatchling')))"
    docker("run", "--rm", "--network=none", "--entrypoint=/opt/sandgraph/bin/python", image, "-c", code)


def test_a_graph_runs_in_a_sandbox_of_the_engine_outside(api: httpx2.Client) -> None:
    posted(api, "/nodes/register", {"name": "double", "code": DOUBLE})
    graph = posted(
        api,
        "/graph/create",
        {
            "name": "double",
            "nodes": [
                {"name": "start", "type": "start"},
                {"name": "double", "type": "standard", "function": "double"},
                {"name": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": "double"}, {"source": "double", "target": "end"}],
        },
    )
    run = posted(api, "/graph/run", {"graph_id": graph["graph_id"], "initial_state": {"input": 21}})
    assert run["status"] == "completed", run
    assert run["final_state"]["data"]["output"] == 42
    status = api.get(f"/graph/status/{run['run_id']}").json()
    assert status["status"] == "completed"


def test_runs_and_keys_outlive_the_container(stack: Services, api: httpx2.Client) -> None:
    before = api.get("/graph/runs").json()
    stack._docker_compose.execute("restart --timeout 30 platform")
    stack._docker_compose.execute("up --wait --wait-timeout 120 --no-recreate")
    # An ephemeral port is a new one after a restart.
    endpoint = stack._docker_compose.execute("port platform 8000").decode().strip().splitlines()[-1]
    after = httpx2.get(f"http://{endpoint}/graph/runs", timeout=60, headers=api.headers).json()
    assert before["runs"]
    assert after == before


def test_nothing_is_left_after_down(stack: Services) -> None:
    deadline = time.monotonic() + 60
    while not sandboxes():
        assert time.monotonic() < deadline, "no sandbox carries the deployment's name, so this test would show nothing"
        time.sleep(0.5)
    stack._docker_compose.execute("down --volumes --timeout 30")
    assert sandboxes() == []
    assert docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}") == ""
