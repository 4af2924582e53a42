"""Containers come and go: removed on every path, reaped after a crash, replaced when the engine goes away."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cable import Cable, plugged

from sandgraph.errors import EngineUnavailable
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.sandbox.engine import Client, find_engine
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Sandbox, Succeeded
from sandgraph.settings import Settings, load_settings
from sandgraph_runner.protocol import Job, Source

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("engine_required")]

OWNER = Owner("run-1", "node", 1, 1)
LIMITS = Limits()

_CRASHING = """
import asyncio, sys
from sandgraph.model.limits import Limits
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Owner
from sandgraph.settings import load_settings
from sandgraph_runner.protocol import Job, Source

async def tell(lines):
    print("running", flush=True)

async def main():
    pool = SandboxPool(load_settings(deployment=sys.argv[1]))
    await pool.start()
    while pool.facts()["waiting"] < 2:
        await asyncio.sleep(0.01)
    async with pool.lease(Limits(), Owner("r", "n", 1, 1)) as sandbox:
        code = "import time\\ndef f(state):\\n    print(1)\\n    time.sleep(60)\\n"
        await sandbox.execute(Job(function=Source("f", code)), b"{}", timeout_s=60, on_log=tell)

asyncio.run(main())
"""


@pytest.fixture
def settings() -> Settings:
    return load_settings(deployment=f"test-{uuid.uuid4().hex[:12]}", pool_min=1)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = await asyncio.to_thread(find_engine, load_settings())
    yield client
    client.close()


async def containers(client: Client, settings: Settings, *, running: bool = False) -> list[str]:
    """Ids of the deployment's containers."""
    found = await asyncio.to_thread(
        client.containers, all=not running, filters={"label": f"sandgraph.deployment={settings.deployment}"}
    )
    return [each["Id"] for each in found]


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


async def drop(_: Sequence[LogLine]) -> None:
    pass


async def execute(sandbox: Sandbox, body: str = "pass", timeout_s: float = 10) -> Outcome:
    source = Source("f", "import os, time\ndef f(state):\n    " + body.replace("\n", "\n    ") + "\n")
    return await sandbox.execute(Job(function=source), b"{}", timeout_s=timeout_s, on_log=drop)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(settings)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.mark.parametrize("body", ["pass", "1 / 0", "os._exit(0)", "time.sleep(60)", "print('x' * 10**7)"])
async def test_however_it_ends_the_container_is_removed(settings: Settings, client: Client, body: str) -> None:
    async with opened(settings) as pool:
        async with pool.lease(LIMITS, OWNER) as sandbox:
            await execute(sandbox, body, timeout_s=0.5)
        async with asyncio.timeout(2):
            while sandbox.sandbox_id in await containers(client, settings):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    assert await containers(client, settings) == []


@pytest.mark.parametrize("limits", [LIMITS, Limits(memory_mb=128), Limits(tmp_mb=2)], ids=["warm", "updated", "cold"])
async def test_cancelled_at_any_moment_nothing_is_left(settings: Settings, client: Client, limits: Limits) -> None:
    async def attempt() -> None:
        async with pool.lease(limits, OWNER) as sandbox:
            await execute(sandbox, "time.sleep(60)", timeout_s=60)

    async with opened(settings) as pool:
        for pause in (0, 0.01, 0.03, 0.1, 0.2, 0.4):
            task = asyncio.create_task(attempt())
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert pool.facts()["leased"] == 0
    assert await containers(client, settings) == []


async def test_closing_under_load_leaves_nothing(settings: Settings, client: Client) -> None:
    async def attempt() -> Outcome:
        async with pool.lease(LIMITS, OWNER) as sandbox:
            return await execute(sandbox, "time.sleep(60)", timeout_s=60)

    async with opened(settings) as pool:
        attempts = [asyncio.create_task(attempt()) for _ in range(4)]
        await until(lambda: pool.facts()["leased"] in {2, 3, 4})
    ended = await asyncio.wait_for(asyncio.gather(*attempts, return_exceptions=True), 5)
    assert await containers(client, settings) == []
    lost = [each for each in ended if isinstance(each, Broken)]
    assert {each.status for each in lost} == {AttemptStatus.LOST}
    assert len(lost) + len([each for each in ended if isinstance(each, EngineUnavailable)]) == 4


@pytest.mark.parametrize("way", ["kill", "remove"])
async def test_an_attempt_whose_container_is_taken_away_is_lost(settings: Settings, client: Client, way: str) -> None:
    async with opened(settings) as pool, pool.lease(LIMITS, OWNER) as sandbox:
        running = asyncio.create_task(execute(sandbox, "time.sleep(60)", timeout_s=60))
        await asyncio.sleep(0.2)
        if way == "kill":
            await asyncio.to_thread(client.kill, sandbox.sandbox_id)
        else:
            await asyncio.to_thread(client.remove_container, sandbox.sandbox_id, force=True)
        outcome = await asyncio.wait_for(running, 5)
    assert isinstance(outcome, Broken)
    assert outcome.status is AttemptStatus.LOST


async def test_warm_ones_that_are_taken_away_are_replaced(settings: Settings, client: Client) -> None:
    async with opened(settings) as pool:
        await until(lambda: pool.facts()["waiting"] == 1)
        (warm,) = await containers(client, settings)
        await asyncio.to_thread(client.kill, warm)
        async with pool.lease(LIMITS, OWNER) as sandbox:
            assert sandbox.sandbox_id != warm
            assert isinstance(await execute(sandbox), Succeeded)


async def test_what_a_killed_process_left_dies_by_itself_and_is_reaped(settings: Settings, client: Client) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CRASHING, settings.deployment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"running\n"
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    left = await containers(client, settings)
    assert len(left) >= 2
    # Nobody has to kill them: their supervisors see the end of stdin.
    async with asyncio.timeout(5):
        while await containers(client, settings, running=True):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    async with opened(settings) as pool:
        assert not set(left) & set(await containers(client, settings))
        async with pool.lease(LIMITS, OWNER) as sandbox:
            assert isinstance(await execute(sandbox), Succeeded)
    assert await containers(client, settings) == []


@pytest.fixture
async def cable(tmp_path: Path) -> AsyncIterator[Cable]:
    async with plugged(tmp_path) as cable:
        yield cable


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the SDK forgets to close a socket that does not connect
async def test_an_engine_that_goes_away_and_comes_back(settings: Settings, client: Client, cable: Cable) -> None:
    through = settings.model_copy(update={"docker_host": f"unix://{cable.path}", "pool_min": 2})
    async with opened(through) as pool:
        await until(lambda: pool.facts()["waiting"] == 2)
        async with pool.lease(LIMITS, OWNER) as sandbox:
            running = asyncio.create_task(execute(sandbox, "time.sleep(60)", timeout_s=60))
            await asyncio.sleep(0.2)
            await cable.pull()
            outcome = await asyncio.wait_for(running, 30)
        assert isinstance(outcome, Broken)
        assert outcome.status is AttemptStatus.LOST
        waits = asyncio.create_task(_succeeds(pool))
        await asyncio.sleep(1)
        assert not waits.done(), "a lease waits for an engine that is away for a moment"
        await cable.plug()
        assert await asyncio.wait_for(waits, 30)
        await until(lambda: pool.facts()["waiting"] == 2, 30)
    assert await containers(client, settings) == []
    gc.collect()


async def _succeeds(pool: SandboxPool) -> bool:
    async with pool.lease(LIMITS, OWNER) as sandbox:
        return isinstance(await execute(sandbox), Succeeded)


async def test_a_missing_runtime_is_an_error_at_the_start(settings: Settings) -> None:
    pool = SandboxPool(settings.model_copy(update={"runtime": "no-such-runtime"}))
    with pytest.raises(EngineUnavailable, match="no runtime 'no-such-runtime'"):
        await pool.start()
    await pool.close()


async def test_a_missing_image_is_an_error_at_the_start(settings: Settings) -> None:
    pool = SandboxPool(settings.model_copy(update={"runner_image": "sandgraph.invalid/nothing:0"}))
    with pytest.raises(EngineUnavailable, match="make setup"):
        await pool.start()
    await pool.close()


async def test_a_deployment_does_not_touch_anothers_sandboxes(settings: Settings, client: Client) -> None:
    async with opened(settings) as pool:
        await until(lambda: pool.facts()["waiting"] == 1)
        before = await containers(client, settings)
        async with opened(settings.model_copy(update={"deployment": settings.deployment + "-b"})):
            pass
        assert await containers(client, settings) == before
