"""What the sandbox's cgroup has used, read from inside: nothing a process does can hide from these counters."""

from __future__ import annotations

import os
import resource

from sandgraph_runner.lean import Callable, Iterable
from sandgraph_runner.protocol import Used

_CGROUP = "/sys/fs/cgroup"


class Meter:
    """Measures one attempt after another from the outside: ``begin``, ``sample`` now and then, ``read`` at the end.

    Where there is no cgroup to be read (gVisor, or tests), CPU and memory are those of processes that were waited for.

    Args:
        root: Where the cgroup's files are, v2 or v1.
    """

    def __init__(self, root: str = _CGROUP) -> None:
        self._cpu = _Counter(root, (("cpu.stat", _microseconds), ("cpuacct/cpuacct.usage", _nanoseconds)))
        self._oom = _Counter(root, (("memory.events", _oom_kills), ("memory/memory.oom_control", _oom_kills)))
        self._memory = _Peak(
            root, "memory.current", "memory.peak", "memory/memory.usage_in_bytes", "memory/memory.max_usage_in_bytes"
        )
        self._pids = _Peak(root, "pids.current", "pids.peak", "pids/pids.current", "pids/pids.peak")
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self._cpu.begin()
        self._oom.begin()
        self._memory.begin()
        self._pids.begin()
        self._waited = _waited_cpu_s()

    @property
    def sees_the_living(self) -> bool:
        """Whether CPU time is known of processes that were not waited for yet."""
        return self._cpu.is_known

    def sample(self) -> None:
        """Look at what rises and falls."""
        self._memory.sample()
        self._pids.sample()

    def read(self, *, all_ended: bool = False) -> Used:
        """Return what was used since the beginning.

        Args:
            all_ended: Whether every process of the attempt was waited for.
        """
        self.sample()
        cpu_s = self._cpu.since()
        memory = self._memory.most
        if all_ended:
            cpu_s = _waited_cpu_s() - self._waited if cpu_s is None else cpu_s
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 if memory is None else memory
        return Used(
            cpu_s=None if cpu_s is None else round(cpu_s, 6),
            peak_memory_bytes=memory,
            pids_peak=self._pids.most,
            oom_kills=int(self._oom.since() or 0),
        )


class _File:
    """A counter's file, kept open: what is read is always the present value."""

    def __init__(self, root: str, names: Iterable[str]) -> None:
        self._fd = -1
        for name in names:
            try:
                self._fd = os.open(f"{root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            break

    def read(self) -> bytes | None:
        try:
            return os.pread(self._fd, 4096, 0)
        except OSError:
            return None


class _Counter:
    """A number that only rises."""

    def __init__(self, root: str, files: tuple[tuple[str, Callable[[bytes], float]], ...]) -> None:
        self._sources = [(file, parse) for name, parse in files if (file := _File(root, [name])).read() is not None]
        self._before: float | None = None

    @property
    def is_known(self) -> bool:
        return bool(self._sources)

    def begin(self) -> None:
        self._before = self._now()

    def since(self) -> float | None:
        now = self._now()
        return None if now is None or self._before is None else now - self._before

    def _now(self) -> float | None:
        for file, parse in self._sources:
            text = file.read()
            if text is not None:
                return parse(text)
        return None


class _Peak:
    """A number that rises and falls, with the kernel's own peak of it, which cannot be set back from in here."""

    def __init__(self, root: str, current: str, peak: str, current_v1: str, peak_v1: str) -> None:
        self._current = _File(root, (current, current_v1))
        self._peak = _File(root, (peak, peak_v1))
        self._earlier = 0
        self._seen = 0

    def begin(self) -> None:
        # That of the sandbox's start, which takes more processes than most attempts, or of an earlier attempt.
        self._earlier = _number(self._peak.read()) or 0
        self._seen = 0
        self.sample()

    def sample(self) -> None:
        self._seen = max(self._seen, _number(self._current.read()) or 0)

    @property
    def most(self) -> int | None:
        peak = _number(self._peak.read())
        if peak is not None and peak > self._earlier:
            return peak
        return self._seen or None


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _microseconds(text: bytes) -> float:
    return int(text.split(b"usage_usec ", 1)[1].split(None, 1)[0]) * 1e-6


def _nanoseconds(text: bytes) -> float:
    return int(text) * 1e-9


def _oom_kills(text: bytes) -> float:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(b"oom_kill "))


def _waited_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
