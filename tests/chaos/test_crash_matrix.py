"""Platforms die at each of their transactions and side effects; what they come to is what their programs mean.

The rounds here are the first of what `make chaos` goes on with. One that fails is run again by
``make chaos SEED=<its seed> MINUTES=0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chaos_campaign import IN_PROCESS, Report, Round, shard
from chaos_driver import driver
from chaos_points import EVENTS, HOUSEKEEPING, TRANSACTIONS, Action, pairs

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SEEDS = range(IN_PROCESS.shards)


def _round(seed: int, folder: Path) -> Report:
    folder.mkdir()
    with driver() as lives:
        return Round(seed, IN_PROCESS, folder, lives).run()


@pytest.mark.parametrize("seeds", [SEEDS[:2], SEEDS[2:]], ids=str)
def test_runs_come_to_what_they_mean_whatever_dies(tmp_path: Path, seeds: Sequence[int]) -> None:
    # Two at a time: for half of its time, a life waits.
    with ThreadPoolExecutor() as threads:
        reports = list(threads.map(lambda seed: _round(seed, tmp_path / str(seed)), seeds))
    for seed, report in zip(seeds, reports, strict=True):
        assert report.programs >= IN_PROCESS.programs
        assert set(report.fired) >= {f"{point.name} {action}" for point, action in shard(seed, IN_PROCESS)}
        assert _unnamed(report) == set(), "name them in chaos_points"
        for action, told in ((Action.LOCKED, "locked"), (Action.DISK_FULL, "full")):
            if any(each.endswith(action) for each in report.fired):
                assert any(told in felt for felt in report.felt), f"nobody felt that the database was {told}"


def test_the_rounds_have_the_whole_matrix_between_them() -> None:
    matrix = pairs(docker=False)
    assert sorted(map(str, matrix)) == sorted(str(pair) for seed in SEEDS for pair in shard(seed, IN_PROCESS))
    assert len(SEEDS) * IN_PROCESS.programs >= 200


def _unnamed(report: Report) -> set[str]:
    """Return the transactions and events that were passed, and are points of no name."""
    transactions = {point.removesuffix(":committed") for point in report.passed if point.endswith(":committed")}
    events = {point for point in report.passed if point.startswith("tell.")}
    of_runs = {each for each in transactions if each.partition(".")[0] not in HOUSEKEEPING}
    return (of_runs - TRANSACTIONS.keys()) | (events - EVENTS.keys())
