"""The pool over an engine that is played: what it keeps, hands out, replaces and leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from fake_engine import FakeContainer, FakeEngine, Peer, obliging

from sandgraph.errors import EngineUnavailable, SandboxLost
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.sandbox import pool as pool_module
from sandgraph.sandbox import shelf as shelf_module
from sandgraph.sandbox import stock as stock_module
from sandgraph.sandbox.container import Container
from sandgraph.sandbox.kinds import Kind
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL, PROCESS_LABEL
from sandgraph.sandbox.spec import Broken, Owner, Sandbox, Succeeded
from sandgraph.settings import load_settings
from sandgraph_runner.protocol import Job

pytestmark = pytest.mark.anyio

OWNER = Owner("run-7", "score", 2, 3)
WARM = Limits()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def drop(_: Sequence[LogLine]) -> None:
    pass


def execute(sandbox: Sandbox) -> Awaitable[object]:
    return sandbox.execute(Job(), b"{}", timeout_s=5, on_log=drop)


@asynccontextmanager
async def opened(engine: FakeEngine, **settings: object) -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(load_settings(deployment="unit", **{"pool_min": 2, "pool_max": 2, **settings}), engine=engine)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()
        assert engine.is_closed
        assert not engine.containers, "containers are left"


def waiting(pool: SandboxPool) -> object:
    return pool.facts()["waiting"]


async def test_it_fills_and_refills_and_leaves_nothing() -> None:
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        first = set(engine.containers)
        async with pool.lease(WARM, OWNER) as sandbox:
            assert sandbox.sandbox_id in first
            assert isinstance(await execute(sandbox), Succeeded)
            assert pool.facts()["leased"] == 1
        await until(lambda: waiting(pool) == 2 and len(engine.containers) == 2)
        assert sandbox.sandbox_id not in engine.containers, "a sandbox is used once"
        assert ("update", sandbox.sandbox_id) not in engine.calls


async def test_it_starts_no_more_than_wanted() -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=3, pool_max=3, pool_refill_parallelism=8) as pool:
        await until(lambda: waiting(pool) == 3)
        await asyncio.sleep(0.05)
        assert len([call for call in engine.calls if call[0] == "create"]) == 3


async def test_labels_and_names() -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=1) as pool:
        await until(lambda: waiting(pool) == 1)
        (warm,) = engine.containers.values()
        labels = warm.config["Labels"]
        assert warm.name.startswith("sandgraph-unit-")
        assert labels[DEPLOYMENT_LABEL] == "unit"
        assert labels["sandgraph.role"] == "sandbox"
        assert len(labels[PROCESS_LABEL]) == 32


async def test_other_limits_are_given_to_a_warm_one() -> None:
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        warm = set(engine.containers)
        async with pool.lease(Limits(memory_mb=64, cpus=0.5, pids=9), OWNER) as sandbox:
            assert sandbox.sandbox_id in warm
            host = engine.containers[sandbox.sandbox_id].config["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
            64 * 2**20,
            64 * 2**20,
            500_000_000,
            9,
        )


async def test_another_tmp_is_started_cold() -> None:
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        warm = set(engine.containers)
        async with pool.lease(Limits(tmp_mb=3), OWNER) as sandbox:
            assert sandbox.sandbox_id not in warm
            host = engine.containers[sandbox.sandbox_id].config["HostConfig"]
            assert "size=3145728" in host["Tmpfs"]["/tmp"]


async def test_more_cpus_than_the_machine_has_are_as_many_as_it_has() -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=0) as pool, pool.lease(Limits(cpus=64), OWNER) as sandbox:
        assert engine.containers[sandbox.sandbox_id].config["HostConfig"]["NanoCpus"] == 2_000_000_000


async def test_without_a_stock_each_lease_starts_one() -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=0) as pool:
        await asyncio.sleep(0.02)
        assert not engine.containers
        async with pool.lease(WARM, OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)
        await until(lambda: not engine.containers)


async def test_more_leases_than_sandboxes_wait_their_turn() -> None:
    engine = FakeEngine()

    async def one() -> str:
        async with pool.lease(WARM, OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)
            return sandbox.sandbox_id

    async with opened(engine) as pool:
        used = await asyncio.gather(*(one() for _ in range(20)))
        assert len(set(used)) == 20
        await until(lambda: waiting(pool) == 2)


async def test_a_tenant_that_holds_none_finds_one_ready_however_many_another_asks_for() -> None:
    engine = FakeEngine()
    held: dict[str, list[AsyncExitStack]] = {"a": [], "b": []}

    async def hold(tenant: str) -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(pool.lease(WARM, replace(OWNER, tenant=tenant)))
        held[tenant].append(stack)

    async with opened(engine) as pool:
        for tenant in "ab":
            # Each is known by now.
            await hold(tenant)
            await held[tenant].pop().aclose()
        await until(lambda: waiting(pool) == 2)
        flood = asyncio.gather(*(hold("a") for _ in range(20)))
        await until(lambda: len(held["a"]) == 20)
        await until(lambda: waiting(pool) == 1)
        await asyncio.wait_for(hold("b"), 0.5)
        await flood
        for stack in [*held["a"], *held["b"]]:
            await stack.aclose()


async def test_of_those_who_stand_in_line_the_tenant_that_holds_the_fewest_comes_first() -> None:
    engine = FakeEngine()
    came: list[str] = []

    async def use(tenant: str) -> None:
        async with pool.lease(WARM, replace(OWNER, tenant=tenant)):
            came.append(tenant)
            await asyncio.sleep(0.05)

    async with opened(engine, pool_min=0, pool_max=0, pool_refill_parallelism=1) as pool:
        await asyncio.gather(*(use("a") for _ in range(8)), use("b"))
        assert "b" in came[:2]


async def test_one_that_died_waiting_is_not_handed_out() -> None:
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        dead = list(engine.containers.values())
        for each in dead:
            each.die()
        async with pool.lease(WARM, OWNER) as sandbox:
            assert sandbox.sandbox_id not in {each.name for each in dead}
            assert isinstance(await execute(sandbox), Succeeded)


async def test_those_that_died_waiting_are_replaced_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        dead = set(engine.containers)
        for each in list(engine.containers.values()):
            each.die()
        await until(lambda: waiting(pool) == 2 and not dead & set(engine.containers))


async def test_one_that_died_at_the_update_is_replaced_by_the_next() -> None:
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        engine.faults["update"].append(SandboxLost("gone"))
        async with pool.lease(Limits(memory_mb=64), OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)


async def test_it_survives_an_engine_that_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(stock_module, "_FIRST_PAUSE_S", 0.01)
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        for method in ("create", "remove", "start"):
            engine.faults[method].extend([EngineUnavailable("restarting")] * 3)
        for each in list(engine.containers.values()):
            each.die()
        async with pool.lease(WARM, OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)
        await until(lambda: waiting(pool) == 2)
        assert pool.facts()["trouble"] is None


async def test_no_engine_means_pauses_not_a_busy_loop() -> None:
    engine = FakeEngine()
    engine.faults["create"].extend([EngineUnavailable("down")] * 1000)
    async with opened(engine) as pool:
        await asyncio.sleep(0.5)
        assert len([call for call in engine.calls if call[0] == "create"]) < 12
        assert pool.facts()["trouble"] == "down"


async def test_a_lease_gives_up_in_time_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LEASE_S", 0.3)
    engine = FakeEngine()
    engine.faults["create"].extend([EngineUnavailable("no disk")] * 1000)
    async with opened(engine) as pool:
        for limits in (WARM, Limits(tmp_mb=1)):
            began = time.monotonic()
            with pytest.raises(EngineUnavailable, match="no disk"):
                async with pool.lease(limits, OWNER):
                    pass
            assert time.monotonic() - began < 2
        assert pool.facts()["leased"] == 0


async def test_a_cancelled_wait_takes_nothing() -> None:
    ready = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await ready.wait()
        await obliging(peer)

    engine = FakeEngine(slow)

    async def wait_for_one() -> None:
        async with pool.lease(WARM, OWNER):
            pass

    async with opened(engine, pool_min=1, pool_refill_parallelism=2) as pool:
        waiters = [asyncio.create_task(wait_for_one()) for _ in range(3)]
        await asyncio.sleep(0.02)
        for waiter in waiters:
            waiter.cancel()
        ready.set()
        await asyncio.wait(waiters)
        await until(lambda: waiting(pool) in {1, 2})
        async with pool.lease(WARM, OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)


async def test_a_wait_that_is_cancelled_as_it_is_served_gives_back_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=1) as pool:
        assert pool._parts is not None
        stock = pool._parts.stock
        add = stock._add

        def add_and_cancel(kind: Kind, container: Container) -> None:
            add(kind, container)
            waiter.cancel()

        monkeypatch.setattr(stock, "_add", add_and_cancel)
        waiter = asyncio.create_task(stock.take(stock._house))
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert waiting(pool) == 1


async def test_a_cold_start_whose_lease_is_cancelled_leaves_nothing() -> None:
    ready = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await ready.wait()
        await obliging(peer)

    engine = FakeEngine(slow)

    async def wait_for_one() -> None:
        async with pool.lease(Limits(tmp_mb=1), OWNER):
            pass

    async with opened(engine, pool_min=0, pool_max=0) as pool:
        waiter = asyncio.create_task(wait_for_one())
        await until(lambda: bool(engine.containers))
        waiter.cancel()
        await asyncio.wait([waiter])
        ready.set()
        await until(lambda: not engine.containers)


@pytest.mark.parametrize("way_out", [ValueError("no"), asyncio.CancelledError()], ids=["exception", "cancellation"])
async def test_whatever_ends_the_block_the_sandbox_is_removed(way_out: BaseException) -> None:
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=0) as pool:
        with pytest.raises(type(way_out)):
            async with pool.lease(WARM, OWNER):
                raise way_out
        await until(lambda: not engine.containers)
        assert pool.facts()["leased"] == 0


async def test_a_removal_that_fails_is_the_reapers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(pool_module, "_REAP_S", 0.02)
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=0) as pool:
        engine.faults["remove"].append(EngineUnavailable("busy"))
        async with pool.lease(WARM, OWNER) as sandbox:
            pass
        await until(lambda: ("remove", sandbox.sandbox_id) in engine.calls)
        await until(lambda: not engine.containers)


def left_by_another(engine: FakeEngine, name: str, deployment: str) -> None:
    config = {"Labels": {DEPLOYMENT_LABEL: deployment, PROCESS_LABEL: "another"}}
    engine.containers[name] = FakeContainer(name, config)


async def test_orphans_of_this_deployment_are_reaped_at_the_start_and_no_others() -> None:
    engine = FakeEngine()
    left_by_another(engine, "orphan", "unit")
    left_by_another(engine, "neighbour", "other")
    async with opened(engine) as pool:
        assert "orphan" not in engine.containers
        await until(lambda: waiting(pool) == 2)
        neighbour = engine.containers.pop("neighbour")
    neighbour.die()
    neighbour.ours.close()


async def test_the_reaper_leaves_alone_what_is_owned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.005)
    monkeypatch.setattr(pool_module, "_REAP_S", 0.0)
    engine = FakeEngine()
    async with opened(engine) as pool:
        for _ in range(20):
            async with pool.lease(WARM, OWNER) as sandbox:
                await asyncio.sleep(0.01)
                assert isinstance(await execute(sandbox), Succeeded)


async def test_closing_ends_leases_and_waits() -> None:
    async def silent(peer: Peer) -> None:
        await peer.hello()
        await peer.hang()

    engine = FakeEngine(silent)
    outcomes: list[object] = []

    async def one() -> None:
        async with pool.lease(WARM, OWNER) as sandbox:
            outcomes.append(await execute(sandbox))

    async with opened(engine, pool_min=1, pool_refill_parallelism=1) as pool:
        busy = asyncio.create_task(one())
        await until(lambda: pool.facts()["leased"] == 1)
    (outcome,) = (await asyncio.gather(busy, return_exceptions=True), outcomes)[1]
    assert isinstance(outcome, Broken)
    assert outcome.status is AttemptStatus.LOST
    with pytest.raises(EngineUnavailable):
        async with pool.lease(WARM, OWNER):
            pass


async def test_closing_turns_away_who_waits() -> None:
    async def never(peer: Peer) -> None:
        await peer.hang()

    engine = FakeEngine(never)

    async def one() -> None:
        async with pool.lease(WARM, OWNER):
            pass

    async with opened(engine) as pool:
        waiter = asyncio.create_task(one())
        await asyncio.sleep(0.05)
    async with asyncio.timeout(1):
        with pytest.raises(EngineUnavailable):
            await waiter


async def test_a_start_that_fails_can_be_closed() -> None:
    engine = FakeEngine()
    engine.faults["connect"].append(EngineUnavailable("none"))
    pool = SandboxPool(load_settings(), engine=engine)
    with pytest.raises(EngineUnavailable):
        await pool.start()
    await pool.close()
    await pool.close()
    assert engine.is_closed
    assert pool.facts()["engine"] is None


async def test_as_many_wait_as_were_asked_for_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    engine = FakeEngine()
    async with opened(engine, pool_min=1, pool_max=4) as pool:
        await until(lambda: waiting(pool) == 1)
        for _ in range(3):
            async with pool.lease(WARM, OWNER):
                pass
        await until(lambda: waiting(pool) == 3)
        for _ in range(3):
            async with pool.lease(WARM, OWNER):
                pass
        await until(lambda: waiting(pool) == 4)
        monkeypatch.setattr(shelf_module, "DEMAND_S", 0.0)
        await until(lambda: waiting(pool) == 1 and len(engine.containers) == 1)


async def test_other_kinds_are_stocked_once_asked_for_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    engine = FakeEngine()
    async with opened(engine, pool_min=1, pool_max=3) as pool:
        for _ in range(3):
            async with pool.lease(Limits(tmp_mb=3), OWNER):
                pass
        await until(lambda: waiting(pool) == 3 == len(engine.containers))
        sizes = [each.config["HostConfig"]["Tmpfs"]["/tmp"].split("size=")[1] for each in engine.containers.values()]
        assert sorted(size.split(",")[0] for size in sizes) == ["16777216", "3145728", "3145728"]
        warm = set(engine.containers)
        async with pool.lease(Limits(tmp_mb=3, memory_mb=64), OWNER) as sandbox:
            assert sandbox.sandbox_id in warm
        monkeypatch.setattr(shelf_module, "DEMAND_S", 0.0)
        await until(lambda: waiting(pool) == 1 and len(engine.containers) == 1)


async def test_of_very_many_kinds_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock_module, "_KINDS", 4)
    engine = FakeEngine()
    async with opened(engine, pool_min=0, pool_max=50) as pool:
        assert pool._parts is not None
        for size in range(1, 12):
            async with pool.lease(Limits(tmp_mb=size), OWNER):
                pass
            assert len(pool._parts.stock._shelves) <= 4
        await until(lambda: len(engine.containers) == waiting(pool) and len(engine.containers) <= 4)


async def test_while_attempts_run_one_is_stocked_up_at_a_time() -> None:
    gate = asyncio.Event()
    gate.set()

    async def gated(peer: Peer) -> None:
        await gate.wait()
        await obliging(peer)

    engine = FakeEngine(gated)
    async with opened(engine, pool_min=4, pool_max=4, pool_refill_parallelism=4) as pool:
        await until(lambda: waiting(pool) == 4)
        async with AsyncExitStack() as leases:
            for _ in range(3):
                await leases.enter_async_context(pool.lease(WARM, OWNER))
            gate.clear()
            await until(lambda: len(engine.containers) == 5)
            await asyncio.sleep(0.15)
            assert len(engine.containers) == 5, "one more, and no second"
            waiters = [asyncio.create_task(leases.enter_async_context(pool.lease(WARM, OWNER))) for _ in range(4)]
            await until(lambda: len(engine.containers) == 7)
            gate.set()
            await asyncio.gather(*waiters)


async def test_a_burst_that_the_stock_can_serve_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock_module, "_CALM_S", 0.2)
    engine = FakeEngine()
    async with opened(engine, pool_min=4, pool_max=4) as pool:
        await until(lambda: waiting(pool) == 4)
        for _ in range(2):
            async with pool.lease(WARM, OWNER):
                pass
        await asyncio.sleep(0.05)
        assert len([call for call in engine.calls if call[0] == "create"]) == 4
        await until(lambda: waiting(pool) == 4)


async def test_a_runtime_of_the_deployments_can_be_chosen_and_no_other() -> None:
    engine = FakeEngine()
    engine.facts = replace(engine.facts, runtimes=("runc", "runsc"))
    async with opened(engine) as pool:
        for runtime in ("runsc", "runc"):
            async with pool.lease(WARM, OWNER, runtime=runtime) as sandbox:
                assert engine.containers[sandbox.sandbox_id].config["HostConfig"]["Runtime"] == runtime
        with pytest.raises(EngineUnavailable, match="no runtime 'kata'"):
            async with pool.lease(WARM, OWNER, runtime="kata"):
                pass


async def test_gvisor_gets_its_limits_at_the_start() -> None:
    engine = FakeEngine()
    engine.facts = replace(engine.facts, runtime="runsc", runtimes=("runsc",))
    async with opened(engine) as pool:
        for _ in range(2):
            async with pool.lease(Limits(memory_mb=64, timeout_s=3), OWNER) as sandbox:
                host = engine.containers[sandbox.sandbox_id].config["HostConfig"]
                assert (host["Memory"], host["Runtime"]) == ((64 + 32) * 2**20, "runsc")
        assert not [call for call in engine.calls if call[0] == "update"]


async def test_the_engine_is_believed_where_a_connection_looks_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CHECK_S", 0.02)
    monkeypatch.setattr(pool_module, "_REAP_S", 0.0)
    engine = FakeEngine()
    async with opened(engine) as pool:
        await until(lambda: waiting(pool) == 2)
        frozen, _ = engine.containers.values()
        frozen.state = replace(frozen.state, is_running=False)
        await until(lambda: frozen.name not in engine.containers and waiting(pool) == 2)
