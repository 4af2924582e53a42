"""Red team, resources: whatever a submission uses up is its own, and it ends with the truth about it.

The numbers are those of the red team's list; a letter is a variation of ours.
"""

from __future__ import annotations

import base64
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from attacks import (
    GONE_WITHIN_S,
    Attack,
    Ending,
    attack,
    attacks,
    burial_s,
    idle_within,
    launch,
    peak_mb,
    resident_mb,
    runtime_of,
)
from served import Served

pytestmark = pytest.mark.docker

FILL = """
import os
def fill(folder, size):
    try:
        with open(folder + '/filled', 'wb', 0) as file:
            while size > 0: size -= file.write(bytes(min(size, 1 << 20)))
        return 'written'
    except OSError as error:
        return error.strerror
"""

CASES: dict[str, tuple[Attack, set[str]]] = {
    "43 threads without end": (
        Attack.of(
            "import threading, time\nmade = 0\ntry:\n    while made < 10_000:\n"
            "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); made += 1\n"
            "except RuntimeError: pass\nstate.set('made', made)",
            memory_mb=128,
        ),
        {"succeeded"},
    ),
    "45 only a grandchild runs out of memory": (
        Attack.of(
            "import os\npid = os.fork()\nif pid == 0:\n    hoard = []\n"
            "    while True: hoard.append(b'x' * (1 << 20))\n"
            "state.set('ended', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
        ),
        {"succeeded"},
    ),
    "45a many small processes and a full /tmp run out of memory together": (
        Attack.of(
            FILL + "import time\nleast = '500'\n"
            "for name in range(16):\n"
            "    if os.fork() == 0:\n"
            "        open('/proc/self/oom_score_adj', 'w').write(least)\n"
            "        hoard = []\n"
            "        while True: hoard.append(bytearray(os.urandom(4096) * 16)); time.sleep(0.002)\n"
            "open('/proc/self/oom_score_adj', 'w').write(least)\n"
            "fill('/tmp', 1 << 30)\ntime.sleep(60)",
            timeout_s=4,
        ),
        {"oom", "timeout"},
    ),
    "45b the supervisor is the last in line for the kernel, and still goes": (
        Attack.of(
            "import os, time\ndef spare(): open('/proc/self/oom_score_adj', 'w').write(least)\n"
            "for least in ('0', '500'):\n    try: spare(); break\n    except OSError: pass\n"
            "for _ in range(40):\n"
            "    if os.fork() == 0:\n"
            "        hoard = [os.urandom(1 << 15) for _ in range(50)]\n"
            "        time.sleep(60)\n"
            "with open('/tmp/filled', 'wb', 0) as file:\n"
            "    for _ in range(15): file.write(os.urandom(1 << 20)); time.sleep(0.02)\n"
            "time.sleep(60)",
            pids=64,
            timeout_s=5,
        ),
        {"oom", "timeout"},
    ),
    "44a memory by mmap and mlock": (
        Attack.of(
            "import mmap\nhoard = []\nwhile True:\n    part = mmap.mmap(-1, 1 << 22); part.write(b'x' * (1 << 22))\n"
            "    hoard.append(part)"
        ),
        {"oom"},
    ),
    "46 fills /tmp": (Attack.of(FILL + "state.set('said', fill('/tmp', 1 << 30))"), {"succeeded"}),
    "46a fills more /tmp than there is memory": (
        Attack.of(FILL + "state.set('said', fill('/tmp', 1 << 30))", tmp_mb=128, memory_mb=48),
        {"oom"},
    ),
    "47 inodes without end": (
        Attack.of(
            "import os\nmade = 0\ntry:\n    while True: os.close(os.open(f'/tmp/{made}', os.O_CREAT)); made += 1\n"
            "except OSError as error: state.set('said', error.strerror)\nstate.set('made', made)"
        ),
        {"succeeded"},
    ),
    "48 fills /dev/shm": (Attack.of(FILL + "state.set('said', fill('/dev/shm', 1 << 30))"), {"succeeded"}),
    "48a makes message queues": (
        Attack.of(
            "made = 0\ntry:\n    while True: open(f'/dev/mqueue/{made}', 'w').close(); made += 1\n"
            "except OSError: pass\nstate.set('made', made)"
        ),
        {"succeeded"},
    ),
    "49a a gigabyte of output, as fast as it goes": (
        Attack.of("import os\ntext = b'x' * 99 + b'\\n'\nfor _ in range(10_000_000): os.write(1, text * 600)"),
        {"output_limit"},
    ),
    "49b as many lines as there may be bytes": (
        Attack.of("import os\nwhile True: os.write(2, b'\\n' * 32768)"),
        {"output_limit"},
    ),
    "52 tiny writes without end": (
        Attack.of("import os\nfor _ in range(1_000_000): os.write(1, b'x')"),
        {"output_limit"},
    ),
    "53 every descriptor": (
        Attack.of(
            "import os\nmade = 0\ntry:\n    while True: os.pipe(); made += 1\n"
            "except OSError as error: state.set('said', error.strerror)\nstate.set('made', made)\n"
        ),
        {"succeeded"},
    ),
    "58 a core dump": (
        Attack.of(
            "import os, resource\ntry: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))\nexcept ValueError: pass\n"
            "os.chdir('/tmp')\nos.abort()"
        ),
        {"killed"},
    ),
    "39a a busy loop in every thread and process it may have": (
        Attack.of(
            "import os, threading\nfor _ in range(3): os.fork()\n"
            "def spin():\n    while True: pass\n"
            "try:\n    for _ in range(50): threading.Thread(target=spin).start()\nexcept RuntimeError: spin()",
            timeout_s=1.5,
        ),
        {"timeout"},
    ),
    "40a ignores every signal there is": (
        Attack.of(
            "import signal, time\nfor number in signal.valid_signals():\n"
            "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
            "while True:\n    try: time.sleep(60)\n    except BaseException: pass",
            timeout_s=1,
        ),
        {"timeout"},
    ),
    "an expression the regular engine never ends with": (
        Attack.of("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", timeout_s=1),
        {"timeout"},
    ),
    "the largest number there is room for": (
        Attack.of("state.set('x', 10 ** 10 ** 9)", timeout_s=1),
        {"timeout", "oom"},
    ),
    "recursion without end": (Attack.of("def f(): f()\nf()"), {"error"}),
    "recursion that the interpreter does not count": (
        Attack.of(
            "import sys\nsys.setrecursionlimit(1 << 30)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())"
        ),
        {"killed", "error", "oom"},
    ),
}


@pytest.fixture(scope="module")
def endings(served: Served) -> dict[str, Ending]:
    before = resident_mb(served)
    found = attacks(served, {name: case for name, (case, _) in CASES.items()})
    assert idle_within(served, 2 * GONE_WITHIN_S)
    assert resident_mb(served) < before + 100
    assert attack(served, "state.set('well', True)").data == {"well": True}
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_time_and_with_the_truth(endings: dict[str, Ending], name: str) -> None:
    case, statuses = CASES[name]
    ending = endings[name]
    assert ending.status in statuses, ending.run["error"]
    assert ending.wall_s < float(str(case.limits["timeout_s"])) + GONE_WITHIN_S
    assert sum(len(line) for line in ending.lines()) <= 64 * 1024


#: gVisor ends as a whole when it may have no more threads of the host's.
GIVES_UP = "39a a busy loop in every thread and process it may have"

#: What ends by the host's doing, the supervisor's, or limits that need no cgroup: on every runtime.
FREE = (
    GIVES_UP,
    "40a ignores every signal there is",
    "46 fills /tmp",
    "48 fills /dev/shm",
    "49a a gigabyte of output, as fast as it goes",
    "49b as many lines as there may be bytes",
    "52 tiny writes without end",
    "53 every descriptor",
    "58 a core dump",
    "an expression the regular engine never ends with",
    "recursion without end",
)


@pytest.fixture(scope="module")
def free_endings(attacked: Served) -> dict[str, Ending]:
    found = attacks(attacked, {name: CASES[name][0] for name in FREE})
    assert idle_within(attacked, burial_s(attacked))
    assert attack(attacked, "state.set('well', True)").data == {"well": True}
    return found


@pytest.mark.parametrize("name", FREE)
def test_39_to_58_on_every_runtime(attacked: Served, free_endings: dict[str, Ending], name: str) -> None:
    case, statuses = CASES[name]
    ending = free_endings[name]
    if name == GIVES_UP and runtime_of(attacked) != "runc":
        statuses = {*statuses, "no_result"}
    assert ending.status in statuses, ending.run["error"]
    assert ending.wall_s < float(str(case.limits["timeout_s"])) + GONE_WITHIN_S
    assert sum(len(line) for line in ending.lines()) <= 64 * 1024


def test_43_to_53_bounds_are_those_of_the_limits(endings: dict[str, Ending]) -> None:
    assert endings["43 threads without end"].data["made"] < 24
    assert endings["45 only a grandchild runs out of memory"].data["ended"] == -9
    assert endings["45 only a grandchild runs out of memory"].attempt["usage"]["oom_kills"] >= 1
    assert endings["46 fills /tmp"].data["said"] in {"No space left on device", "File too large"}
    assert endings["47 inodes without end"].data["made"] <= 16 * 256
    assert endings["48 fills /dev/shm"].data["said"] == "No space left on device"
    assert endings["48a makes message queues"].data["made"] == 0
    assert endings["53 every descriptor"].data["made"] <= 512


#: A few hundred bytes, packed twice.


def zeros(megabytes: int) -> bytes:
    """Return what unpacks to so many megabytes: one of them packed, many times; to pack them all takes a second."""
    packer = zlib.compressobj(1)
    packed = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    head, block = packed[:2], packed[2:]
    # An empty last block, and the checksum of zeros.
    end = b"\x03\x00" + (((megabytes << 20) % 65_521) << 16 | 1).to_bytes(4, "big")
    return head + block * megabytes + end


BOMB = base64.b64encode(zlib.compress(zeros(512), 9)).decode()

IMPORTS: dict[str, tuple[str, str]] = {
    "57 an endless loop": ("while True: pass", "check_timeout"),
    "57a sleeps": ("import time\ntime.sleep(600)", "check_timeout"),
    "57b exits": ("import os\nos._exit(0)", "check_no_result"),
    "57c floods": ("while True: print('x' * 1000)", "check_output_limit"),
    "57d allocates everything": ("hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))", "check_oom"),
    "57e raises what is no error": ("raise SystemExit(0)", "import_failed"),
    "57f what explodes when it is looked at": (
        (
            "class Evil(type):\n    def __getattribute__(self, name): raise SystemExit\n"
            "class Kind(metaclass=Evil): __slots__ = ()\nf = Kind.__new__(Kind)\n"
        ),
        "import_failed",
    ),
    "57g signs without end": ("x = " + "-" * 100_000 + "1", "syntax_error"),
    "57h brackets without end": ("x = " + "(" * 100_000, "syntax_error"),
    "55 what unpacks to a million times its size": (
        f"import base64, zlib\nunpack = zlib.decompress\nhoard = unpack(unpack(base64.b64decode('{BOMB}')))",
        "check_oom",
    ),
}


def test_55_and_57_what_registering_code_does_is_as_bounded(served: Served) -> None:
    def register(code: str) -> tuple[int, list[str], float]:
        began = time.monotonic()
        answer = served.client.post("/nodes/register", json={"name": "f", "code": code})
        return answer.status_code, [each["code"] for each in answer.json()["errors"]], time.monotonic() - began

    before = resident_mb(served)
    with ThreadPoolExecutor(len(IMPORTS)) as threads:
        answers = list(threads.map(register, (code for code, _ in IMPORTS.values())))
    for (name, (_, expected)), (status, codes, seconds) in zip(IMPORTS.items(), answers, strict=True):
        assert (status, codes) == (422, [expected]), name
        assert seconds < 40, name
    assert idle_within(served, 2 * GONE_WITHIN_S)
    assert resident_mb(served) < before + 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_55_compressed_bodies_are_not_unpacked(served: Served, encoding: str) -> None:
    before = peak_mb(served)
    answer = served.client.post(
        "/nodes/register", content=zlib.compress(b"\0" * (1 << 28)), headers={"Content-Encoding": encoding}
    )
    assert answer.status_code in {413, 415}
    assert peak_mb(served) < before + 50


def test_59_the_api_answers_while_every_core_is_busy(served: Served) -> None:
    spin = "import os\nos.fork()\nos.fork()\nwhile True: pass"
    runs = [launch(served, Attack.of(spin, timeout_s=4, cpus=2)) for _ in range(4)]
    until, seconds = time.monotonic() + 4, []
    while time.monotonic() < until:
        began = time.monotonic()
        served.get("/livez")
        seconds.append(time.monotonic() - began)
    for run in runs:
        served.post(f"/graph/cancel/{run}", {}, (200, 409))
    seconds.sort()
    assert seconds[int(len(seconds) * 0.99)] < 1.0
    assert idle_within(served, 3 * GONE_WITHIN_S)


def test_49_a_flood_is_stored_once_cut_and_marked(served: Served) -> None:
    before = resident_mb(served)
    ending: Ending = attack(served, "while True: print('x' * 100_000)", output_kb=4096)
    assert ending.status == "output_limit"
    # Every line says that it was cut, and how many bytes were printed is recorded whole.
    assert all(record["data"]["cut"] for record in ending.logs)
    assert max(len(line) for line in ending.lines()) <= 16 * 1024
    assert ending.attempt["usage"]["output_bytes"] == 4096 * 1024
    assert resident_mb(served) < before + 100
