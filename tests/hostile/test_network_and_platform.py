"""Red team, network and platform: nothing is in reach, nothing is left behind, and a crowd waits its turn.

The numbers are those of the red team's list; a letter is a variation of ours. Nothing here sends anything to an address
outside the sandbox: that there is no way out is seen in its interfaces and routes, and by listeners that hear nothing.
"""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest
from attacks import ATTACKER, SMALL, attack, ending, idle_within, launch, resident_mb, runtime_of
from attacks import Attack as Sent
from served import Json, Served, containers_of, serve

pytestmark = pytest.mark.docker

NETWORK = r"""
import os, socket
def lines(path):
    return open(path).read().splitlines() if os.path.exists(path) else []
def reached(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
            return 'reached'
        except OSError as error:
            return error.__class__.__name__
def known(name):
    try:
        return socket.getaddrinfo(name, 80)
    except OSError:
        return 'unknown'
state.update({
    'interfaces': [line.split(':')[0].strip() for line in lines('/proc/net/dev')[2:]],
    'routes': lines('/proc/net/route')[1:],
    'routes6': [line.split()[-1] for line in lines('/proc/net/ipv6_route')],
    'neighbours': lines('/proc/net/arp')[1:],
    'listening': lines('/proc/net/tcp')[1:] + lines('/proc/net/tcp6')[1:] + lines('/proc/net/udp')[1:],
    'unix': lines('/proc/net/unix')[1:],
    'hosts': [line for path in ('/etc/hosts', '/etc/resolv.conf') for line in lines(path) if line.strip()],
    'names': {name: known(name) for name in ('metadata.invalid', 'platform.invalid', 'host.docker.invalid')},
    'platform': reached(socket.AF_INET, ('127.0.0.1', PORT)),
    'listener': reached(socket.AF_INET, ('127.0.0.1', LISTENER)),
    'abstract': reached(socket.AF_UNIX, '\0' + NAME),
})
"""


def test_76_to_78_there_is_no_way_out(attacked: Served) -> None:
    name = f"red-team-{uuid.uuid4().hex}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        port = int(attacked.url.rpartition(":")[2])
        known = f"PORT, LISTENER, NAME = {port}, {listener.getsockname()[1]}, {name!r}\n"
        seen = attack(attacked, known + NETWORK, timeout_s=20).data
        for each in (listener, abstract):
            each.settimeout(0)
            with pytest.raises(BlockingIOError):
                each.accept()
    assert seen["interfaces"] == ["lo"]
    assert seen["routes"] == seen["neighbours"] == seen["hosts"] == seen["listening"] == []
    assert set(seen["routes6"]) <= {"lo"}
    assert not [line for line in seen["unix"] if "/" in line or "@" in line]
    assert set(seen["names"].values()) == {"unknown"}
    assert {seen["platform"], seen["listener"], seen["abstract"]} == {"ConnectionRefusedError"}


def test_78_siblings_do_not_meet(attacked: Served) -> None:
    name = uuid.uuid4().hex
    listening = (
        "import socket, time\nservers = [socket.create_server(('127.0.0.1', 47_111)), socket.socket(socket.AF_UNIX)]\n"
        f"servers[1].bind('\\0{name}')\nservers[1].listen()\nopen('/dev/shm/{name}', 'w').close()\n"
        f"open('/tmp/{name}', 'w').close()\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    looking = (
        "import os, socket\nsaid = []\n"
        f"for family, address in ((socket.AF_INET, ('127.0.0.1', 47_111)), (socket.AF_UNIX, '\\0{name}')):\n"
        "    try: socket.socket(family).connect(address); said.append('met')\n"
        "    except OSError as error: said.append(type(error).__name__)\n"
        "pids = [pid for pid in os.listdir('/proc') if pid.isdigit()]\n"
        "left = os.listdir('/dev/shm') + os.listdir('/tmp')\n"
        "state.update({'said': said, 'pids': len(pids), 'left': left})"
    )
    first = launch(attacked, Sent.of(listening, timeout_s=30))
    attacked.wait_for_line(first, "ready")
    seen = attack(attacked, looking).data
    attacked.post(f"/graph/cancel/{first}", {})
    # Nobody listens there; to gVisor, there is no such address.
    assert set(seen.pop("said")) <= {"ConnectionRefusedError", "FileNotFoundError"}
    assert seen == {"pids": 2, "left": []}
    assert ending(attacked, first).lines() == ["ready"]


LITTER = r"""
import builtins, fcntl, os, sys
mark = 'left-behind'
folders = [folder for folder in ('/tmp', '/dev/shm', '/dev/mqueue') if os.path.isdir(folder)]
left = [os.path.join(folder, name) for folder in folders for name in os.listdir(folder)]
left += [name for name in sys.modules if mark in name] + [name for name in vars(builtins) if mark in name]
left += [pid for pid in os.listdir('/proc') if pid.isdigit() and pid not in ('1', str(os.getpid()))]
import sandgraph_runner.plain
left += [name for name in vars(sandgraph_runner.plain) if mark in name]
for folder in ('/tmp', '/dev/shm'):
    file = open(f'{folder}/{mark}', 'w')
    fcntl.flock(file, fcntl.LOCK_EX)
sys.modules[mark] = sys
setattr(builtins, mark, 1)
setattr(sandgraph_runner.plain, mark, 1)
if os.fork() == 0:
    import time
    os.setsid()
    time.sleep(60)
state.set('left', left)
"""


def test_80_nothing_is_left_for_the_next(attacked: Served) -> None:
    for _ in range(4):
        seen = attack(attacked, LITTER)
        assert (seen.status, seen.data) == ("succeeded", {"left": []})


#: Whatever a container may be given, where a submitter may write anything at all.
CHOICES: list[tuple[str, Json]] = [
    ("graph", {"image": "other"}),
    ("graph", {"runtime": "runsc"}),
    ("graph", {"runtime": "../../tmp/runtime"}),
    ("graph", {"runtime": ["runc"]}),
    ("graph", {"isolation": "none"}),
    ("graph", {"binds": ["/:/host"]}),
    ("graph", {"max_steps": 10**9}),
    ("graph", {"timeout_s": 10**9}),
    ("node", {"image": "other"}),
    ("node", {"privileged": True}),
    ("node", {"user": "0"}),
    ("node", {"env": {"A": "b"}}),
    ("node", {"volumes": ["/:/host"]}),
    ("node", {"network": "host"}),
    ("node", {"retry": {"max_attempts": 10**9}}),
    *(
        ("node", {"limits": limits})
        for limits in (
            {"memory_mb": 10**9},
            {"memory_mb": -1},
            {"memory_mb": 1},
            {"memory_mb": True},
            {"memory_mb": "64"},
            {"pids": 0},
            {"pids": 10**6},
            {"cpus": 0},
            {"cpus": 1e308},
            {"timeout_s": 0},
            {"timeout_s": 1e308},
            {"tmp_mb": 10**9},
            {"tmp_mb": 2**63},
            {"output_kb": 10**12},
            {"network": "host"},
            {"cap_add": ["ALL"]},
        )
    ),
]


@pytest.mark.parametrize(("where", "what"), CHOICES, ids=[f"{where} {what}" for where, what in CHOICES])
def test_81_what_confines_it_is_not_its_choice(served: Served, where: str, what: Json) -> None:
    served.register(ATTACKER, "attack")
    graph = served.graph_of("attack", **(what if where == "node" else {}))
    answer = served.client.post("/graph/create", json={**graph, **(what if where == "graph" else {})})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["path"]


def test_81_a_graph_runs_on_the_runtime_of_the_deployment_or_not_at_all(attacked: Served) -> None:
    own = runtime_of(attacked)
    other = "runsc" if own == "runc" else "runc"
    attacked.register(ATTACKER, "attack")
    graph = attacked.graph_of("attack")
    answer = attacked.client.post("/graph/create", json={**graph, "runtime": other})
    assert answer.status_code == 422, answer.text
    [wrong] = answer.json()["errors"]
    assert (wrong["path"], wrong["code"]) == ("runtime", "runtime_not_allowed")
    attacked.post("/graph/create", {**graph, "runtime": own})


@pytest.mark.parametrize(
    "name", ["print", "len", "state", "tools", "WorkflowState", "__init__", "sandgraph_runner", "json"]
)
def test_names_that_mean_something_to_the_runner(served: Served, name: str) -> None:
    code = f"def {name}(state):\n    return {{'ran': True}}\n"
    served.register(code, name)
    # Tools are there for every run; one called as a module or a builtin is in nobody's way.
    served.post("/tools/register", {"name": name, "code": code})
    run = served.run(served.graph_of(name, limits=SMALL))
    assert (run["status"], run["final_state"]["data"]) == ("completed", {"ran": True})
    assert attack(served, "import json\nprint(len(json.dumps([])))\nstate.set('x', 1)").data == {"x": 1}


def test_a_tool_that_calls_itself_ends_as_any_recursion_does(served: Served) -> None:
    served.post("/tools/register", {"name": "again", "code": "def again():\n    return tools.invoke('again')\n"})
    seen = attack(served, "import sandgraph\nsandgraph.tools.invoke('again')")
    assert (seen.status, seen.attempt["error"]["type"]) == ("error", "RecursionError")


def test_a_log_that_looks_like_a_record_is_a_line_of_text(served: Served) -> None:
    lines = (
        r"""{"seq": 1, "kind": "event", "status": "completed", "node": "end"}""",
        r"\r\x1b[2K\x1b]8;;http://platform.invalid\x07link",
        r"\u202egnp.exe\u2028\x85\x0b",
        "<img src=x onerror=alert(1)>",
    )
    code = "\n".join(f"print('''{line}''')" for line in lines)
    seen = attack(served, code + "\nimport sys\nsys.stderr.buffer.write(b'\\xff\\xfe\\xed\\xa0\\x80\\n')")
    assert seen.status == "succeeded"
    assert {record["kind"] for record in seen.logs} == {"log"}
    assert {record["node"] for record in seen.logs} == {"attack"}
    assert seen.lines()[0] == lines[0]
    assert [record["seq"] for record in seen.logs] == sorted({record["seq"] for record in seen.logs})


def test_83_a_platform_that_is_killed_leaves_nothing_that_runs(engine_required: None, tmp_path: Path) -> None:  # noqa: ARG001
    deployment = f"test-{uuid.uuid4().hex[:12]}"
    with serve(tmp_path, deployment, pool_min=1) as platform:
        run = launch(platform, Sent.of("import time\nprint('ready', flush=True)\ntime.sleep(60)", timeout_s=60))
        platform.wait_for_line(run, "ready")
        platform.process.kill()
        platform.process.wait()
    with serve(tmp_path, deployment, pool_min=0, resume_runs=False) as platform:
        assert platform.get(f"/graph/status/{run}")["status"] == "interrupted"
        assert idle_within(platform, 5)
        assert attack(platform, "state.set('well', True)").data == {"well": True}
    assert containers_of(deployment) == []


def test_84_a_crowd_waits_in_a_bounded_queue_and_then_outside(engine_required: None, tmp_path: Path) -> None:  # noqa: ARG001
    options = {"pool_min": 1, "max_active_runs": 2, "max_queued_runs": 50, "worker_slots": 2}
    with serve(tmp_path, f"test-{uuid.uuid4().hex[:12]}", **options) as platform:
        platform.register("def nap(state):\n    import time\n    time.sleep(20)\n", "nap")
        graph_id = platform.post("/graph/create", platform.graph_of("nap"))["graph_id"]
        before = resident_mb(platform)
        body = {"graph_id": graph_id, "initial_state": {}}
        answers = [platform.client.post("/graph/run_async", json=body) for _ in range(1_000)]
        accepted = [answer.json()["run_id"] for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(accepted) + len(refused) == 1_000
        assert len(accepted) <= 2 + 50
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
        assert resident_mb(platform) < before + 50
        for run in accepted:
            assert platform.post(f"/graph/cancel/{run}", {})["status"] == "cancelled"
        assert attack(platform, "state.set('well', True)").data == {"well": True}
