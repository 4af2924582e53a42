"""What the database fails once costs no run: neither its end nor its turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chaos_batch import Batch
from chaos_driver import Driver, driver, live
from chaos_faults import Fault
from chaos_life import DONE, Life
from chaos_points import Action

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

_SEEDS = list(range(1, 7))
_KILL = Fault("tell.AttemptSucceeded", 8, Action.KILL)


@pytest.fixture(scope="module")
def driving() -> Iterator[Driver]:
    with driver() as running:
        yield running


@pytest.fixture
def lives(driving: Driver) -> Iterator[Driver]:
    yield driving
    driving.abandon()


@pytest.mark.parametrize(
    ("point", "action", "earlier"),
    [
        ("runs.create:committed", Action.TOLD_FAILED, []),
        ("recovery.resume:begun", Action.FAIL, [_KILL]),
        ("recovery.resume:before", Action.LOCKED, [_KILL]),
        ("recovery.resume:before", Action.DISK_FULL, [_KILL]),
        ("recovery.resume:committed", Action.TOLD_FAILED, [_KILL]),
        ("leases.claim:begun", Action.FAIL, [_KILL]),
        ("leases.claim:committed", Action.TOLD_FAILED, [_KILL]),
    ],
)
def test_a_run_outlives_it(lives: Driver, tmp_path: Path, point: str, action: Action, earlier: list[Fault]) -> None:
    batch = Batch(tmp_path, _SEEDS)
    life = Life(tmp_path / "data", batch.notes, tmp_path / "log.txt", "chaos", _SEEDS)
    if earlier:
        first = replace(life, faults=earlier)
        batch.read(first, live(lives, first), 0)
    last = replace(life, accepted=dict(batch.accepted), faults=[Fault(point, 1, action)])
    ended = live(lives, last)
    batch.read(last, ended, 0)
    assert batch.judge(life.cases()) == []
    assert ended == DONE
