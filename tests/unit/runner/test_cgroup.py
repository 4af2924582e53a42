"""What was used, read from a cgroup's files of either version, played by a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandgraph_runner.cgroup import Meter
from sandgraph_runner.protocol import Used

V2 = {
    "cpu.stat": "usage_usec {cpu}\nuser_usec 1\nsystem_usec 2\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill {oom}\noom_group_kill 0\n",
    "memory.current": "{memory}\n",
    "memory.peak": "{memory_peak}\n",
    "pids.current": "{pids}\n",
    "pids.peak": "{pids_peak}\n",
}
V1 = {
    "cpuacct/cpuacct.usage": "{cpu}000\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {oom}\n",
    "memory/memory.usage_in_bytes": "{memory}\n",
    "memory/memory.max_usage_in_bytes": "{memory_peak}\n",
    "pids/pids.current": "{pids}\n",
    "pids/pids.peak": "{pids_peak}\n",
}


class Cgroup:
    """A cgroup's files; what is not said anew stays."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self._root, self._files = root, files
        self._values = {"cpu": 1_000_000, "oom": 2, "memory": 100, "memory_peak": 200, "pids": 2, "pids_peak": 2}
        self.say()

    def say(self, **values: int) -> None:
        self._values |= values
        for name, text in self._files.items():
            file = self._root / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text.format(**self._values))


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path) -> Cgroup:
    return Cgroup(tmp_path, request.param)


def test_what_rises_is_counted_from_the_beginning(cgroup: Cgroup, tmp_path: Path) -> None:
    meter = Meter(str(tmp_path))
    cgroup.say(cpu=3_500_000, oom=3, memory_peak=900, pids_peak=5)
    assert meter.read() == Used(2.5, 900, 5, 1)


def test_a_second_attempts_peak_is_exact_where_it_is_the_highest(cgroup: Cgroup, tmp_path: Path) -> None:
    meter = Meter(str(tmp_path))
    cgroup.say(memory_peak=900, pids_peak=5, cpu=2_000_000)
    meter.read()
    meter.begin()
    cgroup.say(memory_peak=901, pids_peak=6, cpu=2_250_000)
    assert meter.read() == Used(0.25, 901, 6, 0)


def test_else_it_is_the_most_that_was_seen(cgroup: Cgroup, tmp_path: Path) -> None:
    meter = Meter(str(tmp_path))
    cgroup.say(memory=900, memory_peak=900, pids=5, pids_peak=5)
    meter.read()
    cgroup.say(memory=100, pids=2)
    meter.begin()
    cgroup.say(memory=300, pids=3)
    meter.sample()
    cgroup.say(memory=150, pids=2)
    assert (meter.read().peak_memory_bytes, meter.read().pids_peak) == (300, 3)


def test_without_a_cgroup_it_is_what_is_known_of_processes_waited_for(tmp_path: Path) -> None:
    meter = Meter(str(tmp_path / "none"))
    assert meter.read() == Used(None, None, None, 0)
    used = meter.read(all_ended=True)
    assert used.cpu_s is not None
    assert used.cpu_s >= 0
    assert used.peak_memory_bytes is not None
    assert (used.pids_peak, used.oom_kills) == (None, 0)


def test_a_kernel_without_peaks_gives_what_was_seen(tmp_path: Path) -> None:
    Cgroup(tmp_path, {name: text for name, text in V2.items() if "peak" not in name})
    assert (Meter(str(tmp_path)).read().peak_memory_bytes, Meter(str(tmp_path)).read().pids_peak) == (100, 2)
