"""The seccomp profile, as far as it can be judged without a container: what is refused, and that nothing undoes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.runner.driver import PACKAGE

PROFILE: dict[str, Any] = json.loads((PACKAGE.parent / "seccomp.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = PROFILE["syscalls"]
ALLOWED = {
    name for rule in RULES if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") for name in rule["names"]
}


def conditions(name: str) -> list[tuple[int, int, str]]:
    """Return the arguments with which a call is allowed: index, value, comparison."""
    rules = [rule for rule in RULES if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"]
    return [(arg["index"], arg["value"], arg["op"]) for rule in rules for arg in rule["args"]]


def test_what_is_not_named_is_refused_and_there_is_no_second_abi() -> None:
    assert (PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert [entry["architecture"] for entry in PROFILE["archMap"]] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    assert not any(entry["subArchitectures"] for entry in PROFILE["archMap"])


@pytest.mark.parametrize(
    "names",
    [
        "io_uring_setup io_uring_enter io_uring_register",
        "keyctl add_key request_key",
        "unshare setns",
        "bpf perf_event_open userfaultfd memfd_create memfd_secret seccomp",
        "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd",
        "mount umount umount2 fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr pivot_root chroot",
        "kexec_load kexec_file_load init_module finit_module delete_module",
        "settimeofday clock_settime clock_adjtime adjtimex stime",
        "swapon swapoff reboot quotactl acct syslog sethostname setdomainname",
        "name_to_handle_at open_by_handle_at lookup_dcookie iopl ioperm modify_ldt vm86 vm86old",
        "shmget msgget semget mq_open sync syncfs fanotify_init",
        "clone clone3 socket socketpair personality prlimit64 setpriority",
        # Counted for each user, whom all sandboxes share: one could use them all up.
        "inotify_init inotify_init1 inotify_add_watch",
    ],
)
def test_calls_that_are_refused_are_nowhere_allowed_without_a_condition(names: str) -> None:
    assert not ALLOWED & set(names.split())


def test_processes_and_threads_start_without_namespaces() -> None:
    namespaces = 0x7E020000  # every CLONE_NEW flag that clone takes
    assert conditions("clone") == [(0, namespaces, "SCMP_CMP_MASKED_EQ")]
    [clone3] = [rule for rule in RULES if "clone3" in rule["names"]]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_sockets_are_local_or_of_the_internet() -> None:
    assert conditions("socket") == [(0, family, "SCMP_CMP_EQ") for family in (1, 2, 10)]
    assert conditions("socketpair") == [(0, 1, "SCMP_CMP_EQ")]


def test_limits_and_priorities_can_be_set_for_the_caller_alone() -> None:
    for name in ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setattr", "sched_setparam"):
        assert conditions(name) == [(0, 0, "SCMP_CMP_EQ")]
    assert conditions("setpriority") == [(0, 0, "SCMP_CMP_EQ"), (1, 0, "SCMP_CMP_EQ")]
