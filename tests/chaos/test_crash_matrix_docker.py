"""The crash matrix where sandboxes are containers, of the machine's engine and of one that is killed itself."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_batch import Batch
from chaos_campaign import Round, shard
from chaos_containers import DOCKER, containers_gone, is_small
from chaos_driver import Driver, driver, live
from chaos_life import DONE, Life
from missing import missing
from own_engine import NoOwnEngine, OwnEngine, own_engine

from sandgraph.settings import load_settings

pytestmark = [pytest.mark.chaos, pytest.mark.docker, pytest.mark.timeout(300)]

_PROGRAMS = 4
_DOWN_S = 1.0


@pytest.fixture
def lives() -> Iterator[Driver]:
    with driver() as lives:
        yield lives


@pytest.fixture
def engine(engine_required: None) -> Iterator[OwnEngine]:  # noqa: ARG001 - the machine's engine gives the image
    try:
        with own_engine(load_settings().runner_image) as engine:
            yield engine
    except NoOwnEngine as trouble:
        missing(str(trouble))


def test_runs_come_to_what_they_mean_and_no_container_is_left(
    lives: Driver, deployment: Callable[[], str], tmp_path: Path
) -> None:
    name = deployment()
    with containers_gone(name):
        report = Round(0, DOCKER, tmp_path, lives, name).run()
    assert report.programs >= DOCKER.programs
    assert set(report.fired) >= {f"{point.name} {action}" for point, action in shard(0, DOCKER)}


def test_the_engine_may_die_under_them(lives: Driver, engine: OwnEngine, tmp_path: Path) -> None:
    seeds = [seed for seed in range(200) if is_small(seed)][:_PROGRAMS]
    batch = Batch(tmp_path, seeds)
    settings = {"docker_host": engine.address, "worker_slots": 4}
    life = Life(
        tmp_path / "data",
        batch.notes,
        tmp_path / "log.txt",
        "chaos-restart",
        seeds,
        docker=True,
        slow_s=1.0,
        fails=0.03,
        deadline_s=120,
        settings=settings,
    )

    def restart() -> None:
        engine.kill()
        stopped.wait(_DOWN_S)
        engine.start()

    stopped = threading.Event()
    restarting = threading.Timer(random.uniform(2, 4), restart)
    restarting.start()
    try:
        ended = live(lives, life)
    finally:
        stopped.set()
        restarting.join(60)
    batch.read(life, ended, 0)
    assert batch.judge(life.cases()) == []
    assert ended == DONE
    assert engine.docker("ps", "-aq", "--filter", "label=sandgraph.deployment=chaos-restart") == ""
