"""Sandboxes that stay with their run: who gets one again, and when it goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from fake_engine import NOTHING, FakeEngine, Peer

from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.sandbox import attempt as attempt_module
from sandgraph.sandbox import kept as kept_module
from sandgraph.sandbox import pool as pool_module
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Succeeded
from sandgraph.settings import load_settings
from sandgraph_runner.protocol import Job, Kind, Reason, Report, Used

pytestmark = pytest.mark.anyio

ERROR = {"type": "ValueError", "message": "no", "traceback": "", "condition": None, "key": None}


async def keeping(peer: Peer) -> None:
    """Say hello before each order; a job's node says how it goes."""
    while True:
        await peer.hello()
        order = await peer.request()
        meta = order.read_meta()
        assert meta["keep"] is True
        match meta["node"]:
            case "raises":
                await peer.say(Kind.FAILURE, Report(Reason.ERROR).to_meta(), json.dumps(ERROR).encode())
            case "killed":
                await peer.say(Kind.FAILURE, Report(Reason.KILLED, signal=11).to_meta())
            case "forged":
                await peer.result(b'{"ops":[]}')
            case "slow to wipe":
                await peer.result(NOTHING)
                await asyncio.sleep(0.2)
            case "never wiped":
                await peer.result(NOTHING)
                await peer.hang()
            case _:
                await peer.result(NOTHING, used=Used(0.5))


async def drop(_: Sequence[LogLine]) -> None:
    pass


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(engine: FakeEngine, **settings: object) -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(load_settings(deployment="unit", **{"pool_min": 0, "pool_max": 0, **settings}), engine=engine)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()
        assert not engine.containers, "containers are left"


async def attempt(
    pool: SandboxPool, run_id: str = "run", node: str = "n", limits: Limits | None = None, runtime: str | None = None
) -> tuple[str, Outcome]:
    owner = Owner(run_id, node, 1, 1)
    async with pool.lease(limits or Limits(), owner, runtime=runtime, isolation=Isolation.RUN) as sandbox:
        return sandbox.sandbox_id, await sandbox.execute(Job(node=node), b"{}", timeout_s=5, on_log=drop)


async def test_the_attempts_of_a_run_follow_each_other_in_one() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        ended = [await attempt(pool) for _ in range(5)]
        assert len({sandbox_id for sandbox_id, _ in ended}) == 1
        assert all(isinstance(outcome, Succeeded) for _, outcome in ended)
        assert pool.facts()["kept"] == 1
        await pool.end_run("run")
        await until(lambda: not engine.containers)


async def test_never_across_runs_limits_or_isolations() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        used = [
            (await attempt(pool, "one"))[0],
            (await attempt(pool, "two"))[0],
            (await attempt(pool, "one", limits=Limits(memory_mb=64)))[0],
            (await attempt(pool, "one", limits=Limits(tmp_mb=3)))[0],
        ]
        async with pool.lease(Limits(), Owner("one", "n", 1, 1)) as sandbox:
            used.append(sandbox.sandbox_id)
        assert len(set(used)) == 5
        assert (await attempt(pool, "one", limits=Limits(timeout_s=3, output_kb=5)))[0] == used[0]


async def test_as_many_as_run_at_one_time() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        first = await asyncio.gather(*(attempt(pool) for _ in range(3)))
        second = await asyncio.gather(*(attempt(pool) for _ in range(3)))
        assert {each for each, _ in first} == {each for each, _ in second}
        assert len({each for each, _ in first}) == 3


async def test_more_than_may_be_kept_make_the_oldest_go() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine, worker_slots=2) as pool:
        used = {run: (await attempt(pool, run))[0] for run in ("one", "two", "three")}
        await until(lambda: set(engine.containers) == {used["two"], used["three"]})
        assert pool.facts()["kept"] == 2


@pytest.mark.parametrize(
    ("node", "status", "is_kept"),
    [
        ("raises", AttemptStatus.ERROR, True),
        ("killed", AttemptStatus.KILLED, False),
        ("forged", AttemptStatus.RESULT_INVALID, False),
    ],
)
async def test_what_ends_out_of_order_ends_its_sandbox(node: str, status: AttemptStatus, *, is_kept: bool) -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        before, outcome = await attempt(pool, node=node)
        assert isinstance(outcome, Broken)
        assert outcome.status is status
        after, outcome = await attempt(pool)
        assert isinstance(outcome, Succeeded)
        assert (before == after) is is_kept


async def test_the_next_attempt_waits_for_the_wiping() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        before, _ = await attempt(pool, node="slow to wipe")
        after, outcome = await attempt(pool)
        assert before == after
        assert outcome.usage.start_s >= 0.15


async def test_one_that_is_not_wiped_in_time_loses_an_attempt_that_never_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "_WIPE_S", 0.05)
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        before, _ = await attempt(pool, node="never wiped")
        same, outcome = await attempt(pool)
        assert isinstance(outcome, Broken)
        assert (outcome.status, outcome.usage.wall_s, same) == (AttemptStatus.LOST, 0, before)
        after, outcome = await attempt(pool)
        assert isinstance(outcome, Succeeded)
        await until(lambda: set(engine.containers) == {after})


async def test_one_that_died_while_it_was_kept_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        before, _ = await attempt(pool)
        engine.containers[before].die()
        after, outcome = await attempt(pool)
        assert isinstance(outcome, Succeeded)
        assert before != after
        engine.containers[after].die()
        await until(lambda: not engine.containers and pool.facts()["kept"] == 0)


async def test_one_that_nobody_asks_for_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(kept_module, "_IDLE_S", 0.1)
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        await attempt(pool)
        await until(lambda: not engine.containers and pool.facts()["kept"] == 0)


async def test_one_that_is_cancelled_while_it_waits_for_the_wiping_leaves_nothing() -> None:
    engine = FakeEngine(keeping)
    async with opened(engine) as pool:
        await attempt(pool, node="never wiped")
        waiter = asyncio.create_task(attempt(pool))
        await asyncio.sleep(0.02)
        waiter.cancel()
        await asyncio.wait([waiter])
        await until(lambda: not engine.containers and pool.facts()["leased"] == 0)
