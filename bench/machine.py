"""What the figures were taken on, and what processes on it use."""

from __future__ import annotations

import os
import platform
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import DockerException

_MIB = 1024 * 1024


def describe() -> str:
    """Return one line: cores, memory, kernel, engine, Python, load."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, {_engine()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.1f}"
    )


def _engine() -> str:
    """Return the engine and runc; not every benchmark needs one."""
    try:
        client = docker.APIClient()
        try:
            version, info = client.version(), client.info()
        finally:
            client.close()
    except DockerException:
        return "no Docker engine"
    parts = {each["Name"]: each["Version"] for each in version.get("Components", ())}
    return (
        f"Docker {version['Version']}, containerd {parts.get('containerd', '?')}, "
        f"{info['DefaultRuntime']} {parts.get('runc', '?')}, cgroup v{info.get('CgroupVersion', '?')}"
    )


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS")


def rollup_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident memory, and its proportional share of it."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    return _field(path, "Rss"), _field(path, "Pss")


def children(pid: int) -> list[int]:
    """Return the processes that a process's first thread has forked."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Watch:
    """The highest resident memory seen."""

    def __init__(self, pid: int) -> None:
        self.before_mb = self.peak_mb = rss_mb(pid)

    @property
    def growth_mb(self) -> float:
        """How far it rose over what it was at first."""
        return self.peak_mb - self.before_mb


@contextmanager
def watched(pid: int, every_s: float = 0.02) -> Iterator[Watch]:
    """Look at a process's memory, again and again, as long as the block runs."""
    watch, over = Watch(pid), threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            watch.peak_mb = max(watch.peak_mb, rss_mb(pid))

    thread = threading.Thread(target=look, name="memory watch")
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _field(path: Path, name: str) -> float:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / _MIB
    raise KeyError(name)
