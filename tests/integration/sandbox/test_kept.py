"""One sandbox for the attempts of a run, on a real engine: what one leaves, the next does not find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from sandgraph.model.limits import Isolation, Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.model.state import SetKey
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Succeeded
from sandgraph.settings import Settings
from sandgraph_runner.protocol import Job, Source
from sandgraph_runner.wipe import WRITABLE

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

Step = Callable[..., Awaitable[tuple[str, Outcome]]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def pool(engine_settings: Settings, nothing_left: None, anyio_backend: str) -> AsyncIterator[SandboxPool]:  # noqa: ARG001
    pool = SandboxPool(engine_settings)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
async def step(pool: SandboxPool, request: pytest.FixtureRequest) -> AsyncIterator[Step]:
    """Runs function bodies as attempts of one run that keeps its sandbox."""
    run_id = request.node.name

    async def drop(_: Sequence[LogLine]) -> None:
        pass

    async def step(body: str, limits: Limits | None = None, timeout_s: float = 20) -> tuple[str, Outcome]:
        code = "def f(state):\n" + "\n".join(f"    {line}" for line in body.splitlines())
        job = Job(function=Source("f", code))
        owner = Owner(run_id, "n", 1, 1)
        async with pool.lease(limits or Limits(), owner, isolation=Isolation.RUN) as sandbox:
            return sandbox.sandbox_id, await sandbox.execute(job, b"{}", timeout_s=timeout_s, on_log=drop)

    yield step
    await pool.end_run(run_id)


def changes(outcome: Outcome) -> dict[str, object]:
    assert isinstance(outcome, Succeeded), outcome
    return {op.key: op.value for op in outcome.diff.ops if isinstance(op, SetKey)}


async def test_attempts_follow_each_other_and_leave_nothing(step: Step) -> None:
    leave = """
import builtins, os, socket, subprocess, sys, threading
os.makedirs("/tmp/deep/" + "/".join("d" * 50 for _ in range(60)))
os.chmod("/tmp/deep", 0)
open("/dev/shm/left", "w").close()
os.mkfifo("/tmp/fifo")
os.symlink("/", "/tmp/link")
os.umask(0)
builtins.left = sys.left = 1
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(b"\\0left")
listening = socket.create_server(("127.0.0.1", 4321))
os.fork() or os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
threading.Thread(target=threading.Event().wait).start()
return {"left": True}"""
    look = """
import builtins, os, socket, sys
found = [f"{place}/{name}" for place in ("/tmp", "/dev/shm") for name in os.listdir(place)]
found += [f"process {name}" for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
found += [name for name in ("left",) if hasattr(builtins, name) or hasattr(sys, name)]
if (mask := os.umask(0o22)) != 0o22: found.append(f"umask {mask:o}")
with socket.socket(socket.AF_UNIX) as abstract: abstract.bind(b"\\0left")
try: socket.create_connection(("127.0.0.1", 4321), 1)
except ConnectionRefusedError: pass
else: found.append("a listener")
return {"found": found}"""
    first, outcome = await step(leave)
    assert changes(outcome) == {"left": True}
    second, outcome = await step(look)
    assert changes(outcome) == {"found": []}
    assert first == second


async def test_every_place_that_can_be_written_to_is_wiped(step: Step) -> None:
    body = """
import os
mounts = [line.split() for line in open("/proc/self/mountinfo")]
places = {each[4] for each in mounts if "rw" in each[5].split(",")}
return {"places": sorted(place for place in places if os.access(place, os.W_OK) and not place.startswith("/proc"))}"""
    _, outcome = await step(body)
    places = changes(outcome)["places"]
    assert isinstance(places, list)
    # Queues cannot be made: their number is limited to none.
    assert set(places) - {"/dev/mqueue"} == set(WRITABLE)


async def test_it_ends_with_what_ends_out_of_order(step: Step) -> None:
    first, outcome = await step("import os; os._exit(0)")
    assert isinstance(outcome, Broken)
    assert outcome.status is AttemptStatus.NO_RESULT
    second, outcome = await step("return {'fine': True}")
    assert changes(outcome) == {"fine": True}
    assert first != second


async def test_each_attempt_is_charged_its_own(step: Step) -> None:
    _, heavy = await step("x = bytearray(60 << 20)\nimport time\nwhile time.process_time() < 0.3: pass")
    _, light = await step("pass")
    assert heavy.usage.cpu_s is not None
    assert light.usage.cpu_s is not None
    assert heavy.usage.cpu_s > 0.25
    assert light.usage.cpu_s < 0.1
    assert heavy.usage.peak_memory_bytes is not None
    assert light.usage.peak_memory_bytes is not None
    assert heavy.usage.peak_memory_bytes > 60 << 20 > light.usage.peak_memory_bytes > 1 << 20


async def test_what_was_used_by_one_that_was_killed_is_known_too(step: Step) -> None:
    body = """
import threading
x = bytearray(40 << 20)
for _ in range(9): threading.Thread(target=threading.Event().wait).start()
while True: pass"""
    _, outcome = await step(body, timeout_s=1.5)
    assert isinstance(outcome, Broken)
    assert outcome.status is AttemptStatus.TIMEOUT
    usage = outcome.usage
    assert usage.cpu_s is not None
    assert usage.cpu_s > 0.3
    assert usage.peak_memory_bytes is not None
    assert usage.peak_memory_bytes > 40 << 20
    assert usage.pids_peak is not None
    assert usage.pids_peak >= 11
    assert 1.5 <= usage.wall_s < 4


async def test_as_many_sandboxes_as_attempts_at_one_time(step: Step) -> None:
    ended = await asyncio.gather(*(step("import time; time.sleep(0.5)") for _ in range(2)))
    assert len({sandbox_id for sandbox_id, _ in ended}) == 2
    again, _ = await step("pass")
    assert again in {sandbox_id for sandbox_id, _ in ended}
