"""How an attempt may end, and what hostile code can do about what is reported: nothing but its own result."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest
from tests.unit.runner.driver import Ended, is_gone

from sandgraph_runner.protocol import Condition, Kind, Reason, Report, encode

Run = Callable[..., Ended]

#: Finds the descriptor of the outcome's pipe: the only one above the standard three.
PIPE = "import os\nfd = max(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}'))\n"


def message(outcome: object, tag: bytes = b"R") -> bytes:
    body = json.dumps(outcome).encode()
    return struct.pack(">cI", tag, len(body)) + body


def outcome(**changes: object) -> dict[str, object]:
    ops = [{"op": "set", "key": key, "value": value} for key, value in changes.items()]
    return {
        "ops": ops,
        "entered": True,
        "again": None,
        "after": [],
        "value": None,
        "reads": [],
        "reads_cut": False,
    }


@pytest.mark.parametrize("code", [0, 1, 124, 137])
def test_an_exit_without_an_outcome_is_no_result_and_nothing_else(run: Run, code: int) -> None:
    report = run(f"import os; print('x'); os._exit({code})").report
    assert (report.reason, report.exit_code, report.signal) == (Reason.NO_RESULT, code, None)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("import sys; sys.exit(0)", "SystemExit"),
        ("raise SystemExit", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("bytearray(10**15)", "MemoryError"),
        ("def g(): g()\ng()", "RecursionError"),
    ],
)
def test_whatever_is_raised_is_an_error_of_the_user(run: Run, statement: str, kind: str) -> None:
    ended = run(statement)
    assert ended.report.reason is Reason.ERROR
    assert ended.account["type"] == kind


@pytest.mark.parametrize("number", [9, 15, 11, 6])
def test_a_signal_is_reported_as_what_it_was(run: Run, number: int) -> None:
    report = run(f"import os; os.kill(os.getpid(), {number})").report
    assert (report.reason, report.exit_code, report.signal) == (Reason.KILLED, None, number)


def test_an_interrupt_is_what_it_is_in_any_python(run: Run) -> None:
    assert run("import os, time; os.kill(os.getpid(), 2); time.sleep(5)").account["type"] == "KeyboardInterrupt"


def test_a_printed_frame_is_text(run: Run) -> None:
    forged = encode(Kind.RESULT, Report().to_meta(), b'{"ops":[]}')
    ended = run(f"import os; os.write(1, {forged!r} + b'\\n'); os.write(2, {forged!r}); return {{'x': 1}}")
    assert ended.changes == {"x": 1}
    assert ended.text()[0].startswith("\ufffd")
    assert len(ended.lines) == 2


def test_frames_on_every_descriptor_change_nothing_but_its_own_result(run: Run) -> None:
    forged = encode(Kind.RESULT, Report().to_meta(), b'{"ops":[]}')
    body = f"""
    import os
    for fd in range(3, 256):
        try: os.write(fd, {forged!r})
        except OSError: pass
    return {{"x": 1}}
    """
    report = run(body).report
    assert report.reason is Reason.RESULT_INVALID


def test_of_two_results_the_first_counts(run: Run) -> None:
    ended = run(PIPE + f"os.write(fd, {message(outcome(x=1))!r} + {message(outcome(x=2))!r})\nreturn {{'x': 3}}")
    assert ended.changes == {"x": 1}


def test_a_result_ends_it_at_once(run: Run) -> None:
    ended = run(PIPE + f"os.write(fd, {message(outcome(x=1))!r})\nimport time; time.sleep(60)")
    assert ended.changes == {"x": 1}
    assert ended.report.signal is None


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (b"R\xff\xff\xff\xff", "over the limit"),
        (b"R\0\0\0\0", "not JSON"),
        (b"Q\0\0\0\1x", "of its own"),
        (message({}), "fields"),
        (message([]), "fields"),
        (message({**outcome(), "next": "b"}), "fields"),
        (message({**outcome(), "after": [True]}), "'after'"),
        (message({**outcome(), "again": True}), "'again'"),
        (message({**outcome(), "entered": False}), "'entered'"),
        (message({**outcome(), "ops": [{"op": "run"}]}), "neither"),
        (message({**outcome(), "value": 1}), "none was given"),
        (message({**outcome(), "value": {"x": 1}}), "none was given"),
        (message({**outcome(), "reads": "all"}), "'reads'"),
        (message({**outcome(), "reads": ["x"] * 2}), "'reads'"),
        (message({**outcome(), "reads_cut": None}), "'reads_cut'"),
        (message({"type": "E"}, b"A"), "account"),
    ],
)
def test_what_is_no_outcome_is_invalid(run: Run, written: bytes, says: str) -> None:
    report = run(PIPE + f"os.write(fd, {written!r})\nimport time; time.sleep(60)").report
    assert report.reason is Reason.RESULT_INVALID
    assert says in report.message


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (message(outcome(x=1)), "changes the state"),
        (message({**outcome(), "entered": False}), "'entered'"),
        (message({**outcome(), "after": [True]}), "'after'"),
        (message({**outcome(), "again": True}), "'again'"),
        (message({**outcome(), "value": 2**70}), "the result of item 1: result is an integer beyond"),
    ],
)
def test_what_is_no_outcome_for_an_item_is_invalid(run: Run, written: bytes, says: str) -> None:
    asked = Condition(expression="True")
    job: dict[str, object] = {"item_key": "items", "item_index": 1, "before": asked, "again": asked, "after": (asked,)}
    report = run(PIPE + f"os.write(fd, {written!r})\nimport time; time.sleep(60)", {"items": [1, 2]}, **job).report
    assert report.reason is Reason.RESULT_INVALID
    assert says in report.message


def test_a_result_may_be_forged_by_whom_it_belongs_to(run: Run) -> None:
    written = message({**outcome(), "value": {"x": 1}, "reads": None, "reads_cut": True})
    ended = run(PIPE + f"os.write(fd, {written!r})\nimport time; time.sleep(60)", {"items": [1]}, item_key="items")
    assert ended.outcome["value"] == {"x": 1}


def test_who_breaks_what_says_what_was_read_still_has_a_result(run: Run) -> None:
    ended = run("import builtins; builtins.sorted = None; return state", {"items": [5]}, item_key="items")
    assert (ended.outcome["value"], ended.outcome["reads"], ended.outcome["reads_cut"]) == (5, None, False)


def test_half_an_outcome_is_none(run: Run) -> None:
    report = run(PIPE + f"os.write(fd, {message(outcome(x=1))[:-1]!r})\nos._exit(0)").report
    assert report.reason is Reason.NO_RESULT
    assert report.exit_code == 0
    assert "in the middle" in report.message


def test_a_forged_account_cannot_pose_as_the_supervisor(run: Run) -> None:
    account = {"type": "E", "message": "m", "traceback": "", "condition": None, "key": None}
    report = run(PIPE + f"os.write(fd, {message(account, b'A')!r})\nimport time; time.sleep(60)").report
    assert (report.reason, report.message) == (Reason.ERROR, "E: m")


def test_a_memory_error_is_not_out_of_memory_unless_the_kernel_says_so(run: Run) -> None:
    assert run("raise MemoryError").report.reason is Reason.ERROR


def test_with_every_descriptor_closed_there_is_no_result(run: Run) -> None:
    report = run("import os; os.closerange(0, 256); return {'x': 1}").report
    assert report.reason is Reason.NO_RESULT


def test_with_its_outcome_elsewhere_there_is_no_result(run: Run) -> None:
    body = "import os\nnull = os.open('/dev/null', os.O_RDWR)\nfor fd in range(3, 256): os.dup2(null, fd)"
    assert run(body).report.reason is Reason.NO_RESULT


def test_atexit_has_no_say(run: Run) -> None:
    ended = run("import atexit; atexit.register(print, 'late'); return {'x': 1}")
    assert ended.changes == {"x": 1}
    assert ended.lines == []


def test_a_destructor_has_no_say(run: Run) -> None:
    body = """
    class Late:
        def __del__(self): print("late")
    late = Late()
    def f(state): state["x"] = 1
    """
    ended = run(body)
    assert ended.changes == {"x": 1}
    assert ended.lines == []


def test_a_thread_that_goes_on_changes_nothing_and_holds_nothing_up(run: Run) -> None:
    body = """
    import threading, time
    def f(state):
        value = state["value"] = [0]
        def go_on():
            while True:
                value.append(1)
                time.sleep(0.001)
        threading.Thread(target=go_on).start()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """
    assert run(body).changes["value"][0] == 0


def test_grandchildren_are_killed(run: Run) -> None:
    body = """
    import os, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    daemon = os.fork()
    if not daemon:
        os.setsid()
        if os.fork():
            os._exit(0)
        print(os.getpid(), flush=True)
        import time; time.sleep(60)
    os.waitpid(daemon, 0)
    import time; time.sleep(0.1)
    return {"pids": [child.pid]}
    """
    ended = run(body)
    pids = [*ended.changes["pids"], *map(int, ended.text())]
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


def test_a_forked_copy_gives_no_outcome(run: Run) -> None:
    body = """
    import os
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the copy")
    return {"status": os.waitpid(pid, 0)[1]}
    """
    ended = run(body)
    assert ended.changes == {"status": 256}
    assert ended.text("stderr")[-1] == "ValueError: in the copy"


def test_patching_the_library_changes_only_its_own_result(run: Run) -> None:
    body = """
    import builtins, json, os, sys
    os.write = os._exit = json.dumps = json.loads = None
    json.JSONEncoder.encode = lambda *_: "{}"
    for name in list(sys.modules):
        if name not in {"builtins", "sys"}: del sys.modules[name]
    sys.stdout = None
    builtins.isinstance = builtins.len = builtins.str = lambda *_: 1/0
    state["x"] = {"a": [1]}
    """
    ended = run(body)
    assert ended.kind is Kind.FAILURE or ended.changes == {"x": {"a": [1]}}


def test_evil_exceptions_are_told_of_all_the_same(run: Run) -> None:
    body = """
    class Evil(Exception):
        __class__ = property(lambda self: 1/0)
        __cause__ = property(lambda self: 1/0)
        def __str__(self): raise SystemExit(0)
        __repr__ = __str__
    def f(state): raise Evil()
    """
    account = run(body).account
    assert account["type"] == "Evil"
    assert "cannot be shown" in account["message"]


def test_a_huge_message_is_cut(run: Run) -> None:
    ended = run("raise ValueError('ä' * 50_000_000)")
    assert ended.report.reason is Reason.ERROR
    assert len(ended.account["message"].encode()) <= 8 * 1024
    assert len(ended.account["traceback"].encode()) <= 32 * 1024


def test_the_largest_result_is_the_jobs_limit(run: Run) -> None:
    ended = run("return {'small': 1, 'big': 'x' * 2000}", max_result_bytes=1000)
    assert ended.report.reason is Reason.RESULT_INVALID
    assert ended.account["key"] == "big"
    assert "1000 bytes" in ended.report.message


def test_a_value_of_no_json_type_names_its_key(run: Run) -> None:
    ended = run("state['rows'] = [{'when': {1, 2}}]")
    assert ended.report.reason is Reason.RESULT_INVALID
    assert (
        ended.report.message
        == "state key 'rows': rows[0]['when'] is of the type set, which JSON does not have; use a list"
    )


def test_stdin_is_empty(run: Run) -> None:
    assert run("import sys, os\nreturn {'read': [sys.stdin.read(), os.read(0, 9).decode()]}").changes == {
        "read": ["", ""]
    }


def test_what_the_child_inherits(run: Run) -> None:
    body = """
    import gc, os, resource, signal, sys
    ignored = [int(s) for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN]
    return {
        "ignored": ignored,
        "fds": len(os.listdir("/proc/self/fd")),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "oom": open("/proc/self/oom_score_adj").read().strip(),
        "leader": os.getsid(0) == os.getpid(),
        "gc": gc.isenabled(),
        "argv": sys.argv,
        "main": sys.modules["__main__"].__dict__.get("__file__"),
    }
    """
    assert run(body).changes == {
        "ignored": [13, 25],
        "fds": 5,
        "core": 0,
        "oom": "1000",
        "leader": True,
        "gc": True,
        "argv": ["sandgraph"],
        "main": None,
    }


def test_its_processes_count_as_time_used(run: Run) -> None:
    body = """
    import os, time
    pid = os.fork()
    if not pid:
        while time.process_time() < 0.3: pass
        os._exit(0)
    os.waitpid(pid, 0)
    """
    assert (run(body).report.used.cpu_s or 0) >= 0.3


def test_submitted_modules_are_what_the_library_expects(run: Run) -> None:
    body = """
    from __future__ import annotations
    import inspect, pickle, typing
    from dataclasses import dataclass
    from sandgraph import WorkflowState, tool, tools, get_global_registry

    @dataclass
    class Point:
        x: int
        y: typing.ClassVar[int] = 2

    @tool
    def twice(x): return x * 2

    def f(state: WorkflowState) -> None:
        same = pickle.loads(pickle.dumps(Point(3)))
        state.set("point", same.x)
        state.set("source", inspect.getsource(Point).splitlines()[-1].strip())
        state.set("four", tools.invoke("twice", 2))
        assert get_global_registry() is tools
        assert __name__ != "__main__"
    """
    assert run(body).changes == {"four": 4, "point": 3, "source": "y: typing.ClassVar[int] = 2"}


def test_reading_ones_own_pipes_takes_nothing_but_ones_own_output(run: Run) -> None:
    # What was there when the supervisor was woken up may be gone when it reads.
    body = """
    import os, time
    if not os.fork():
        ends = [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK) for fd in (1, 2)]
        while True:
            for end in ends:
                try: os.read(end, 65536)
                except BlockingIOError: pass
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        os.write(1, b"x\\n")
        os.write(2, b"y\\n")
    return {"x": 1}
    """
    assert run(body, max_output_bytes=1 << 26).changes == {"x": 1}
