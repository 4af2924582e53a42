"""Health that means it: what is asked when, and that no answer takes long whatever hangs."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine

from sandgraph.bootstrap import Platform, open_platform
from sandgraph.errors import EngineUnavailable, Unavailable
from sandgraph.execution import health
from sandgraph.execution.health import Probe
from sandgraph.execution.health_report import Checked, HealthReport
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.settings import load_settings
from sandgraph.telemetry.logs import fields_of
from sandgraph.telemetry.metrics import Metrics
from sandgraph.telemetry.watchdog import Watchdog

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    monkeypatch.setattr(health, "CACHED_S", 0.0)
    monkeypatch.setattr(health, "DEADLINE_S", 0.3)
    async with open_platform(load_settings(data_dir=tmp_path), sandboxes=InProcessSandboxes()) as opened:
        yield opened


def failed(report: HealthReport) -> dict[str, str]:
    return {each.name: each.detail for each in report.checks if not each.is_ok}


async def test_a_platform_that_works_is_alive_and_ready(platform: Platform) -> None:
    assert failed(platform.health.alive()) == {}
    report = await platform.health.ready()
    assert failed(report) == {}
    assert {each.name for each in report.checks} == {"database", "engine", "sandboxes", "accepting", "queue", "disk"}
    assert report.facts["active_runs"] == 0
    assert b'sandgraph_check_ok{check="database"} 1.0' in platform.metrics.exposition("")[0]


async def test_a_database_that_another_program_locks_is_not_ready_and_makes_nobody_wait(platform: Platform) -> None:
    with closing(sqlite3.connect(platform.settings.data_dir / "sandgraph.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert list(failed(await platform.health.ready())) == ["database"]
        assert time.monotonic() - began < 1
        # Locked is not stuck: to start the process again would mend nothing.
        assert failed(platform.health.alive()) == {}
        other.rollback()
    async with asyncio.timeout(10):
        while failed(await platform.health.ready()):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)


async def test_a_disk_that_is_full_is_not_ready(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> None:
        raise Unavailable("The database does not answer: database or disk is full.", code="store_unavailable")

    monkeypatch.setattr(platform.store, "heartbeat", full)
    monkeypatch.setattr("sandgraph.store.examine.free_bytes", lambda _: 5 * 2**20)
    found = failed(await platform.health.ready())
    assert "disk is full" in found["database"]
    assert found["disk"].startswith("5 MiB are left")
    assert b'sandgraph_check_ok{check="disk"} 0.0' in platform.metrics.exposition("")[0]


async def test_a_full_queue_and_a_platform_that_stops_are_not_ready(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(platform.runs), "facts", lambda _: {"active_runs": 1, "queued_runs": 1_000})
    monkeypatch.setattr(platform.runs, "_accepting", False)
    assert set(failed(await platform.health.ready())) == {"queue", "accepting"}


async def test_an_engine_that_hangs_is_asked_once_and_delays_nobody(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, free = 0, asyncio.Event()

    async def hangs() -> None:
        nonlocal asked
        asked += 1
        await free.wait()

    monkeypatch.setattr(platform.sandboxes, "ping", hangs)
    reports = await asyncio.gather(*(platform.health.ready() for _ in range(20)))
    assert [list(failed(report)) for report in reports] == [["engine"]] * 20
    assert "No answer for" in failed(reports[0])["engine"]
    assert asked == 1
    free.set()
    async with asyncio.timeout(5):
        while failed(await platform.health.ready()):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)


async def test_an_engine_that_is_stopped_or_lost_the_image_is_not_ready(tmp_path: Path) -> None:
    engine = FakeEngine()
    pool = SandboxPool(load_settings(data_dir=tmp_path, pool_min=1, deployment="test"), engine=engine)
    with pytest.raises(EngineUnavailable):
        await pool.ping()
    await pool.start()
    await pool.ping()

    async def stopped(image_id: str) -> None:
        raise EngineUnavailable(f"The Docker engine does not answer, asked for {image_id}.")

    engine.check = stopped  # type: ignore[method-assign]
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await pool.ping()
    await pool.close()


async def test_whoever_lost_its_place_is_neither_alive(platform: Platform) -> None:
    platform.heart.lost.set()
    assert list(failed(platform.health.alive())) == ["heart"]
    platform.heart.lost.clear()


async def test_a_writer_that_is_stuck_is_not_alive(platform: Platform) -> None:
    platform.heart._turned -= 3_600
    assert "for 36" in failed(platform.health.alive())["heart"]


async def test_answers_are_kept_for_a_moment() -> None:
    asked = 0

    async def look() -> str:
        nonlocal asked
        asked += 1
        return "fine"

    probe = Probe("x", look)
    for _ in range(5):
        assert await probe.checked(1) == Checked("x", is_ok=True, detail="fine")
    assert asked == 1


def test_a_loop_that_does_nothing_is_noticed_from_outside_with_what_held_it_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, blocked, free = Metrics(), threading.Event(), threading.Event()
    noticed: list[bool] = []

    async def scene() -> None:
        watchdog = Watchdog(metrics, 0.1)
        watchdog.start()
        await asyncio.sleep(0)

        def wait_for_it() -> None:
            blocked.wait(5)
            until = time.monotonic() + 5
            while not _stalls(caplog) and time.monotonic() < until:
                threading.Event().wait(0.02)
            noticed.append(watchdog.is_stalled)
            free.set()

        outside = threading.Thread(target=wait_for_it)
        outside.start()
        blocked.set()
        _hold_everything_up(free)
        async with asyncio.timeout(5):
            while watchdog.is_stalled:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)
        outside.join()
        await watchdog.stop()

    asyncio.run(scene())
    assert noticed == [True]
    (line,) = _stalls(caplog)
    assert "_hold_everything_up" in str(line["stack"])
    assert b"sandgraph_loop_stalls_total 1.0" in metrics.exposition("")[0]
    assert b"sandgraph_loop_lag_seconds_count" in metrics.exposition("")[0]


def _hold_everything_up(free: threading.Event) -> None:
    free.wait(10)


def _stalls(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [record for record in list(caplog.records) if record.levelno == logging.ERROR]
    return [line for line in map(fields_of, records) if line["action"] == "loop_stalled"]


async def test_a_run_has_a_line_when_it_is_accepted_and_one_when_it_ends(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sandgraph.execution")
    graph = Graph("lines", (Node("start", NodeType.START), Node("end", NodeType.END)), (Edge("start", "end"),))
    version, _ = await platform.store.save_graph(graph)
    run, _ = await platform.runs.submit(version.graph_id, {})
    await platform.runs.wait(run.run_id, 10)
    lines = [line for line in map(fields_of, caplog.records) if line.get("run") == run.run_id]
    assert [line["action"] for line in lines] == ["run_accepted", "run_ended"]
    assert lines[1]["status"] == "completed"
    assert {line["tenant"] for line in lines} == {"default"}
