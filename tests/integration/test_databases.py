"""A whole platform on PostgreSQL: killed, frozen, and without its server for a while; no run is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import small_platform
from places import Place
from postgres_server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

_PROGRAM = Path(small_platform.__file__)


@pytest.fixture
def place(postgres_server: Server, tmp_path: Path) -> Iterator[Place]:
    name = f"test_{uuid.uuid4().hex}"
    yield Place(tmp_path / "data", postgres_server.create(name))
    postgres_server.drop(name)


@contextmanager
def platform(place: Place, runs: int = 0, lease_s: float = 15) -> Iterator[subprocess.Popen[str]]:
    """Start a platform, and kill it at the end of the block if it is there still."""
    command = [sys.executable, str(_PROGRAM), *place.arguments, str(lease_s), str(runs)]
    log = place.folder.parent / f"log-{uuid.uuid4().hex}"
    with log.open("w") as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process:
        try:
            assert line(process) == "started", log.read_text()
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def demand_all(place: Place, run_ids: list[str]) -> None:
    """Demand that each run came to its end, each commit once, and each record under its number."""
    found = place.sql("SELECT id, status, last_commit FROM run ORDER BY id")
    assert [(run_id, status) for run_id, status, _ in found] == [(run_id, "completed") for run_id in sorted(run_ids)]
    assert {last for *_, last in found} == {small_platform.ROUNDS}
    states = place.sql("SELECT state FROM run_state WHERE kind = 'final'")
    assert states == [(f'{{"n":{small_platform.ROUNDS}}}',)] * len(run_ids)
    for run_id in run_ids:
        made = place.sql(f"SELECT number FROM state_commit WHERE run_id = '{run_id}' ORDER BY number")
        assert made == [(number,) for number in range(1, small_platform.ROUNDS + 1)]
    assert place.sql("SELECT count(*) FROM process") == [(0,)]


def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def commits(place: Place) -> int:
    [(found,)] = place.sql("SELECT count(*) FROM state_commit")
    assert isinstance(found, int)
    return found


def test_a_platform_that_is_killed_goes_on_at_once_when_it_is_started_again(place: Place) -> None:
    run_ids: list[str] = []
    with platform(place, runs=10) as first:
        run_ids += [line(first) for _ in range(10)]
        until(lambda: commits(place) > 15)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    # Long before its lease is over.
    with platform(place) as second:
        assert line(second) == "done"
        assert second.wait(20) == 0
    demand_all(place, run_ids)


def test_the_server_is_restarted_under_load_and_no_run_is_lost(place: Place, postgres_server: Server) -> None:
    with platform(place, runs=10) as process:
        run_ids = [line(process) for _ in range(10)]
        for how in ("fast", "immediate"):
            before = commits(place)
            until(lambda before=before: commits(place) > before + 5)  # type: ignore[misc]
            postgres_server.restart(how)
        said = line(process)
        while said == "unavailable":
            said = line(process)
        assert said == "done"
        assert process.wait(20) == 0
    demand_all(place, run_ids)


def test_who_is_frozen_is_replaced_and_ends_when_it_thaws(place: Place) -> None:
    with platform(place, runs=10, lease_s=1) as first:
        run_ids = [line(first) for _ in range(10)]
        until(lambda: commits(place) > 10)
        first.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        with platform(place, lease_s=1) as second:
            until(lambda: commits(place) > 30)
            first.send_signal(signal.SIGCONT)
            assert first.wait(30) == 6
            assert second.poll() is None
            assert line(second) == "done"
            assert second.wait(20) == 0
    demand_all(place, run_ids)


def test_two_platforms_do_not_share_a_database(place: Place) -> None:
    with platform(place) as first:
        environment = os.environ | {"PYTHONPATH": str(_PROGRAM.parent)}
        command = [sys.executable, str(_PROGRAM), *place.arguments, "15", "0"]
        refused = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
        assert refused.returncode == 1
        assert "in use by another Sandgraph process" in refused.stderr
        assert first.poll() is None
