"""A disk that is really full: the data folder is a small file system of its own, filled up in the middle of runs."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_batch import Batch
from chaos_driver import driver, live
from chaos_life import DONE, Life
from missing import missing

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

_SEEDS = list(range(1, 25))
_FULL_S = 1.5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        missing("Only root can mount a file system.")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)], check=False, capture_output=True, timeout=20
    )
    if mounted.returncode != 0:
        missing(f"No file system can be mounted here: {mounted.stderr!r}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, capture_output=True, timeout=20)


def test_runs_go_on_once_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    batch = Batch(tmp_path, _SEEDS)
    batch.database = small_disk / batch.database.name
    life = Life(small_disk, batch.notes, tmp_path / "log.txt", "chaos", _SEEDS, slow_s=0.05)
    is_over = threading.Event()
    filled: list[int] = []
    filling = threading.Thread(target=lambda: filled.append(_fill(small_disk, batch, is_over)))
    filling.start()
    try:
        with driver() as lives:
            ended = live(lives, life)
    finally:
        is_over.set()
        filling.join(30)
    batch.read(life, ended, 0)
    assert batch.judge(life.cases()) == []
    assert ended == DONE
    assert filled[0] > 0, "it was over before the disk was full"
    assert any("full" in felt for felt in batch.felt_now), batch.felt_now


def _fill(disk: Path, batch: Batch, is_over: threading.Event) -> int:
    """Fill the disk once half of the programs are accepted, and make room again later; return the bytes."""
    until = time.monotonic() + 30
    while not is_over.is_set() and time.monotonic() < until:
        if batch.notes.exists() and batch.notes.read_bytes().count(b"accepted") >= len(_SEEDS) // 2:
            break
        time.sleep(0.005)
    ballast = disk / "ballast"
    written = 0
    ends = time.monotonic() + _FULL_S
    with ballast.open("wb", buffering=0) as file:
        while not is_over.is_set() and time.monotonic() < ends:
            try:
                written += file.write(b"\0" * 65536)
            except OSError:
                try:
                    written += file.write(b"\0" * 4096)
                except OSError:
                    time.sleep(0.002)
    ballast.unlink()
    return written
