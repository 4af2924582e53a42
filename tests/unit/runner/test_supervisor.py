"""The supervisor as a process: hello, order, report, and what it does when its owner goes away."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.runner.driver import PACKAGE, Ended, Supervisor, is_gone, source

from sandgraph_runner.protocol import VERSION, Check, Job, Kind, Reason, encode
from sandgraph_runner.rehearsal import PRELOADED

Run = Callable[..., Ended]


def test_hello_tells_the_protocol_and_the_python(supervisor: Supervisor) -> None:
    hello = supervisor.hello()
    assert hello["version"] == VERSION
    assert str(hello["python"]).startswith("3.")


def test_the_version_can_be_asked_for_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", str(PACKAGE), "--version"], capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == str(VERSION)


def test_the_package_starts_as_a_module_too() -> None:
    code = "import runpy; runpy.run_module('sandgraph_runner', run_name='__main__')"
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(VERSION)


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_a_start_imports_nothing_dear(module: Path) -> None:
    statements = ast.parse(module.read_bytes()).body
    names = {alias.name for each in statements if isinstance(each, ast.Import) for alias in each.names}
    names |= {str(each.module) for each in statements if isinstance(each, ast.ImportFrom)}
    assert not names & {*PRELOADED, "collections", "dataclasses", "pathlib", "traceback", "inspect", "asyncio"}


def test_where_nobody_waits_submissions_find_their_imports_made(supervisor: Supervisor) -> None:
    supervisor.hello()
    time.sleep(1)
    supervisor.send(
        Job(function=source(f"import sys\nstate.set('lacks', sorted({set(PRELOADED)} - set(sys.modules)))"))
    )
    assert supervisor.ended().changes == {"lacks": []}


def test_where_somebody_waits_nothing_is_imported_ahead() -> None:
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(PACKAGE.parent)!r})
        from sandgraph_runner.rehearsal import preload
        before = set(sys.modules)
        preload(lambda: True)
        assert set(sys.modules) == before
        preload(lambda: False)
        assert "ctypes" in sys.modules"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_a_function_changes_the_state(run: Run) -> None:
    ended = run("state.set('b', state.get('a') + 1)\nstate.delete('gone')", {"a": 1, "gone": None})
    assert ended.kind is Kind.RESULT
    assert ended.outcome == {
        "ops": [{"op": "set", "key": "b", "value": 2}, {"op": "delete", "key": "gone"}],
        "entered": True,
        "again": None,
        "after": [],
        "value": None,
        "reads": ["a"],
        "reads_cut": False,
    }
    assert ended.report.reason is Reason.NONE
    assert (ended.report.exit_code, ended.report.signal) == (None, None)
    assert 0 < (ended.report.used.cpu_s or 0) < 5
    assert (ended.report.used.peak_memory_bytes or 0) > 1024 * 1024


def test_a_function_has_a_result_for_an_item(run: Run) -> None:
    body = "async def f(item, state):\n    return {'of': item, 'all': len(state['items']), 'in': state.scope}"
    ended = run(body, {"items": ["a", "b"], "n": 1}, item_key="items", item_index=1, scope="outer")
    assert ended.outcome == {
        "ops": [],
        "entered": True,
        "again": None,
        "after": [],
        "value": {"of": "b", "all": 2, "in": "outer"},
        "reads": ["items"],
        "reads_cut": False,
    }


def test_a_result_that_cannot_be_stored_is_told_with_its_item(run: Run) -> None:
    ended = run("return [{1}]", {"items": [1, 2]}, item_key="items", item_index=1)
    assert ended.report.reason is Reason.RESULT_INVALID
    assert ended.report.message == (
        "the result of item 1: result[0] is of the type set, which JSON does not have; use a list"
    )


def test_what_raises_is_an_error_with_an_account(run: Run) -> None:
    ended = run("a = 1\nreturn a / 0")
    assert ended.report.reason is Reason.ERROR
    assert ended.report.message == "ZeroDivisionError: division by zero"
    assert ended.account["type"] == "ZeroDivisionError"
    assert ended.account["traceback"].startswith(
        'Traceback (most recent call last):\n  File "<function f>", line 3, in f'
    )
    assert "sandgraph_runner" not in ended.account["traceback"]


def test_a_large_state_goes_in_and_out(run: Run) -> None:
    text = "ä" * 2_000_000
    ended = run("state['copy'] = state['text']", {"text": text})
    assert ended.changes == {"copy": text}


def test_a_check_names_what_is_wrong(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(
        Check(
            (source("from sandgraph import tool\nprint('at import')\ndef f(state): ..."), source("def g(:", "f")),
            ("state.a", "1 +"),
        )
    )
    ended = supervisor.ended()
    problems = json.loads(ended.body)["problems"]
    assert [(problem["index"], problem["code"]) for problem in problems] == [(1, "syntax_error"), (3, "syntax_error")]
    assert ended.text() == ["at import"]


def test_a_heartbeat_comes_soon_and_then_twice_a_second(run: Run) -> None:
    ended = run("import time; time.sleep(1.4)")
    assert ended.heartbeats == 3


def test_nobody_who_speaks_first_is_needed(supervisor: Supervisor) -> None:
    supervisor.send(Job(function=source("return {'x': 1}")))
    supervisor.hello()
    assert supervisor.ended().changes == {"x": 1}


def test_without_an_order_the_end_of_stdin_is_the_end(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.close_stdin()
    assert supervisor.read() is None
    assert supervisor.process.wait(5) == 0


def test_the_end_of_stdin_kills_everything(supervisor: Supervisor) -> None:
    supervisor.hello()
    body = "import os, time\npid = os.fork()\nif pid: print(os.getpid(), pid, flush=True)\ntime.sleep(60)"
    supervisor.send(Job(function=source(body)))
    pids = [int(pid) for pid in supervisor.first_line().split()]
    supervisor.close_stdin()
    assert supervisor.process.wait(5) == 0
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


def test_a_second_order_breaks_the_protocol(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(Job(function=source("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")))
    pid = int(supervisor.first_line())
    supervisor.write(b"x")
    assert supervisor.process.wait(5) != 0
    assert "more than one order" in supervisor.stderr()
    assert is_gone(pid)


@pytest.mark.parametrize(
    "data",
    [encode(Kind.RESULT, {}), b"\xff" * 9, b"\0\0\0\0\x01", encode(Kind.EXECUTE, {}) + b"!"],
    ids=["no order", "a huge length", "no length", "something after it"],
)
def test_what_is_no_order_is_refused(supervisor: Supervisor, data: bytes) -> None:
    supervisor.hello()
    supervisor.write(data)
    assert supervisor.process.wait(5) == 4
    assert supervisor.stderr().startswith("sandgraph: ")


def test_a_host_that_reads_no_more_ends_it(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(Job(function=source("while True: print('x' * 1000)"), max_output_bytes=1 << 30))
    supervisor.first_line()
    assert supervisor.process.stdout is not None
    supervisor.process.stdout.close()
    assert supervisor.process.wait(5) == 0


def test_a_host_that_is_slow_loses_nothing(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(Job(function=source("for i in range(60_000): print(i)")))
    time.sleep(0.5)
    assert supervisor.ended().text() == [str(i) for i in range(60_000)]


def test_it_ignores_the_signals_that_can_be(supervisor: Supervisor) -> None:
    supervisor.hello()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGQUIT):
        supervisor.process.send_signal(number)
    supervisor.send(Job(function=source("return {'x': 1}")))
    assert supervisor.ended().changes == {"x": 1}


def test_it_is_closed_to_processes_of_its_user(supervisor: Supervisor) -> None:
    supervisor.hello()
    # The files of an undumpable process belong to root, whoever runs it; for root only this tells the difference.
    body = "import ctypes; state['dumpable'] = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)"
    supervisor.send(Job(function=source(body)))
    assert supervisor.ended().changes == {"dumpable": 1}


def test_descriptors_that_leaked_into_it_are_closed() -> None:
    with Path(__file__).open("rb") as leaked:
        supervisor = Supervisor(pass_fds=(leaked.fileno(),))
    supervisor.hello()
    supervisor.send(Job(function=source("import os; return {'fds': os.listdir('/proc/self/fd')}")))
    fds = sorted(map(int, supervisor.ended().changes["fds"]))
    supervisor.close()
    # Its own three, the pipe of its outcome, and the one that lists them.
    assert fds[:3] == [0, 1, 2]
    assert len(fds) == 5


def test_where_there_are_no_pidfds_it_looks_again_and_again() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from sandgraph_runner import kernel, supervisor
kernel.open_pidfd = lambda pid: None
sys.exit(supervisor.main())
"""
    supervisor = Supervisor("-c", script)
    supervisor.hello()
    # Nothing but the process's end is there to be seen: a daemon holds the pipes.
    supervisor.send(Job(function=source("import os, time\nif os.fork(): os._exit(7)\ntime.sleep(60)")))
    assert supervisor.ended().report.exit_code == 7
    supervisor.close()


def test_a_sandbox_that_is_kept_says_hello_again_and_takes_another_order(supervisor: Supervisor) -> None:
    supervisor.hello()
    body = "import sys, os\nseen = hasattr(sys, 'left')\nsys.left = 1\nreturn {'seen': seen, 'pid': os.getpid()}"
    pids = set()
    for _ in range(3):
        supervisor.send(Job(function=source(body), keep=True))
        changes = supervisor.reported().changes
        assert not changes["seen"]
        pids.add(changes["pid"])
        supervisor.hello()
    assert len(pids) == 3
    supervisor.send(Job(function=source("return {'x': 1}")))
    assert supervisor.ended().changes == {"x": 1}


def test_one_that_raised_goes_on_too(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(Job(function=source("1 / 0"), keep=True))
    assert supervisor.reported().report.reason is Reason.ERROR
    supervisor.hello()
    supervisor.send(Job(function=source("return {'x': 1}")))
    assert supervisor.ended().changes == {"x": 1}


def test_what_was_left_running_is_dead_before_the_next_hello(supervisor: Supervisor) -> None:
    supervisor.hello()
    body = """
        import os, subprocess, sys
        loop = [sys.executable, "-c", "import time; time.sleep(60)"]
        sleeper = subprocess.Popen(loop, start_new_session=True)
        return {"pid": sleeper.pid}"""
    supervisor.send(Job(function=source(body), keep=True))
    pid = supervisor.reported().changes["pid"]
    supervisor.hello()
    assert is_gone(pid, 0)
    supervisor.close_stdin()
    assert supervisor.read() is None


def test_a_child_that_was_killed_while_it_waited_is_replaced(supervisor: Supervisor) -> None:
    supervisor.hello()
    time.sleep(0.2)
    children = Path(f"/proc/{supervisor.process.pid}/task/{supervisor.process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    time.sleep(0.1)
    supervisor.send(Job(function=source("return {'x': 1}")))
    assert supervisor.ended().changes == {"x": 1}


def test_one_that_is_kept_does_not_grow(supervisor: Supervisor) -> None:
    def resident_kb() -> int:
        status = Path(f"/proc/{supervisor.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    supervisor.hello()
    sizes = []
    for _ in range(12):
        supervisor.send(
            Job(function=source("state.set('text', state.get('text') + 'x')"), keep=True), {"text": "x" * 10**6}
        )
        assert len(supervisor.reported().changes["text"]) == 10**6 + 1
        supervisor.hello()
        sizes.append(resident_kb())
    assert max(sizes[6:]) < max(sizes[:6]) + 1000
