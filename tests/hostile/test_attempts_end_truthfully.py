"""Submissions that misbehave: each ends with its true status, and the next run does not notice.

The numbers are those of the red team's list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from served import Served

pytestmark = pytest.mark.docker

SMALL: dict[str, float] = {"memory_mb": 48, "timeout_s": 5, "pids": 24, "output_kb": 64}


@pytest.fixture(autouse=True)
def next_run_is_unaffected(served: Served) -> Iterator[None]:
    yield
    result = served.run_function("def well(state):\n    state.set('well', True)\n", name="well")
    assert result["status"] == "completed"
    assert result["final_state"]["data"] == {"well": True}


def attempt_of(result: dict[str, Any], served: Served) -> dict[str, Any]:
    status = served.get(f"/graph/status/{result['run_id']}")
    attempt: dict[str, Any] = next(n for n in status["node_runs"] if n["attempts"])["attempts"][-1]
    return attempt


CASES: dict[str, tuple[str, dict[str, float], str]] = {
    "39 a busy loop": ("while True: pass", {"timeout_s": 1}, "timeout"),
    "40 sleeps ignoring SIGTERM": (
        "import signal, time\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(60)",
        {"timeout_s": 1},
        "timeout",
    ),
    "44 allocates everything": ("x = [b'x' * (1_000_000 + n) for n in range(10_000)]", SMALL, "oom"),
    "42 a fork bomb": (
        "import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
        {**SMALL, "timeout_s": 2},
        "timeout",
    ),
    "49 floods its output": ("while True: print('x' * 1000)", SMALL, "output_limit"),
    "50 an endless line": ("import sys\n    while True: sys.stdout.write('x' * 65536)", SMALL, "output_limit"),
    "6 exits before returning": ("import os\n    os._exit(0)", SMALL, "no_result"),
    "7 SystemExit": ("raise SystemExit(0)", SMALL, "error"),
    "7 KeyboardInterrupt": ("raise KeyboardInterrupt", SMALL, "error"),
    "13 closes every descriptor": ("import os\n    os.closerange(0, 4096)", SMALL, "no_result"),
    "23 exits with 137 on purpose": ("import os\n    os._exit(137)", SMALL, "no_result"),
    "23 exits with 124 on purpose": ("import os\n    os._exit(124)", SMALL, "no_result"),
    "a segmentation fault": ("import ctypes\n    ctypes.string_at(0)", SMALL, "killed"),
    "kills itself": ("import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)", SMALL, "killed"),
    "25 a million keys": ("for i in range(1_000_000): state.set(str(i), i)", {"memory_mb": 512}, "result_invalid"),
    "27 NaN": ("state.set('x', float('nan'))", SMALL, "result_invalid"),
    "28 a lone surrogate": ("state.set('x', chr(0xD800))", SMALL, "result_invalid"),
    "32 a set": ("state.set('x', {1, 2})", SMALL, "result_invalid"),
    "38 changes the state, then raises": ("state.set('x', 1)\n    raise ValueError('no')", SMALL, "error"),
    "21 an exception of 100 MB": ("raise ValueError('x' * 100_000_000)", {"memory_mb": 512}, "error"),
}


@pytest.mark.parametrize(("body", "limits", "status"), CASES.values(), ids=CASES.keys())
def test_its_true_status(served: Served, body: str, limits: dict[str, float], status: str) -> None:
    result = served.run_function(f"def bad(state):\n    {body}\n", name="bad", limits=limits)
    assert result["status"] == "failed"
    assert attempt_of(result, served)["status"] == status
    assert result["error"]["code"] == status
    assert result["error"]["node"] == "bad"
    assert result["final_state"]["data"] == {}


def test_1_a_fake_result_frame_is_log_text(served: Served) -> None:
    fake = '\\x00\\x00\\x00\\x20\\x13\\x00\\x00\\x00\\x02{}{"ops":[],"entered":true}'
    code = f"""
import os
def liar(state):
    frame = '{fake}'
    print(frame)
    print('{{"status": "succeeded", "ops": [{{"op": "set", "key": "forged", "value": 1}}]}}')
    state.set('honest', 1)
"""
    result = served.run_function(code, name="liar")
    assert result["status"] == "completed"
    assert result["final_state"]["data"] == {"honest": 1}
    logs = [r for r in served.journal(result["run_id"]) if r["kind"] == "log"]
    assert any("forged" in r["message"] for r in logs)


def test_2_frames_on_every_descriptor_change_nothing_but_its_own_result(served: Served) -> None:
    code = """
import os, struct
def liar(state):
    frame = struct.pack('>IBI', 6, 19, 2) + b'{}'
    for fd in range(3, 256):
        try:
            os.write(fd, frame)
        except OSError:
            pass
    state.set('x', 1)
"""
    result = served.run_function(code, name="liar")
    status = attempt_of(result, served)["status"]
    assert status in {"succeeded", "result_invalid"}


def test_8_the_supervisor_stands(served: Served) -> None:
    code = """
import ctypes, os, signal
def attack(state):
    found = {}
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV):
        try:
            os.kill(1, number)
        except OSError as error:
            found[f'signal {int(number)}'] = error.errno
    for name in ('mem', 'maps', 'environ', 'fd', 'cwd', 'root'):
        try:
            path = '/proc/1/' + name
            os.listdir(path) if name == 'fd' else open(path, 'rb').read(1)
            found[name] = 'open'
        except OSError as error:
            found[name] = 'closed'
    libc = ctypes.CDLL(None, use_errno=True)
    found['ptrace'] = libc.ptrace(16, 1, 0, 0)
    state.set('found', found)
"""
    result = served.run_function(code, name="attack")
    assert result["status"] == "completed"
    found = result["final_state"]["data"]["found"]
    assert [name for name, what in found.items() if what == "open"] == []
    assert found["ptrace"] == -1


def test_14_to_16_what_runs_after_the_return_does_not_count(served: Served) -> None:
    code = """
import atexit, threading, time
def late(state):
    atexit.register(lambda: print('at exit'))
    def forever():
        while True:
            state.set('x', 'changed later')
            time.sleep(0.001)
    threading.Thread(target=forever).start()
    inner = {'value': 1}
    state.set('y', inner)
    return {'z': 1}
"""
    result = served.run_function(code, name="late")
    assert result["status"] == "completed"
    assert result["final_state"]["data"]["z"] == 1
    assert not any("at exit" in r["message"] for r in served.journal(result["run_id"]))


def test_20_control_characters_are_stored_as_text(served: Served) -> None:
    code = r"""
import sys
def noisy(state):
    sys.stdout.buffer.write(b'\xff\xfe \x00 \x1b[31mred\x1b]0;title\x07 <script>alert(1)</script>\n')
"""
    result = served.run_function(code, name="noisy")
    logs = [r["message"] for r in served.journal(result["run_id"]) if r["kind"] == "log"]
    assert len(logs) == 1
    assert "<script>" in logs[0]
    assert "\x00" not in logs[0]


def test_79_no_network_no_control_plane_no_secrets(served: Served) -> None:
    code = """
import os, socket
def probe(state):
    seen = {'interfaces': sorted(os.listdir('/sys/class/net'))}
    try:
        open('/etc/x', 'w')
        seen['root'] = 'writable'
    except OSError:
        seen['root'] = 'read-only'
    seen['environ'] = sorted(os.environ)
    seen['uid'] = os.getuid()
    try:
        socket.getaddrinfo('platform.invalid', 80)
        seen['dns'] = 'answers'
    except OSError:
        seen['dns'] = 'none'
    try:
        import sandgraph.settings
        seen['control plane'] = 'importable'
    except ImportError:
        seen['control plane'] = 'absent'
    state.set('seen', seen)
"""
    result = served.run_function(code, name="probe")
    seen = result["final_state"]["data"]["seen"]
    assert seen["interfaces"] == ["lo"]
    assert seen["root"] == "read-only"
    assert seen["uid"] == 65534
    assert seen["dns"] == "none"
    assert seen["control plane"] == "absent"
    assert not [name for name in seen["environ"] if "SANDGRAPH" in name or "DOCKER" in name]


def test_80_a_sandbox_is_used_once(served: Served) -> None:
    code = """
import os
def litter(state):
    left = os.listdir('/tmp')
    open('/tmp/left-behind', 'w').write('x')
    state.set('left', left)
"""
    for _ in range(2):
        result = served.run_function(code, name="litter")
        assert result["final_state"]["data"]["left"] == []


def test_81_limits_above_the_ceiling_are_refused(served: Served) -> None:
    served.register("def f(state): pass", "f")
    graph = served.graph_of("f", limits={"memory_mb": 10_000_000})
    answer = served.client.post("/graph/create", json=graph)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "nodes[1].limits.memory_mb"
