"""Every line of the red team's list is a test that is there, or the threat model says why not. Needs no engine."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
THREAT_MODEL = HERE.parents[1] / "docs" / "threat-model.md"

A, K, N, P, R, S, T = (
    f"test_{name}.py"
    for name in (
        "attempts_end_truthfully",
        "kernel_and_files",
        "network_and_platform",
        "protocol",
        "resources",
        "state",
        "statuses",
    )
)
KERNEL = (K, "test_8_and_60_to_72_the_kernel_refuses")

#: Number, what is tried, and where: a test function, or a case of a table that a test goes through.
LINES: dict[int, tuple[str, list[tuple[str, str]]]] = {
    1: ("a fake result frame is printed", [(A, "test_1_a_fake_result_frame_is_log_text")]),
    2: ("frames on every descriptor", [(A, "test_2_frames_on_every_descriptor_change_nothing_but_its_own_result")]),
    3: ("two results", [(P, "3 two results: the first that is complete")]),
    4: ("forged run, node, attempt, status", [(P, "4 a result that names run, attempt and status")]),
    5: ("edges or a next node", [(P, "5 answers for edges that were not asked")]),
    6: ("exit before the return", [(A, "6 exits before returning"), (T, "succeeded: an exit with 0")]),
    7: ("SystemExit, KeyboardInterrupt", [(A, "7 SystemExit"), (A, "7 KeyboardInterrupt")]),
    8: ("the supervisor is killed or traced", [(P, "test_8_the_supervisor_stands_or_the_attempt_falls"), KERNEL]),
    9: ("kill(-1, 9)", [(P, "9 kills whatever it may")]),
    11: ("patched modules and builtins", [(P, "11 empties sys.modules and replaces the builtins")]),
    13: ("every descriptor closed", [(A, "13 closes every descriptor"), (P, "13 sends its outcome to its output")]),
    14: ("atexit", [(P, "14 rewrites its result at its exit")]),
    15: ("a daemon thread after the return", [(P, "15 a daemon thread changes what was returned")]),
    16: ("a thread that never ends", [(P, "16 a thread that never ends")]),
    18: ("methods with side effects", [(P, "18 values and keys with a life of their own")]),
    19: ("headers that lie", [(P, "19 a header of four gigabytes"), (P, "19b half a frame, then the end")]),
    20: ("control characters and HTML", [(A, "test_20_control_characters_are_stored_as_text")]),
    21: ("an exception of 100 MB", [(A, "21 an exception of 100 MB")]),
    22: ("stdin", [(P, "22 reads its stdin")]),
    23: ("exits with 137 and 124", [(T, "timeout: an exit with 124"), (T, "oom: an exit with 137")]),
    24: ("a value of a gigabyte", [(S, "24 a value of a gigabyte"), (S, "24a more than there is memory")]),
    25: ("a million keys", [(A, "25 a million keys"), (S, "test_25_as_many_long_keys_as_there_may_be")]),
    26: ("depth", [(S, "26 depth of 100,000")]),
    27: ("NaN and Infinity", [(A, "27 NaN"), (S, "27 Infinity"), (S, "27 the word NaN")]),
    28: ("lone surrogates", [(A, "28 a lone surrogate"), (S, "28 a key of half a surrogate pair")]),
    29: ("NUL", [(S, "29 NUL in values")]),
    31: ("keys that are no strings, or twice there", [(S, "31 a number as a key"), (P, "19f one key twice")]),
    32: ("cycles, lambdas, sets, bytes", [(S, "32 a cycle"), (S, "32a a lambda"), (A, "32 a set"), (S, "32b bytes")]),
    34: ("names that mean something elsewhere", [(S, "34 names that mean something elsewhere")]),
    35: ("a pickle", [(S, "35 an object that would unpickle to a call"), (S, "35a a pickle")]),
    36: ("what it returns", [(S, "test_36_and_37_whatever_it_returns")]),
    37: ("reserved keys", [(S, "test_36_and_37_whatever_it_returns")]),
    38: ("a change, then an exception", [(A, "38 changes the state, then raises")]),
    39: ("a busy loop", [(A, "39 a busy loop"), (R, "39a a busy loop in every thread and process it may have")]),
    40: ("signals ignored", [(A, "40 sleeps ignoring SIGTERM"), (R, "40a ignores every signal there is")]),
    42: ("a fork bomb", [(A, "42 a fork bomb"), (T, "42 forks without end")]),
    43: ("a thread bomb", [(R, "43 threads without end"), (T, "43 threads without end")]),
    44: ("memory", [(A, "44 allocates everything"), (T, "44 allocates everything")]),
    45: ("memory of a grandchild", [(R, "45 only a grandchild runs out of memory")]),
    46: ("/tmp", [(R, "46 fills /tmp")]),
    47: ("inodes", [(R, "47 inodes without end")]),
    48: ("/dev/shm and /dev/mqueue", [(R, "48 fills /dev/shm"), (R, "48a makes message queues")]),
    49: ("a gigabyte of output", [(R, "49a a gigabyte of output, as fast as it goes")]),
    50: ("an endless line", [(A, "50 an endless line")]),
    52: ("tiny writes", [(R, "52 tiny writes without end")]),
    53: ("every descriptor", [(R, "53 every descriptor")]),
    55: ("a zip bomb", [(R, "55 what unpacks to a million times its size")]),
    57: ("a loop at import", [(R, "57 an endless loop")]),
    58: ("a core dump", [(R, "58 a core dump")]),
    59: ("every core busy", [(R, "test_59_the_api_answers_while_every_core_is_busy")]),
    60: ("mount, pivot_root", [KERNEL]),
    61: ("unshare", [KERNEL]),
    62: ("io_uring", [KERNEL]),
    63: ("bpf, perf, userfaultfd", [KERNEL]),
    65: ("personality, 32-bit", [KERNEL, (K, "test_65_the_32_bit_interfaces_are_closed")]),
    66: ("the clock", [KERNEL]),
    68: ("setuid", [(K, "test_68_setuid_programs_gain_nothing")]),
    69: ("the root file system", [(K, "test_69_nothing_but_its_tmpfs_is_writable")]),
    70: ("/proc/sys", [(K, "test_70_no_setting_of_the_kernel_is_writable")]),
    71: ("secrets in /proc", [(K, "test_71_nothing_of_the_host_or_the_supervisor_is_there_to_be_read")]),
    72: ("links and devices", [KERNEL, (K, "test_72_what_the_host_reads_are_never_files")]),
    73: ("names as paths", [(K, "test_73_names_are_never_paths")]),
    76: ("the metadata address", [(N, "test_76_to_78_there_is_no_way_out")]),
    77: ("DNS", [(N, "test_76_to_78_there_is_no_way_out")]),
    78: ("services and siblings", [(N, "test_76_to_78_there_is_no_way_out"), (N, "test_78_siblings_do_not_meet")]),
    79: ("the control plane as a module", [(A, "test_79_no_network_no_control_plane_no_secrets")]),
    80: ("what was left", [("test_residue.py", "test_80_what_the_last_node_left_is_gone")]),
    81: ("its own confinement", [(N, "test_81_what_confines_it_is_not_its_choice")]),
    82: ("webhooks", []),
    83: ("the platform is killed", [(N, "test_83_a_platform_that_is_killed_leaves_nothing_that_runs")]),
    84: ("a thousand at once", [(N, "test_84_a_crowd_waits_in_a_bounded_queue_and_then_outside")]),
}


@cache
def _tried(file: str) -> frozenset[str]:
    """Names of a file's tests, and the cases of those of its tables that a test is parametrised with."""
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    tests = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")]
    used = {name.id for test in tests for name in ast.walk(test) if isinstance(name, ast.Name)}
    found = {test.name for test in tests}
    for each in tree.body:
        target = (
            each.target
            if isinstance(each, ast.AnnAssign)
            else each.targets[0]
            if isinstance(each, ast.Assign)
            else None
        )
        value = each.value if isinstance(each, ast.AnnAssign | ast.Assign) else None
        if isinstance(target, ast.Name) and target.id in used and isinstance(value, ast.Dict):
            found |= {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
    return frozenset(found)


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_tried_or_explained(line: int) -> None:
    title, places = LINES[line]
    missing = [f"{file}: {name}" for file, name in places if name not in _tried(file)]
    assert missing == [], title
    rows = [row for row in THREAT_MODEL.read_text(encoding="utf-8").splitlines() if row.startswith("|")]
    assert places or any(row.startswith(f"| {line} ") for row in rows), f"{line} {title}: neither tried nor explained"


def test_the_list_is_whole() -> None:
    # Numbers that the list does not give out.
    assert set(range(1, 85)) - set(LINES) == {10, 12, 17, 30, 33, 41, 51, 54, 56, 64, 67, 74, 75}
