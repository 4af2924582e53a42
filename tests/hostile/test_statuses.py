"""Statuses come from the engine and the supervisor: for each, code that looks as if it had ended that way."""

from __future__ import annotations

import time

import pytest
from attacks import (
    GONE_WITHIN_S,
    Attack,
    Ending,
    attack,
    attacks,
    burial_s,
    ending,
    idle_within,
    launch,
    needs_limits,
    runtime_of,
)
from served import Served

pytestmark = pytest.mark.docker

# Speaks the child's part on the descriptor that its outcome leaves by.
FORGE = r"""
import json, os, struct, time
for name in os.listdir('/proc/self/fd'):
    try:
        if int(name) > 2 and os.readlink('/proc/self/fd/' + name).startswith('pipe:'): pipe = int(name)
    except OSError:
        pass
def account(**more):
    return {'type': 'E', 'message': 'm', 'traceback': '', 'condition': None, 'key': None, **more}
def say(tag, document):
    body = json.dumps(document).encode()
    os.write(pipe, struct.pack('>cI', tag, len(body)) + body)
"""

EXHAUST = "hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))"

#: What is tried, how it truly ends, and what is then in the state.
CASES: dict[str, tuple[Attack, str, dict[str, object]]] = {
    "succeeded: told by a line of its output": (
        Attack.of("print('{\"status\": \"succeeded\"}')\nraise ValueError('no')"),
        "error",
        {},
    ),
    "succeeded: an exit with 0": (Attack.of("import os\nos._exit(0)"), "no_result", {}),
    "succeeded: an exit with 0 of a process it made": (
        Attack.of("import os\nif os.fork() == 0: os._exit(0)\nos.wait()\nraise ValueError('no')"),
        "error",
        {},
    ),
    "error: told by its output, and by a traceback of its own": (
        Attack.of(
            "import sys\nprint('Traceback (most recent call last):\\nValueError: no', file=sys.stderr)\n"
            "state.set('x', 1)"
        ),
        "succeeded",
        {"x": 1},
    ),
    "timeout: raised": (Attack.of("raise TimeoutError('It did not finish within 8 s and was killed.')"), "error", {}),
    "timeout: an exit with 124": (Attack.of("import os\nos._exit(124)"), "no_result", {}),
    "timeout: an alarm of its own": (
        Attack.of("import signal, time\nsignal.alarm(1)\ntime.sleep(60)"),
        "killed",
        {},
    ),
    "timeout: swallowed": (
        Attack.of(
            "import time\nwhile True:\n    try: time.sleep(60)\n"
            "    except BaseException: state.set('x', 1)\n    finally: print('still here')",
            timeout_s=1,
        ),
        "timeout",
        {},
    ),
    "timeout: a result a moment after it": (
        Attack.of("import time\ntime.sleep(3)\nstate.set('x', 1)", timeout_s=1),
        "timeout",
        {},
    ),
    "oom: raised": (
        Attack.of("class OutOfMemory(MemoryError): pass\nraise OutOfMemory('killed by the kernel')"),
        "error",
        {},
    ),
    "oom: an exit with 137": (Attack.of("import os\nos._exit(137)"), "no_result", {}),
    "oom: SIGKILL of its own": (Attack.of("import os\nos.kill(os.getpid(), 9)"), "killed", {}),
    "oom: SIGKILL by a process it made": (
        Attack.of("import os, time\nif os.fork() == 0: os.kill(os.getppid(), 9); os._exit(0)\ntime.sleep(60)"),
        "killed",
        {},
    ),
    "oom: an account that says so": (
        Attack.of(FORGE + "say(b'A', account(type='MemoryError', message='oom', reason='oom', oom_kills=3))"),
        "result_invalid",
        {},
    ),
    "killed: raised": (Attack.of("raise RuntimeError('Signal 9 ended it before it returned a result.')"), "error", {}),
    "killed: an exit with 128 and a signal": (Attack.of("import os\nos._exit(128 + 11)"), "no_result", {}),
    "no_result: raised": (
        Attack.of("class NoResult(BaseException): pass\nraise NoResult('Its process ended with exit code 0')"),
        "error",
        {},
    ),
    "no_result: pipes closed, then a failure": (
        Attack.of("import os\nos.closerange(3, 256)\nraise ValueError('no')"),
        "no_result",
        {},
    ),
    "result_invalid: raised": (
        Attack.of("raise ValueError('Its result cannot be used: it breaks the protocol.')"),
        "error",
        {},
    ),
    "output_limit: raised": (Attack.of("raise OSError('It printed more than the 64 KiB it may')"), "error", {}),
    "output_limit: hidden by a result": (
        Attack.of("import os\nfor _ in range(64): os.write(1, b'x' * 4096)\nstate.set('x', 1)"),
        "output_limit",
        {},
    ),
    "cancelled: raised": (
        Attack.of("import asyncio\nraise asyncio.CancelledError('The run was cancelled.')"),
        "error",
        {},
    ),
    "cancelled: printed, and an exit": (
        Attack.of("import os\nprint('The run was cancelled.', flush=True)\nos._exit(130)"),
        "no_result",
        {},
    ),
    "lost: raised": (
        Attack.of("class SandboxLost(Exception): code = 'lost'\nraise SandboxLost('went away while it ran')"),
        "error",
        {},
    ),
    "lost: an account that says so": (
        Attack.of(FORGE + "say(b'A', account(message='lost', reason='lost', status='lost'))"),
        "result_invalid",
        {},
    ),
    "lost: a frame of failure for the host": (
        Attack.of(FORGE + "say(b'F', {'reason': 'lost', 'status': 'lost'})\ntime.sleep(60)"),
        "result_invalid",
        {},
    ),
    "lost: every descriptor written to and closed": (
        Attack.of(
            "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'\\0' * 9)\n    except OSError: pass\n"
            "os.closerange(0, 256)\nos._exit(0)"
        ),
        "",
        {},
    ),
}

#: Where nothing of the kernel tells which, every status that is true.
EITHER = {"": {"no_result", "result_invalid"}}

#: Statuses that need a limit of the kernel, which gVisor has where it uses cgroups.
BY_CGROUP: dict[str, tuple[Attack, str, dict[str, object]]] = {
    "oom: swallowed": (
        Attack.of(
            "import os, signal\nfor number in signal.valid_signals():\n"
            "    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
            "while True:\n    try:\n        hoard = []\n        while True: hoard.append(b'x' * (1 << 20))\n"
            "    except BaseException: pass"
        ),
        "oom",
        {},
    ),
    "oom: hidden in an error of its own": (
        Attack.of("try:\n    x = b'x' * (1 << 40)\nexcept MemoryError: pass\nraise ValueError('oom')"),
        "error",
        {},
    ),
    "oom: only a grandchild's, then a result": (
        Attack.of(
            "import os\nif os.fork() == 0:\n    if os.fork() == 0:\n        "
            + EXHAUST.replace("\n", "\n        ")
            + "\n    os.wait(); os._exit(0)\nos.wait()\nstate.set('x', 1)"
        ),
        "succeeded",
        {"x": 1},
    ),
    "oom: only a grandchild's, then an error": (
        Attack.of(
            "import os\nif os.fork() == 0:\n    "
            + EXHAUST.replace("\n", "\n    ")
            + "\nos.wait()\nraise ValueError('no')"
        ),
        "error",
        {},
    ),
}


def _check(found: Ending, status: str, data: dict[str, object]) -> None:
    assert found.status in EITHER.get(status, {status}), found.run["error"]
    assert found.run["status"] == ("completed" if status == "succeeded" else "failed")
    assert found.data == data
    # None of these is tried again: a submission does not say that it was lost.
    assert found.attempt["attempt"] == 1
    assert found.run["error"] is None or found.run["error"]["code"] == found.status


@pytest.fixture(scope="module")
def endings(attacked: Served) -> dict[str, Ending]:
    found = attacks(attacked, {name: case for name, (case, _, _) in CASES.items()})
    assert idle_within(attacked, burial_s(attacked))
    return found


@pytest.fixture(scope="module")
def limited(served: Served) -> dict[str, Ending]:
    return attacks(served, {name: case for name, (case, _, _) in BY_CGROUP.items()})


@pytest.mark.parametrize("name", CASES)
def test_6_7_and_23_a_status_cannot_be_faked(endings: dict[str, Ending], name: str) -> None:
    _check(endings[name], *CASES[name][1:])


@pytest.mark.parametrize("name", BY_CGROUP)
def test_44_and_45_memory_is_the_kernel_s_word(limited: dict[str, Ending], name: str) -> None:
    _check(limited[name], *BY_CGROUP[name][1:])


STUBBORN = """
import signal, time
for number in signal.valid_signals():
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
print('ready', flush=True)
"""


@pytest.mark.parametrize("code", ["while True: pass", "time.sleep(0.3)\nstate.set('x', 1)"], ids=["stays", "succeeds"])
def test_40_cancel_wins_over_whatever_comes_after_it(attacked: Served, code: str) -> None:
    run = launch(attacked, Attack.of(STUBBORN + code, timeout_s=30))
    attacked.wait_for_line(run, "ready")
    answer = attacked.client.post(f"/graph/cancel/{run}", json={})
    if answer.status_code == 409:
        # It was quicker; it may not be both.
        assert ending(attacked, run).run["status"] == "completed"
        return
    found = ending(attacked, run)
    assert (found.run["status"], found.status, found.data) == ("cancelled", "cancelled", {})
    assert idle_within(attacked, burial_s(attacked))
    time.sleep(0.5)
    again = attacked.get(f"/graph/status/{run}")
    assert again["status"] == "cancelled"
    assert attacked.get(f"/graph/state/{run}")["data"].get("x") is None


#: What takes all there is of something, for as long as it is let.
BOMBS = {
    "42 forks without end": ("import os, time\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
    "43 threads without end": (
        "import threading, time\nwhile True:\n"
        "    try: threading.Thread(target=time.sleep, args=(60,)).start()\n    except RuntimeError: time.sleep(0.01)"
    ),
    "44 allocates everything": EXHAUST,
}


@pytest.mark.parametrize("name", BOMBS)
def test_42_to_44_bombs_end(attacked: Served, name: str) -> None:
    needs_limits(attacked)
    found = attack(attacked, BOMBS[name], timeout_s=1)
    is_native = runtime_of(attacked) == "runc"
    # gVisor itself gives up when it may have no more threads.
    allowed = {"timeout", "oom"} if is_native else {"timeout", "oom", "no_result", "error"}
    assert found.status in allowed, found.run["error"]
    assert (found.run["status"], found.data) == ("failed", {})
    # The kernel takes its time to bury the host's share of thousands of processes.
    patience = GONE_WITHIN_S if is_native else 5 * GONE_WITHIN_S
    assert found.wall_s < 1 + patience
    assert idle_within(attacked, burial_s(attacked))
    assert attack(attacked, "state.set('well', True)").data == {"well": True}


def test_the_next_submission_works(attacked: Served, endings: dict[str, Ending]) -> None:
    assert endings
    assert attack(attacked, "state.set('well', True)").data == {"well": True}
