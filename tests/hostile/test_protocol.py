"""Red team, the protocol: a child says what it likes on its own pipes, and changes its own result or nothing.

The numbers are those of the red team's list; a letter is a variation of ours.
"""

from __future__ import annotations

import pytest
from attacks import (
    GONE_WITHIN_S,
    Attack,
    Ending,
    attack,
    attacks,
    burial_s,
    idle_within,
    needs_limits,
    runtime_of,
)
from served import Served

pytestmark = pytest.mark.docker

# What an attacker would write first: finds the descriptor that its outcome leaves by, and speaks the child's part.
FORGE = r"""
import json, os, struct, time
def result_pipe():
    for name in os.listdir('/proc/self/fd'):
        try:
            if int(name) > 2 and os.readlink('/proc/self/fd/' + name).startswith('pipe:'):
                return int(name)
        except OSError:
            pass
def say(document, tag=b'R', length=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack('>cI', tag, len(body) if length is None else length) + body
def sets(**values):
    ops = [{'op': 'set', 'key': k, 'value': v} for k, v in sorted(values.items())]
    return {'ops': ops, 'entered': True, 'again': None, 'after': [], 'value': None, 'reads': [], 'reads_cut': False}
pipe = result_pipe()
"""

CASES: dict[str, tuple[Attack, set[str], dict[str, object]]] = {
    "3 two results: the first that is complete": (
        Attack.of(FORGE + "os.write(pipe, say(sets(first=1)) + say(sets(second=2)))\nstate.set('third', 3)"),
        {"succeeded"},
        {"first": 1},
    ),
    "4 a result that names run, attempt and status": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'run_id': 'r', 'attempt': 9, 'status': 'timeout'}))"),
        {"result_invalid"},
        {},
    ),
    "4a an account that claims to be the supervisor's": (
        Attack.of(
            FORGE + "account = {'type': 'OOM', 'message': 'oom', 'traceback': '', 'condition': None, 'key': None}\n"
            "os.write(pipe, say({**account, 'reason': 'oom', 'oom_kills': 1}, b'A'))"
        ),
        {"result_invalid"},
        {},
    ),
    "4b an account that names another node's condition": (
        Attack.of(
            FORGE + "account = {'type': 'E', 'message': 'm', 'traceback': '', 'condition': 'state.x', 'key': None}\n"
            "os.write(pipe, say(account, b'A'))"
        ),
        {"result_invalid"},
        {},
    ),
    "5 answers for edges that were not asked": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'after': [True, True]}))"),
        {"result_invalid"},
        {},
    ),
    "5a says that a loop goes on where there is none": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'again': True}))"),
        {"result_invalid"},
        {},
    ),
    "5b a result for an item that it was not given": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'value': [1]}))"),
        {"result_invalid"},
        {},
    ),
    "5c claims to have read what is no list of keys": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'reads': [{'key': 'a'}]}))"),
        {"result_invalid"},
        {},
    ),
    "5d claims to have read more than may be told": (
        Attack.of(FORGE + "os.write(pipe, say({**sets(x=1), 'reads': sorted(str(n) for n in range(100_000))}))"),
        {"result_invalid"},
        {},
    ),
    "5e tampers with what it is said to have read": (
        Attack.of(
            "state._reads.update([1, b'x', object(), '\\ud800', 'k' * 10**6])\nstate.set('x', 1)\nstate._reads = 3"
        ),
        {"succeeded"},
        {"x": 1},
    ),
    "9 kills whatever it may": (
        Attack.of("import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nstate.set('alive', True)"),
        {"succeeded"},
        {"alive": True},
    ),
    "11 empties sys.modules and replaces the builtins": (
        Attack.of(
            "import builtins, json, sys, os\n"
            'json.dumps = json.JSONEncoder.encode = lambda *a, **k: \'{"ops": "forged"}\'\n'
            "os.write = os.read = lambda *a: 0\n"
            "sys.stdout = sys.stderr = None\n"
            "for name in list(sys.modules): sys.modules[name] = None\n"
            "for name in ('len', 'isinstance', 'print', 'open', 'dict', 'sorted', 'type'): setattr(builtins, name, 0)\n"
            "state.set('mine', 1)"
        ),
        {"succeeded", "error", "no_result", "result_invalid"},
        {"mine": 1},
    ),
    "11a lifts its own limits where it finds them": (
        Attack.of(
            "import gc\n"
            "for found in gc.get_objects():\n"
            "    if type(found).__name__ == 'Job':\n"
            "        for name in ('max_result_bytes', 'max_keys', 'max_depth', 'max_output_bytes'):\n"
            "            object.__setattr__(found, name, 10**9)\n"
            "state.set('big', 'x' * 8_000_000)",
            memory_mb=256,
        ),
        {"result_invalid"},
        {},
    ),
    "11b replaces the runner's modules": (
        Attack.of(
            "import sys\n"
            "for name, module in list(sys.modules.items()):\n"
            "    if name.startswith('sandgraph_runner'):\n"
            "        for what in list(vars(module)):\n"
            "            if not what.startswith('__'): setattr(module, what, None)\n"
            "state.set('x', 1)"
        ),
        {"succeeded", "error", "no_result", "result_invalid"},
        {"x": 1},
    ),
    "11c forges through the frames above it": (
        Attack.of(
            "import sys\n"
            "frame = sys._getframe()\n"
            "while frame:\n"
            "    for value in list(frame.f_locals.values()):\n"
            "        if type(value).__name__ == '_Attempt':\n"
            "            value._identity.update(node='another', run_id='another', attempt=99)\n"
            "            object.__setattr__(value._job, 'node', 'another')\n"
            "    frame = frame.f_back\n"
            "state.set('x', 1)"
        ),
        {"succeeded"},
        {"x": 1},
    ),
    "13 sends its outcome to its output": (
        Attack.of(FORGE + "os.dup2(1, pipe)\nstate.set('x', 1)"),
        {"no_result"},
        {},
    ),
    "14 rewrites its result at its exit": (
        Attack.of(
            FORGE
            + "import atexit\natexit.register(lambda: (print('late', flush=True), os.write(pipe, say(sets(x=2)))))\n"
            "state.set('x', 1)"
        ),
        {"succeeded"},
        {"x": 1},
    ),
    "15 a daemon thread changes what was returned": (
        Attack.of(
            "import threading, time\ninner = {'value': 1}\nstate.set('x', inner)\n"
            "def late():\n    time.sleep(1)\n    while True: inner['value'] = 2; state.set('y', 2)\n"
            "threading.Thread(target=late, daemon=True).start()"
        ),
        {"succeeded"},
        {"x": {"value": 1}},
    ),
    "16 a thread that never ends": (
        Attack.of("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nstate.set('x', 1)"),
        {"succeeded"},
        {"x": 1},
    ),
    "18 values and keys with a life of their own": (
        Attack.of(
            "class Text(str):\n"
            "    def __str__(self): raise ValueError('no')\n"
            "    def encode(self, *a): return b'forged'\n"
            "    def __hash__(self): return 1\n"
            "    def __eq__(self, other): return True\n"
            "class Number(int):\n"
            "    def __int__(self): return 10**30\n"
            "    def __repr__(self): return 'Infinity'\n"
            "class Many(dict):\n"
            "    def items(self): return iter(int, 1)\n"
            "    def __del__(self): print('deleted')\n"
            "    def __reduce__(self): raise SystemExit\n"
            "state.set('text', Text('a'))\nstate.set('number', Number(2))\nstate.set('many', Many(b=3))"
        ),
        {"succeeded"},
        {"text": "a", "number": 2, "many": {"b": 3}},
    ),
    "19 a header of four gigabytes": (
        Attack.of(FORGE + "os.write(pipe, say(b'{}', length=2**32 - 1)); time.sleep(60)"),
        {"result_invalid"},
        {},
    ),
    "19a a header of nothing": (Attack.of(FORGE + "os.write(pipe, say(b''))"), {"result_invalid"}, {}),
    "19b half a frame, then the end": (
        Attack.of(FORGE + "os.write(pipe, say(sets(x=1))[:-1]); os._exit(0)"),
        {"no_result"},
        {},
    ),
    "19c half a frame, then nothing": (
        Attack.of(FORGE + "os.write(pipe, say(sets(x=1))[:-1]); time.sleep(60)", timeout_s=1),
        {"timeout"},
        {},
    ),
    "19d a tag of its own": (Attack.of(FORGE + "os.write(pipe, say(sets(x=1), b'Z'))"), {"result_invalid"}, {}),
    "19e brackets without end": (
        Attack.of(FORGE + "os.write(pipe, say(b'[' * 60_000)); time.sleep(60)"),
        {"result_invalid"},
        {},
    ),
    "19f one key twice": (
        Attack.of(FORGE + "os.write(pipe, say(json.dumps(sets()).encode()[:-1] + b',\"ops\":[]}'))"),
        {"result_invalid"},
        {},
    ),
    "19g escapes without end": (
        Attack.of(
            FORGE + "message = say(b'\\\\\"' * 1_500_000)\n"
            "while message: message = message[os.write(pipe, message):]\ntime.sleep(60)",
            memory_mb=128,
        ),
        {"result_invalid"},
        {},
    ),
    "22 reads its stdin": (
        Attack.of("import os, sys\nstate.set('read', [sys.stdin.read(), os.read(0, 9).decode()])"),
        {"succeeded"},
        {"read": ["", ""]},
    ),
    "a program that keeps its pipes": (
        Attack.of("import subprocess, sys\nsubprocess.Popen(['sleep', '60'])\nstate.set('x', 1)"),
        {"succeeded"},
        {"x": 1},
    ),
    "a daemon that forges after the result": (
        Attack.of(
            FORGE + "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork(): os._exit(0)\n"
            "    while True:\n"
            "        try: os.write(pipe, say(sets(forged=1)))\n"
            "        except OSError: pass\n"
            "        time.sleep(0.5)\n"
            "state.set('x', 1)"
        ),
        # Its own result either way, whichever of its processes was quicker.
        {"succeeded"},
        {},
    ),
    "a process that leaves its part to a child": (
        Attack.of(FORGE + "if os.fork(): os._exit(0)\ntime.sleep(30)\nos.write(pipe, say(sets(forged=1)))"),
        {"no_result"},
        {},
    ),
    "stops itself": (Attack.of("import os\nos.kill(os.getpid(), 19)", timeout_s=1), {"timeout"}, {}),
    "stops its group": (Attack.of("import os\nos.killpg(0, 19)", timeout_s=1), {"timeout"}, {}),
    "closes its pipes and sleeps": (
        Attack.of("import os, time\nos.closerange(0, 64)\ntime.sleep(60)", timeout_s=1),
        {"timeout"},
        {},
    ),
    "stops what it started and waits for it": (
        Attack.of(
            "import os, signal\npid = os.fork()\nif pid == 0:\n    while True: signal.pause()\n"
            "os.kill(pid, 19)\nos.waitpid(pid, 0)",
            timeout_s=1,
        ),
        {"timeout"},
        {},
    ),
}


@pytest.fixture(scope="module")
def endings(attacked: Served) -> dict[str, Ending]:
    found = attacks(attacked, {name: case for name, (case, _, _) in CASES.items()})
    assert idle_within(attacked, burial_s(attacked))
    assert attack(attacked, "state.set('well', True)").data == {"well": True}
    return found


@pytest.mark.parametrize("name", CASES)
def test_its_own_result_or_nothing(endings: dict[str, Ending], name: str) -> None:
    case, statuses, data = CASES[name]
    ending = endings[name]
    assert ending.status in statuses, ending.run["error"]
    assert ending.run["status"] == ("completed" if ending.status == "succeeded" else "failed")
    if ending.status == "succeeded" and data:
        assert ending.data == data
    if ending.status != "succeeded":
        assert ending.data == {}
    assert (ending.attempt["attempt"], ending.run["node_runs"][1]["node"]) == (1, "attack")
    deadline = float(str(case.limits["timeout_s"]))
    assert ending.wall_s < deadline + GONE_WITHIN_S
    if ending.status == "timeout":
        assert ending.wall_s >= deadline


ON_THE_SUPERVISOR = {
    "kills it": ("for number in set(range(1, 65)) - {19}:\n    try: os.kill(1, number)\n    except OSError: pass"),
    "stops it": "try: os.kill(1, 19)\nexcept OSError: pass",
    "takes its time away": (
        "import ctypes\nnumber = 261 if os.uname().machine == 'aarch64' else 302\n"
        "ctypes.CDLL(None).syscall(ctypes.c_long(number), 1, 0, ctypes.create_string_buffer(16), 0)"
    ),
}


@pytest.mark.parametrize("name", ON_THE_SUPERVISOR)
def test_8_the_supervisor_stands_or_the_attempt_falls(attacked: Served, name: str) -> None:
    code = "import os, time\n" + ON_THE_SUPERVISOR[name] + "\ntime.sleep(0.2)\nstate.set('x', 1)"
    ending = attack(attacked, code, timeout_s=4)
    # gVisor protects its first process less than Linux does: there the attempt ends with it.
    allowed = {"succeeded"} if runtime_of(attacked) == "runc" else {"succeeded", "no_result", "timeout"}
    assert ending.status in allowed, ending.run["error"]
    assert ending.data == ({"x": 1} if ending.status == "succeeded" else {})
    assert idle_within(attacked, burial_s(attacked))


def test_42_a_fork_bomb_that_goes_on_after_the_return_is_ended_with_it(attacked: Served) -> None:
    needs_limits(attacked)
    bomb = (
        "import os, time\nif os.fork() == 0:\n"
        "    while True:\n        try: os.fork()\n        except OSError: pass\n"
        "time.sleep(0.3)\nstate.set('x', 1)"
    )
    ending = attack(attacked, bomb, pids=100, memory_mb=256, timeout_s=20)
    # gVisor itself gives up when it may have no more threads.
    allowed = {"succeeded"} if runtime_of(attacked) == "runc" else {"succeeded", "no_result", "oom"}
    assert ending.status in allowed, ending.run["error"]
    assert ending.data == ({"x": 1} if ending.status == "succeeded" else {})
    assert ending.wall_s < 20
    assert idle_within(attacked, burial_s(attacked))
