"""A platform that is stopped in the middle of its runs, for longer than anything in it may take, and continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from chaos_campaign import Batch
from chaos_driver import Driver, driver, live
from chaos_faults import Fault
from chaos_judge import Judge
from chaos_life import DONE, NOT_STARTED, Life
from chaos_points import Action
from random_programs import make

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

_SEEDS = list(range(1, 9))
_TIMEOUT_S = 1.0
_FROZEN_S = 1.5


@pytest.fixture
def pair() -> Iterator[tuple[Driver, Driver]]:
    with ExitStack() as stack:
        yield stack.enter_context(driver()), stack.enter_context(driver())


@pytest.mark.parametrize(
    "point", ["sandbox.execute:before", "steps.apply:begun", "steps.apply:committed", "tell.AttemptSucceeded"]
)
def test_who_was_stopped_commits_nothing_twice(pair: tuple[Driver, Driver], tmp_path: Path, point: str) -> None:
    frozen, other = pair
    batch = Batch(tmp_path, _SEEDS)
    life = Life(
        tmp_path / "data",
        batch.notes,
        tmp_path / "log.txt",
        "chaos",
        _SEEDS,
        faults=[Fault(point, passage, Action.FREEZE) for passage in (12, 30)],
        # What runs while it is stopped has timed out once it goes on.
        node={"limits": {"timeout_s": _TIMEOUT_S}},
    )
    others = 0

    def meanwhile() -> None:
        nonlocal others
        second = replace(life, notes=tmp_path / "other.jsonl", log=tmp_path / "other.txt", faults=[])
        began = time.monotonic()
        others += live(other, replace(second, accepted=dict(batch.accepted))) == NOT_STARTED
        time.sleep(max(0.0, _FROZEN_S - (time.monotonic() - began)))

    ended = live(frozen, life, meanwhile)
    batch.read(life, ended, 0)
    programs = {seed: make(seed) for seed in _SEEDS}
    problems = Judge(batch.database).judge(programs, batch.accepted, batch.cancelled)
    assert [*batch.problems, *problems] == []
    assert ended == DONE
    assert len(batch.fired_now) == others == 2, "a stopped process holds its data folder"
