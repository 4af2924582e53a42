"""What a sandbox really is, seen by the engine from outside and by submitted code from inside."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sandgraph.model.limits import FLOOR, Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.model.state import SetKey
from sandgraph.sandbox.engine import Client, find_engine
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Succeeded
from sandgraph.settings import Settings, load_settings
from sandgraph_runner.protocol import Job, Source

pytestmark = pytest.mark.anyio

OWNER = Owner("run-1", "node", 1, 1)
MIB = 2**20


@pytest.fixture(scope="module")
async def pool(engine_settings: Settings, nothing_left: None, anyio_backend: str) -> AsyncIterator[SandboxPool]:  # noqa: ARG001
    pool = SandboxPool(engine_settings)
    await pool.start()
    yield pool
    await pool.close()


@dataclass
class Attempt:
    outcome: Outcome
    printed: list[str]
    seconds: float
    sandbox_id: str

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        assert isinstance(self.outcome, Succeeded), self.outcome
        (op,) = self.outcome.diff.ops
        assert isinstance(op, SetKey)
        return op.value

    @property
    def status(self) -> AttemptStatus:
        assert isinstance(self.outcome, Broken), self.outcome
        return self.outcome.status

    @property
    def message(self) -> str:
        assert isinstance(self.outcome, Broken), self.outcome
        return self.outcome.failure.message


Run = Callable[..., Awaitable[Attempt]]


@pytest.fixture
def run(pool: SandboxPool) -> Run:
    """Runs a function body that returns a value."""

    async def run(body: str, limits: Limits | None = None, timeout_s: float = 10) -> Attempt:
        limits = limits or Limits()
        printed: list[str] = []

        async def keep(lines: Sequence[LogLine]) -> None:
            printed.extend(line.text for line in lines)

        code = "def probe():\n" + "\n".join(f"    {line}" for line in body.splitlines())
        code += "\ndef f(state):\n    return {'value': probe()}\n"
        job = Job(function=Source("f", code), max_output_bytes=limits.output_kb * 1024)
        async with pool.lease(limits, OWNER) as sandbox:
            began = time.monotonic()
            outcome = await sandbox.execute(job, b"{}", timeout_s=timeout_s, on_log=keep)
            return Attempt(outcome, printed, time.monotonic() - began, sandbox.sandbox_id)

    return run


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = await asyncio.to_thread(find_engine, load_settings())
    yield client
    client.close()


@pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(cpus=0.5, memory_mb=96, pids=20), Limits(tmp_mb=3, memory_mb=64)],
    ids=["warm", "updated", "cold"],
)
async def test_what_the_engine_says_of_it(pool: SandboxPool, client: Client, limits: Limits) -> None:
    async with pool.lease(limits, OWNER) as sandbox:
        found = await asyncio.to_thread(client.inspect_container, sandbox.sandbox_id)
    host, config = found["HostConfig"], found["Config"]
    assert (host["Memory"], host["MemorySwap"]) == (limits.memory_mb * MIB, limits.memory_mb * MIB)
    assert (host["NanoCpus"], host["PidsLimit"]) == (limits.cpus * 10**9, limits.pids)
    # Less than what other containers have.
    assert 0 < host["CpuShares"] < 1024
    assert f"size={limits.tmp_mb * MIB}" in host["Tmpfs"]["/tmp"]
    assert (host["NetworkMode"], host["IpcMode"], host["CgroupnsMode"]) == ("none", "private", "private")
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert host["SecurityOpt"][1].startswith("seccomp={")
    assert (host["LogConfig"]["Type"], host["RestartPolicy"]["Name"]) == ("none", "no")
    assert (host["Binds"], found["Mounts"]) == (None, [])
    assert config["User"] == "65534:65534"
    assert found["Image"].startswith("sha256:")
    assert found["Image"] == pool.facts()["image"]


async def test_what_it_says_of_itself(run: Run) -> None:
    body = """
import os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
mounts = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/mounts")}
return {
    "status": {key: status[key].strip() for key in ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
    "root": mounts["/"][0],
    "tmp": mounts["/tmp"],
    "shm": mounts["/dev/shm"],
    "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "CORE", "FSIZE")},
    "interfaces": os.listdir("/sys/class/net"),
    "routes": len(open("/proc/net/route").read().splitlines()) - 1,
    "env": dict(os.environ),
    "host": os.uname().nodename,
    "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
}"""
    said = (await run(body)).value
    assert said["status"] == {
        "Uid": "65534\t65534\t65534\t65534",
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    assert said["root"] == "ro"
    for mount in ("tmp", "shm"):
        assert {"rw", "nosuid", "nodev", "noexec"} <= set(said[mount])
    assert "size=16384k" in said["tmp"]
    assert "nr_inodes=4096" in said["tmp"]
    assert said["limits"] == {"NOFILE": [1024, 1024], "CORE": [0, 0], "FSIZE": [16 * MIB, 16 * MIB]}
    assert said["interfaces"] == ["lo"]
    assert said["routes"] == 0
    assert said["host"] == "sandbox"
    assert not [name for name in said["env"] if "SANDGRAPH" in name.upper() or "PROXY" in name.upper()]
    assert said["processes"][0] == 1
    assert len(said["processes"]) == 2


@pytest.mark.parametrize("limits", [FLOOR, replace(FLOOR, tmp_mb=Limits().tmp_mb)], ids=["cold", "updated"])
async def test_the_smallest_limits_still_run_something(run: Run, limits: Limits) -> None:
    assert (await run("print('x')\nreturn 1", limits)).value == 1


@pytest.mark.parametrize(
    ("attempt", "refused_with"),
    [
        ("open('/etc/x', 'w')", {"OSError", "PermissionError"}),
        ("open('/opt/sandgraph/sandgraph_runner/protocol.py', 'a')", {"OSError", "PermissionError"}),
        ("open('/proc/1/environ').read()", {"PermissionError"}),
        ("open('/proc/1/mem', 'rb')", {"PermissionError"}),
        ("os.listdir('/proc/1/fd')", {"PermissionError"}),
        ("open('/proc/sys/kernel/core_pattern', 'w')", {"OSError", "PermissionError"}),
        ("open('/dev/sda')", {"FileNotFoundError"}),
        ("os.mknod('/tmp/x', 0o60600, os.makedev(8, 0))", {"PermissionError"}),
        ("os.setuid(0)", {"PermissionError"}),
        ("os.chroot('/tmp')", {"PermissionError"}),
        ("socket.create_connection(('sandgraph.invalid', 80), 2)", {"gaierror"}),
        ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", {"PermissionError"}),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))", {"ValueError", "PermissionError"}),
        (
            "os.write(os.open('/tmp/x', os.O_CREAT | os.O_WRONLY), b'x' * 17 * 2**20) == 17 * 2**20 or 1/0",
            {"ZeroDivisionError", "OSError"},
        ),
        ("[open(f'/tmp/{n}', 'w').close() for n in range(5000)]", {"OSError"}),
        ("open('/dev/shm/x', 'wb').write(b'x' * 2 * 2**20)", {"OSError"}),
        ("[open('/dev/null') for n in range(2000)].clear()", {"OSError"}),
    ],
)
async def test_what_is_refused(run: Run, attempt: str, refused_with: set[str]) -> None:
    body = f"""
import os, resource, socket
try:
    {attempt}
except Exception as error:
    return type(error).__name__
return "done" """
    assert (await run(body)).value in refused_with


async def test_what_must_work_does(run: Run) -> None:
    body = """
import asyncio, concurrent.futures, ctypes, decimal, hashlib, json, multiprocessing, os, pathlib, sqlite3, ssl
import subprocess, sys, tempfile, threading, time, zipfile
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "x.txt")
    path.write_text("hello")
    assert path.read_text() == "hello"
    database = sqlite3.connect(pathlib.Path(folder, "x.db"))
    database.execute("create table t (x)")
    database.commit()
    database.close()
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    assert sum(threads.map(lambda n: n * n, range(10))) == 285
with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as processes:
    assert list(processes.map(abs, [-1, 2])) == [1, 2]
assert subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\\n"
assert asyncio.run(asyncio.sleep(0, 7)) == 7
assert len(os.urandom(8)) == 8
return "fine"
"""
    assert (await run(body)).value == "fine"


async def test_memory_that_runs_out(run: Run) -> None:
    attempt = await run("x = [b'x' * n for n in range(10**6, 10**6 + 1000)]\nreturn 1", Limits(memory_mb=64))
    assert attempt.status is AttemptStatus.OOM
    assert attempt.message == "It used more than its 64 MiB of memory and was killed by the kernel."


async def test_a_grandchild_out_of_memory_is_not_the_attempt(run: Run) -> None:
    body = """
import subprocess, sys
done = subprocess.run([sys.executable, "-c", "x = [b'x' * n for n in range(10**6, 10**6 + 1000)]"])
return done.returncode"""
    attempt = await run(body, Limits(memory_mb=64))
    assert attempt.value == -9
    assert isinstance(attempt.outcome, Succeeded)
    assert attempt.outcome.usage.oom_kills == 1


async def test_tmp_counts_as_memory(run: Run) -> None:
    attempt = await run(
        "open('/tmp/x', 'wb').write(b'x' * 2**25)\nreturn [b'x' * n for n in range(2**22, 2**22 + 9)] and 1",
        Limits(memory_mb=48, tmp_mb=64),
    )
    assert attempt.status is AttemptStatus.OOM


async def test_a_fork_bomb_is_contained(run: Run) -> None:
    body = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass"""
    attempt = await run(body, Limits(pids=20, memory_mb=128), timeout_s=1)
    assert attempt.status is AttemptStatus.TIMEOUT
    assert attempt.seconds < 3


async def test_the_number_of_processes_and_threads(run: Run) -> None:
    body = """
import threading, time
count = 0
try:
    for _ in range(100):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        count += 1
except RuntimeError:
    return count
return -1"""
    assert (await run(body, Limits(pids=20))).value in range(10, 20)


async def test_half_a_cpu_is_half_a_cpu(run: Run) -> None:
    body = """
import time
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < 1: pass
return time.process_time() - used"""
    assert (await run(body, Limits(cpus=0.25))).value < 0.5


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)",
        "import os\nif os.fork(): os.wait()\nelse:\n    while True: pass",
    ],
    ids=["busy", "deaf", "grandchild"],
)
async def test_at_the_deadline_everything_is_killed(run: Run, client: Client, body: str) -> None:
    attempt = await run(body, timeout_s=0.5)
    assert attempt.status is AttemptStatus.TIMEOUT
    assert attempt.seconds < 2.5
    await until_gone(client, attempt.sandbox_id)


async def until_gone(client: Client, sandbox_id: str) -> None:
    """Wait, two seconds at most, until the engine does not run this container any more."""

    def is_running() -> bool:
        return bool(client.containers(filters={"id": sandbox_id}))

    async with asyncio.timeout(2):
        while await asyncio.to_thread(is_running):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_a_flood_of_output(run: Run) -> None:
    attempt = await run("while True: print('x' * 1000)", Limits(output_kb=64))
    assert attempt.status is AttemptStatus.OUTPUT_LIMIT
    assert attempt.seconds < 3
    assert sum(len(text) + 1 for text in attempt.printed) <= 64 * 1024 + 1


async def test_an_endless_line(run: Run) -> None:
    attempt = await run("import sys\nwhile True: sys.stdout.write('x' * 65536)", Limits(output_kb=256))
    assert attempt.status is AttemptStatus.OUTPUT_LIMIT
    assert [len(text) for text in attempt.printed] == [16 * 1024]


async def test_a_printed_frame_is_text(run: Run) -> None:
    body = """
import os, struct
meta = b'{"reason":"","message":"","used":{"cpu_s":0,"peak_memory_bytes":0,"pids_peak":0,"oom_kills":0},'
meta += b'"output_bytes":0,"exit_code":null,"signal":null}'
body = b'{"ops":[{"op":"set","key":"value","value":"forged"}],"entered":true,"again":null,"after":[]}'
frame = struct.pack(">IBI", 4 + len(meta) + len(body), 19, len(meta)) + meta + body
for fd in (1, 2):
    os.write(fd, frame + b"\\n")
return "true" """
    attempt = await run(body)
    assert attempt.value == "true"
    assert len([text for text in attempt.printed if "forged" in text]) == 2


async def test_frames_to_every_descriptor_change_nothing_but_its_own_result(run: Run) -> None:
    body = """
import os
for fd in range(3, 256):
    try:
        os.write(fd, b"R" * 64)
    except OSError:
        pass
return "true" """
    attempt = await run(body)
    if isinstance(attempt.outcome, Broken):
        assert attempt.status in {AttemptStatus.RESULT_INVALID, AttemptStatus.NO_RESULT}


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP", "SIGTERM", "SIGINT", "SIGSEGV"])
async def test_the_supervisor_stands(run: Run, number: str) -> None:
    body = (
        f"import os, signal, time\nfor _ in range(5):\n    os.kill(1, signal.{number})\ntime.sleep(0.1)\nreturn 'alive'"
    )
    assert (await run(body)).value == "alive"


async def test_killing_everyone_kills_itself_alone(run: Run) -> None:
    attempt = await run("import os\nif os.fork():\n    os.kill(-1, 9)\n    os.kill(os.getpid(), 9)\nos.wait()")
    assert attempt.status is AttemptStatus.KILLED


@pytest.mark.parametrize(("code", "said"), [(0, "code 0"), (3, "code 3"), (124, "code 124"), (137, "code 137")])
async def test_an_exit_is_no_result_whatever_its_code(run: Run, code: int, said: str) -> None:
    attempt = await run(f"import os\nos._exit({code})")
    assert attempt.status is AttemptStatus.NO_RESULT
    assert said in attempt.message
    assert attempt.outcome.usage.exit_code == code


async def test_stdin_is_empty(run: Run) -> None:
    assert (await run("import sys\nreturn sys.stdin.read()")).value == ""


async def test_nothing_of_the_last_job_is_left(run: Run) -> None:
    leave = "import os, time\nopen('/tmp/x', 'w').write('secret')\nif os.fork() == 0:\n    time.sleep(60)\nreturn 1"
    assert (await run(leave)).value == 1
    look = """
import os
return [os.listdir("/tmp"), os.listdir("/dev/shm"), len([name for name in os.listdir("/proc") if name.isdigit()])]"""
    for _ in range(3):
        assert (await run(look)).value == [[], [], 2]


async def test_usage_is_the_kernels(run: Run) -> None:
    body = """
import subprocess, sys
x = b"x" * 2**26
subprocess.run([sys.executable, "-c", "for i in range(3 * 10**6): pass"])
return 1"""
    attempt = await run(body)
    assert isinstance(attempt.outcome, Succeeded)
    usage = attempt.outcome.usage
    assert usage.cpu_s is not None
    assert 0.03 < usage.cpu_s < 5
    assert usage.peak_memory_bytes is not None
    assert usage.peak_memory_bytes > 2**26
    assert json.dumps(usage.wall_s)
