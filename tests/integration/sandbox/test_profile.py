"""The profile against the real kernel: what Python needs works, and what is not on the allow-list is refused.

What runs here is no attempt: a bare container with the whole profile of one, so that nothing else can be the reason.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandgraph.model.limits import Limits
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.kinds import is_gvisor
from sandgraph.sandbox.observed import EngineFacts
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.profile import Image, container_config, load_seccomp
from sandgraph.sandbox.reaper import DEPLOYMENT_LABEL
from sandgraph.sandbox.spec import Owner, Succeeded
from sandgraph.settings import Settings
from sandgraph_runner.protocol import Job, Source

pytestmark = pytest.mark.anyio

LIMITS = Limits(cpus=2, memory_mb=256, pids=96, tmp_mb=32)

#: Numbers and names of x86-64's calls, so far as this kernel's headers or later ones name them.
CALLS = {
    int(number): name
    for number, name in (
        line.split()
        for line in (Path(__file__).parent / "syscalls_x86_64.txt").read_text(encoding="ascii").splitlines()
    )
}

#: Where the kernel's own probes return to; SIGILL for whoever has none.
UPROBES = (335, 336)

#: The last of Linux 5.17: libraries that make filters know it and what was there before.
NEWEST_OLD_CALL = 450

#: Like an attempt's child, it is not PID 1 and has an empty main module; like the supervisor, PID 1 waits for it.
PRELUDE = """
import os, sys
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
import json, types
main = sys.modules["__main__"] = types.ModuleType("__main__")
"""

#: Each function is one thing that has to work; its name is that of the test.
WORKS = r"""
import asyncio, concurrent.futures, ctypes, decimal, errno, faulthandler, fcntl, gc, glob, gzip, hashlib
import logging.handlers, mmap, multiprocessing, multiprocessing.shared_memory, operator, pathlib, pty, random, resource
import secrets, select, selectors, shutil, signal, socket, sqlite3, ssl, subprocess, tempfile, threading, time
import traceback, tracemalloc, uuid, zipfile

def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(abs, range(100))) == 4950
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert event.wait(5)

def thread_with_a_stack_of_its_own():
    threading.stack_size(4 << 20)
    try:
        thread = threading.Thread(target=time.sleep, args=(0,))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(0)

def _pool(method):
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(abs, [-1, -2, 3]) == [1, 2, 3]
    with context.Manager() if method == "fork" else context.Lock():
        pass
    queue, value = context.Queue(), context.Value("i", 1)
    process = context.Process(target=operator.setitem, args=({}, 1, 2))
    process.start()
    process.join(10)
    assert process.exitcode == 0
    queue.put(1)
    assert queue.get(timeout=5) == value.value
    queue.close()
    queue.join_thread()

def multiprocessing_by_fork():
    _pool("fork")

def multiprocessing_by_spawn():
    _pool("spawn")

def multiprocessing_by_forkserver():
    _pool("forkserver")

def process_pool_executor():
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-3])) == [3]

def shared_memory():
    block = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    block.buf[0] = 7
    again = multiprocessing.shared_memory.SharedMemory(block.name)
    assert again.buf[0] == 7
    again.close()
    block.close()
    block.unlink()

def asyncio_and_its_subprocesses():
    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6 * 7)", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert out == b"42\n" and process.returncode == 0
        assert await asyncio.to_thread(abs, -1) == 1
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, done.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(done.wait(), 5)
    done = asyncio.Event()
    asyncio.run(main())

def asyncio_over_loopback():
    async def main():
        async def answer(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
        for host in ("127.0.0.1", "::1"):
            try:
                server = await asyncio.start_server(answer, host, 0)
            except OSError as error:
                if host == "::1" and error.errno == errno.EADDRNOTAVAIL:
                    continue  # a host without IPv6
                raise
            async with server:
                reader, writer = await asyncio.open_connection(host, server.sockets[0].getsockname()[1])
                writer.write(b"hello\n")
                assert await reader.readline() == b"hello\n"
                writer.close()
    asyncio.run(main())

def datagrams_and_unix_sockets():
    a, b = socket.socketpair()
    a.sendmsg([b"x"])
    assert b.recvmsg(1)[0] == b"x"
    with tempfile.TemporaryDirectory() as folder:
        server = socket.socket(socket.AF_UNIX)
        server.bind(folder + "/s")
        server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(folder + "/s")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.sendto(b"y", udp.getsockname())
    assert udp.recvfrom(1)[0] == b"y"
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    socket.send_fds(a, [b"f"], [0])
    assert len(socket.recv_fds(b, 1, 1)[1]) == 1

def subprocesses():
    assert subprocess.check_output(["sh", "-c", "echo $((6 * 7)) | cat"], text=True) == "42\n"
    aborts = [sys.executable, "-c", "import os; os.abort()"]
    assert subprocess.run(aborts, cwd="/tmp", start_new_session=True).returncode == -signal.SIGABRT
    try:
        subprocess.run(["sleep", "5"], timeout=0.05)
    except subprocess.TimeoutExpired:
        pass
    assert os.system("exit 3") >> 8 == 3
    assert os.posix_spawnp("true", ["true"], {"PATH": os.defpath}) > 0
    os.wait()

def a_terminal():
    leader, follower = pty.openpty()
    os.write(leader, b"x\n")
    assert os.isatty(follower) and os.read(follower, 2) == b"x\n"

def sqlite():
    for mode in ("delete", "wal"):
        database = sqlite3.connect(f"/tmp/{mode}.db")
        database.execute(f"pragma journal_mode={mode}")
        database.execute("create table t (x)")
        with database:
            database.executemany("insert into t values (?)", [(n,) for n in range(1000)])
        database.execute("vacuum")
        assert database.execute("select sum(x) from t").fetchone() == (499500,)
        database.close()

def memory_maps():
    with mmap.mmap(-1, 1 << 20) as anonymous:
        anonymous[0] = 1
        anonymous.madvise(mmap.MADV_DONTNEED)
        anonymous.resize(2 << 20)
    with open("/tmp/mapped", "wb+") as file:
        file.truncate(8192)
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:2] = b"hi"
            mapped.flush()
        assert file.read(2) == b"hi"

def memory_that_is_executed():
    # As compilers at run time make it.
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x2a\x00\x00\x00\xc3" if os.uname().machine == "x86_64" else b"\x40\x05\x80\x52\xc0\x03\x5f\xd6")
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == 42

def signals_alarms_and_timers():
    got = []
    for number in (signal.SIGALRM, signal.SIGUSR2, signal.SIGVTALRM):
        signal.signal(number, lambda number, _: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.alarm(1)
    signal.alarm(0)
    signal.raise_signal(signal.SIGUSR2)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)
    end = time.monotonic() + 5
    while signal.SIGVTALRM not in got and time.monotonic() < end:
        pass
    assert got == [signal.SIGALRM, signal.SIGUSR2, signal.SIGVTALRM]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1
    signal.pthread_kill(threading.get_ident(), 0)
    if hasattr(os, "timerfd_create"):
        timer = os.timerfd_create(time.CLOCK_MONOTONIC)
        os.timerfd_settime(timer, initial=0.001)
        assert os.read(timer, 8)

def pidfds():
    child = os.fork()
    if child == 0:
        signal.pause()
    signal.pidfd_send_signal(fd := os.pidfd_open(child), signal.SIGKILL)
    assert select.select([fd], [], [], 5)[0]
    assert os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status == signal.SIGKILL

def foreign_functions():
    libc = ctypes.CDLL(None)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    libc.qsort(numbers, 3, 4, compare(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3]

def copies_within_the_kernel():
    with open("/tmp/from", "wb+") as source, open("/tmp/to", "wb+") as target:
        source.write(b"x" * 100_000)
        source.flush()
        assert os.sendfile(target.fileno(), source.fileno(), 0, 1000) == 1000
        assert os.copy_file_range(source.fileno(), target.fileno(), 1000, 0) == 1000
        reader, writer = os.pipe()
        assert os.splice(source.fileno(), writer, 1000, 0) == 1000
    shutil.copy2("/tmp/from", "/tmp/copy")
    shutil.copytree(os.path.dirname(json.__file__), "/tmp/tree")
    shutil.rmtree("/tmp/tree")

def waiting_in_every_way():
    reader, writer = os.pipe()
    os.write(writer, b"x")
    assert select.select([reader], [], [], 1)[0]
    poll = select.poll()
    poll.register(reader)
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    assert poll.poll(100) and epoll.poll(1) and selectors.DefaultSelector().register(reader, 1)
    if hasattr(os, "eventfd"):
        os.eventfd_write(event := os.eventfd(0), 1)
        assert os.eventfd_read(event) == 1

def locks_on_files():
    with open("/tmp/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_NONBLOCK)

def files_of_every_kind():
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as unnamed:
        unnamed.write(b"x")
        folder = pathlib.Path(name)
        (folder / "a").write_text("a")
        (folder / "b").symlink_to("a")
        (folder / "c").hardlink_to(folder / "a")
        os.mkfifo(folder / "fifo")
        os.chmod(folder / "a", 0o600)
        os.utime(folder / "a", (1, 1))
        os.replace(folder / "a", folder / "d")
        os.truncate(folder / "d", 0)
        os.posix_fallocate(unnamed.fileno(), 0, 4096)
        os.posix_fadvise(unnamed.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.fsync(unnamed.fileno())
        os.sync()
        os.preadv(unnamed.fileno(), [bytearray(1)], 0)
        assert len(list(folder.iterdir())) == 4 and len(glob.glob(name + "/*")) == 4
        assert shutil.disk_usage(name).free and os.statvfs(name).f_files
        with zipfile.ZipFile(folder / "z", "w") as archive, gzip.open(folder / "g", "w") as packed:
            archive.writestr("x", "y")
            packed.write(b"z")

def numbers_times_and_secrets():
    import zoneinfo
    assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")
    zoneinfo.available_timezones()
    time.sleep(0.001)
    time.localtime()
    assert time.get_clock_info("perf_counter") and time.thread_time() >= 0 and time.process_time() > 0
    assert os.urandom(8) and secrets.token_hex() and uuid.uuid4() and random.SystemRandom().random() >= 0
    hashlib.scrypt(b"x", salt=b"y", n=2, r=8, p=1)

def ssl_contexts():
    ssl.create_default_context()
    ssl.RAND_bytes(8)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers("ECDHE+AESGCM")

def one_s_own_limits_and_priorities():
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss and os.cpu_count() and os.getloadavg()
    os.nice(1)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.umask(os.umask(0o77))
    assert os.getuid() == os.getgid() == 65534 and os.getgroups() in ([], [65534]) and os.uname() and os.getsid(0)
    os.setuid(os.getuid())

def diagnosis():
    with open("/tmp/trace", "w") as file:
        faulthandler.enable(file)
        faulthandler.dump_traceback(file)
        faulthandler.dump_traceback_later(30, file=file)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
    tracemalloc.start()
    tracemalloc.take_snapshot()
    tracemalloc.stop()
    handler = logging.handlers.RotatingFileHandler("/tmp/log")
    handler.emit(logging.makeLogRecord({"msg": "x"}))
    handler.close()
    assert open("/proc/self/status").read() and os.listdir("/proc/self/fd")

said = {}
for name, function in list(globals().items()):
    if isinstance(function, types.FunctionType) and not name.startswith("_"):
        try:
            function()
            said[name] = "works"
        except BaseException:
            said[name] = traceback.format_exc()
print(json.dumps(said), flush=True)
os._exit(0)
"""

REFUSED = r"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    given = [ctypes.c_long(each) for each in (*arguments, *[0] * (6 - len(arguments)))]
    if libc.syscall(ctypes.c_long(number), *given) >= 0:
        return "done"
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))

print(json.dumps([call(*each) for each in CALLS]), flush=True)
os._exit(0)
"""

NEW = {
    "time": 0x80,
    "mounts": 0x20000,
    "cgroup": 0x2000000,
    "names": 0x4000000,
    "ipc": 0x8000000,
    "users": 0x10000000,
    "processes": 0x20000000,
    "network": 0x40000000,
}
NUMBERS = {name: number for number, name in CALLS.items()}
#: What is on the allow-list for some arguments only, with others.
BY_ARGUMENT = {
    **{
        f"clone into new {what}": (NUMBERS["clone"], flag | 17)
        for what, flag in NEW.items()
        # Not of clone's: there the lowest byte is the signal.
        if what != "time"
    },
    **{
        f"{call} of family {family}": (NUMBERS[call], family, 2 if call == "socket" else 1)
        for call in ("socket", "socketpair")
        # Netlink, packets, vsock, AF_ALG, keys, Bluetooth, CAN, XDP, and some that are only old.
        for family in (3, 4, 5, 8, 9, 15, 16, 17, 21, 29, 30, 31, 38, 40, 44)
    },
    "socketpair of the internet": (NUMBERS["socketpair"], 2, 1),
    "limits of another": (NUMBERS["prlimit64"], 1, 7),
    "affinity of another": (NUMBERS["sched_setaffinity"], 1),
    "scheduling of another": (NUMBERS["sched_setscheduler"], 1),
    "scheduling parameters of another": (NUMBERS["sched_setparam"], 1),
    "scheduling attributes of another": (NUMBERS["sched_setattr"], 1),
    "priority of another": (NUMBERS["setpriority"], 0, 1, 19),
    "priority of a user": (NUMBERS["setpriority"], 2, 0, 19),
    "I/O priority of another": (NUMBERS["ioprio_set"], 1, 1),
    "I/O priority of a user": (NUMBERS["ioprio_set"], 3, 0),
    "personality without address randomisation": (NUMBERS["personality"], 0x40000),
    "personality in which what is read is executed": (NUMBERS["personality"], 0x400000),
    "personality of another system": (NUMBERS["personality"], 6),
}


class Lab:
    """Runs Python in bare containers with the whole profile.

    Args:
        engine: A connected one.
        facts: What it is.
        deployment: The label that the containers carry.
    """

    def __init__(self, engine: Engine, facts: EngineFacts, deployment: str) -> None:
        self._engine = engine
        self._facts = facts
        self._labels = {DEPLOYMENT_LABEL: deployment}

    async def run(self, code: str) -> Any:  # noqa: ANN401 - JSON
        image = Image(self._facts.image_id, self._facts.runtime, load_seccomp())
        command = ["python3", "-I", "-S", "-B", "-c", PRELUDE + code]
        config = {**container_config(image, LIMITS, self._labels), "Entrypoint": command}
        container_id = await self._engine.create(f"sandgraph-profile-{uuid.uuid4().hex[:12]}", config)
        attached = None
        try:
            attached = await self._engine.attach(container_id)
            await self._engine.start(container_id)
            attached.settimeout(60)
            out, err = _read(attached)
        finally:
            if attached is not None:
                attached.close()
            await self._engine.remove(container_id)
        assert out, err
        return json.loads(out)


def _read(attached: socket.socket) -> tuple[str, str]:
    with attached.makefile("rb") as stream:
        streams = {1: b"", 2: b""}
        while header := stream.read(8):
            number, size = struct.unpack(">BxxxI", header)
            streams[number] += stream.read(size)
    return streams[1].decode(), streams[2].decode()


@pytest.fixture(scope="module")
async def lab(engine_settings: Settings, nothing_left: None, anyio_backend: str) -> AsyncIterator[Lab]:  # noqa: ARG001
    engine = Engine(engine_settings)
    try:
        facts = await engine.connect()
        if is_gvisor(facts.runtime):
            pytest.skip("Under gVisor the profile filters gVisor's own calls, not those of what runs in it.")
        yield Lab(engine, facts, engine_settings.deployment)
    finally:
        await engine.close()


@pytest.fixture(scope="module")
async def works(lab: Lab) -> dict[str, str]:
    said: dict[str, str] = await lab.run(WORKS)
    return said


of_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")


@pytest.mark.parametrize("what", re.findall(r"^def ([a-z]\w*)", WORKS, re.MULTILINE))
def test_what_python_needs_works(works: dict[str, str], what: str) -> None:
    assert works[what] == "works"


@of_x86_64
async def test_every_call_that_is_not_on_the_allow_list_is_refused(lab: Lab) -> None:
    listed = {name for rule in json.loads(load_seccomp())["syscalls"] for name in rule["names"]} - {"clone3"}
    # Also those that no kernel has yet; but for the two that end the caller, filter or not: they are the kernel's own.
    numbers = [number for number in range(600) if CALLS.get(number) not in listed and number not in UPROBES]
    said = await lab.run(f"CALLS = {[(number,) for number in numbers]}\n{REFUSED}")
    ends = dict(zip(numbers, said, strict=True))
    # Of clone3 the C library has to hear that there is none, and then takes clone. The OCI runtime says so too, of all
    # calls that its filters' library is too old to know.
    assert ends.pop(NUMBERS["clone3"]) == "ENOSYS"
    assert {end for number, end in ends.items() if number > NEWEST_OLD_CALL} <= {"EPERM", "ENOSYS"}
    wrong = {CALLS.get(number, number): end for number, end in ends.items() if number <= NEWEST_OLD_CALL}
    assert {name: end for name, end in wrong.items() if end != "EPERM"} == {}


@of_x86_64
async def test_calls_with_arguments_that_are_not_allowed_are_refused(lab: Lab) -> None:
    said = await lab.run(f"CALLS = {list(BY_ARGUMENT.values())}\n{REFUSED}")
    assert {what: end for what, end in zip(BY_ARGUMENT, said, strict=True) if end != "EPERM"} == {}


DERIVED = """
FROM {base}
USER 0:0
COPY packages {target}
USER 65534:65534
"""


@pytest.mark.parametrize("target", ["/opt/sandgraph/packages", "{site}", "/usr/lib/python3/dist-packages"])
async def test_packages_that_an_image_installs_can_be_imported(
    engine_settings: Settings, tmp_path: Path, target: str
) -> None:
    base, tag = engine_settings.runner_image, f"sandgraph-test-{uuid.uuid4().hex[:12]}"
    where = "import sys; print(f'{sys.prefix}/lib/python3.{sys.version_info.minor}/site-packages')"
    site = _docker("run", "--rm", "--entrypoint=python3", "--network=none", base, "-I", "-S", "-c", where).strip()
    package = tmp_path / "packages" / "greeting"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def greet(name):\n    return f'Hello, {name}'\n")
    # A package's name that the standard library has too must not win.
    (package.parent / "json.py").write_text("raise ImportError('shadowed')\n")
    (tmp_path / "Dockerfile").write_text(DERIVED.format(base=base, target=target.format(site=site)))
    _docker("build", "--quiet", f"--tag={tag}", str(tmp_path))
    try:
        settings = engine_settings.model_copy(update={"runner_image": tag, "pool_min": 0, "pool_max": 1})
        code = "import json\nfrom greeting import greet\ndef f(state):\n    state.set('said', greet('you'))\n"
        pool = SandboxPool(settings)
        try:
            await pool.start()
            async with pool.lease(Limits(), Owner("run", "node", 1, 1)) as sandbox:
                outcome = await sandbox.execute(Job(function=Source("f", code)), b"{}", timeout_s=10, on_log=_drop)
        finally:
            await pool.close()
    finally:
        _docker("rmi", "--force", tag)
    assert isinstance(outcome, Succeeded), outcome
    assert "Hello, you" in str(outcome.diff.ops)


async def _drop(_lines: object) -> None:
    """Forget what was printed."""


def _docker(*arguments: str) -> str:
    with tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            ["docker", *arguments], stdout=subprocess.PIPE, stderr=err, text=True, check=False, timeout=60
        )
        err.seek(0)
        assert done.returncode == 0, err.read()
    return done.stdout
