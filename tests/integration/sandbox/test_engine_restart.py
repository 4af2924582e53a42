"""The engine is killed and started again under load: no run is lost, the pool refills, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from missing import missing
from own_engine import NoOwnEngine, OwnEngine, own_engine
from served import Json, Served, serve

from sandgraph.settings import load_settings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

RUNS = 30
DOWN_S = 3.0
#: From the engine's answer on: what was lost is tried again, in slots that a restarted engine fills slowly.
END_S = 60.0

CODE = """
import time
def work(state):
    time.sleep(state["sleep_s"])
    print("worked", state["number"])
    state["squared"] = state["number"] ** 2
"""


@pytest.fixture(scope="module")
def engine(engine_required: None) -> Iterator[OwnEngine]:  # noqa: ARG001 - the machine's engine gives the image
    try:
        with own_engine(load_settings().runner_image) as engine:
            yield engine
    except NoOwnEngine as trouble:
        missing(str(trouble))


@pytest.mark.parametrize("containerd", [False, True], ids=["dockerd", "dockerd and containerd"])
def test_runs_survive_the_engine_s_restart(
    engine: OwnEngine, deployment: Callable[[], str], tmp_path: Path, *, containerd: bool
) -> None:
    name = deployment()
    # The platform's own client finds the engine as every user's does.
    with serve(tmp_path, name, docker_host=engine.address) as platform:
        platform.register(CODE, "work")
        graph = platform.graph_of("work", limits={"timeout_s": 20})
        graph_id = platform.post("/graph/create", graph)["graph_id"]
        runs = [start(platform, graph_id, number) for number in range(RUNS)]
        wait_until(lambda: ended(platform, runs) >= 2, END_S)
        before = ended(platform, runs)
        engine.kill(containerd=containerd)
        time.sleep(DOWN_S)
        engine.start()
        wait_until(lambda: ended(platform, runs) == RUNS, END_S)
        assert before < RUNS, "the engine died too late"
        assert lost_attempts(platform, runs) > 0, "the engine died between the attempts"
        wait_until(lambda: is_full(platform), END_S)
    assert platform.process.returncode == 0
    assert engine.docker("ps", "-aq", "--filter", f"label=sandgraph.deployment={name}") == ""


def start(platform: Served, graph_id: str, number: int) -> str:
    state = {"number": number, "sleep_s": (0, 0.2, 1, 2)[number % 4]}
    return str(platform.post("/graph/run_async", {"graph_id": graph_id, "initial_state": state})["run_id"])


def ended(platform: Served, runs: list[str]) -> int:
    return sum(platform.get(f"/graph/status/{run}")["status"] not in {"pending", "running"} for run in runs)


def is_full(platform: Served) -> bool:
    sandboxes: Json = platform.client.get("/readyz").json()["sandboxes"]
    return sandboxes["waiting"] >= sandboxes["wanted"] > 0 == sandboxes["leased"] and sandboxes["trouble"] is None


def lost_attempts(platform: Served, runs: list[str]) -> int:
    """Return how many attempts were lost, once each run is known to have ended as if none had been."""
    lost = 0
    for number, run in enumerate(runs):
        said = platform.get(f"/graph/status/{run}")
        assert said["status"] == "completed", said
        assert platform.get(f"/graph/state/{run}")["data"]["squared"] == number**2
        (node,) = (node for node in said["node_runs"] if node["attempts"])
        *others, last = (attempt["status"] for attempt in node["attempts"])
        assert last == "succeeded"
        assert set(others) <= {"lost"}
        lost += len(others)
    return lost


def wait_until(is_so: Callable[[], bool], within_s: float) -> None:
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.2)
