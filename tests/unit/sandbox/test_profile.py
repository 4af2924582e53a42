"""The profile of a sandbox, whole: a change of it is a change of this file too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sandgraph.model.limits import Limits
from sandgraph.sandbox.profile import Image, container_config, load_seccomp, resource_limits

IMAGE = Image("sha256:1", "runc", '{"defaultAction": "SCMP_ACT_ERRNO"}')


def test_the_whole_profile() -> None:
    limits = Limits(cpus=0.25, memory_mb=48, pids=12, tmp_mb=4)
    config: dict[str, Any] = container_config(IMAGE, limits, {"sandgraph.role": "sandbox"})
    assert config.pop("HostConfig") == {
        "Runtime": "runc",
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=4194304,nr_inodes=1024",
            "/dev/shm": "rw,noexec,nosuid,nodev,mode=1777,size=1048576,nr_inodes=64",
        },
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", 'seccomp={"defaultAction": "SCMP_ACT_ERRNO"}'],
        "Privileged": False,
        "Memory": 48 * 2**20,
        "MemorySwap": 48 * 2**20,
        "NanoCpus": 250_000_000,
        "PidsLimit": 12,
        "CpuShares": 256,
        "OomScoreAdj": 500,
        "OomKillDisable": False,
        "Ulimits": [
            {"Name": "nofile", "Soft": 1024, "Hard": 1024},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": 4194304, "Hard": 4194304},
            {"Name": "msgqueue", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": {"Type": "none"},
        "Init": False,
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
    }
    assert config == {
        "Image": "sha256:1",
        "User": "65534:65534",
        "Hostname": "sandbox",
        "Env": [],
        "Labels": {"sandgraph.role": "sandbox"},
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
    }


def test_what_an_update_may_change_is_part_of_the_profile() -> None:
    config: dict[str, Any] = container_config(IMAGE, Limits(), {})
    assert resource_limits(Limits(), IMAGE.runtime).items() <= config["HostConfig"].items()


def test_gvisor_has_room_of_its_own() -> None:
    native, gvisor = (resource_limits(Limits(), runtime) for runtime in ("runc", "runsc"))
    assert gvisor == {**native, "Memory": 288 * 2**20, "MemorySwap": 288 * 2**20, "PidsLimit": 128}


def test_our_seccomp_profile_is_found_and_denies_by_default() -> None:
    assert json.loads(load_seccomp())["defaultAction"] == "SCMP_ACT_ERRNO"


PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def named(header: str) -> set[str]:
    """Return what the first columns of the page's tables with this header name."""
    tables = re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return {name for table in tables for row in table.splitlines() for name in re.findall("`(.+?)`", row.split("|")[1])}


def described() -> dict[str, set[str]]:
    """Return what the profile has, by the header of the tables in which the page describes it."""
    config: dict[str, Any] = container_config(IMAGE, Limits(), {})
    host = config["HostConfig"]
    return {
        "Line": ({*config, *host}) - {"HostConfig"},
        "Option of a tmpfs": {part.split("=")[0] for mount in host["Tmpfs"].values() for part in mount.split(",")},
        "Security option": {option.split("=")[0] for option in host["SecurityOpt"]},
        "Limit": {limit["Name"] for limit in host["Ulimits"]},
        "Group": {rule["comment"].split(":")[0] for rule in json.loads(load_seccomp())["syscalls"]},
    }


@pytest.mark.parametrize("header", described())
def test_the_page_says_of_each_line_what_it_stops_and_of_nothing_else(header: str) -> None:
    assert named(header) == described()[header]


def test_each_row_of_the_page_has_something_to_say() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if not all(cell.strip() for cell in row.strip("|").split("|"))] == []
