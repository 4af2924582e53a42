"""Platforms that are stopped in the middle of their runs for longer than anything in them may take, and continued."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from chaos_batch import Batch
from chaos_driver import Driver, driver, live
from chaos_faults import Fault
from chaos_life import DONE, LOST, NOT_STARTED, Life
from chaos_points import Action

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

_SEEDS = list(range(1, 9))
_TIMEOUT_S = 0.5
_FROZEN_S = 0.8

#: Shorter than anybody may choose.
_LEASE_S = 0.4
_PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def drivers() -> Iterator[tuple[Driver, Driver]]:
    with ExitStack() as stack:
        yield stack.enter_context(driver()), stack.enter_context(driver())


@pytest.fixture
def pair(drivers: tuple[Driver, Driver]) -> Iterator[tuple[Driver, Driver]]:
    yield drivers
    for each in drivers:
        each.abandon()


@pytest.mark.parametrize("point", ["sandbox.execute:before", "steps.apply:begun", "steps.apply:committed"])
def test_who_was_stopped_commits_nothing_twice(pair: tuple[Driver, Driver], tmp_path: Path, point: str) -> None:
    frozen, other = pair
    # What runs while it is stopped has timed out once it goes on.
    life = _life(tmp_path, node={"limits": {"timeout_s": _TIMEOUT_S}})
    life = replace(life, faults=[Fault(point, passage, Action.FREEZE) for passage in (12, 30)])
    batch = Batch(tmp_path, _SEEDS)
    others = 0

    def meanwhile() -> None:
        nonlocal others
        began = time.monotonic()
        others += live(other, _second(life)) == NOT_STARTED
        time.sleep(max(0.0, _FROZEN_S - (time.monotonic() - began)))

    ended = live(frozen, life, meanwhile)
    batch.read(life, ended, 0)
    assert batch.judge(life.cases()) == []
    assert ended == DONE
    assert len(batch.fired_now) == others == 2, "a stopped process holds its data folder"


@pytest.mark.parametrize(
    ("point", "passage"),
    [
        ("sandbox.execute:before", 15),
        ("sandbox.execute:after", 15),
        ("actor.perform:before", 15),
        ("steps.apply:before", 15),
        ("steps.apply:committed", 15),
        ("tell.AttemptSucceeded", 15),
        ("leases.claim:committed", 6),
        ("leases.park:before", 1),
        ("leases.park:committed", 1),
        ("received_events.receive:before", 2),
        ("processes.beat:before", 1),
        ("processes.beat:before", 4),
    ],
)
def test_who_was_stopped_past_its_lease_commits_nothing_at_all(
    pair: tuple[Driver, Driver], tmp_path: Path, point: str, passage: int
) -> None:
    frozen, other = pair
    life = replace(_life(tmp_path, slow_s=0.03), faults=[Fault(point, passage, Action.FREEZE)])
    first, second = Batch(tmp_path, _SEEDS), _batch_of_second(tmp_path)
    left: list[str] = []

    def meanwhile() -> None:
        _take_over(other, life, first, second, until_ended=True)
        left.extend(_dump(first.database))

    ended = live(frozen, life, meanwhile)
    first.read(life, ended, 0)
    assert left, "it was over before it was stopped"
    assert ended == LOST
    assert _dump(first.database) == left, "it wrote once another had its place"
    assert [*first.problems, *second.judge(life.cases())] == []


@pytest.mark.parametrize("point", ["sandbox.execute:before", "steps.apply:before", "leases.park:before"])
def test_two_may_go_on_at_once_and_one_of_them_counts(pair: tuple[Driver, Driver], tmp_path: Path, point: str) -> None:
    frozen, other = pair
    passage = 2 if point.startswith("leases") else 8
    life = replace(_life(tmp_path, slow_s=0.05), faults=[Fault(point, passage, Action.FREEZE)])
    first, second = Batch(tmp_path, _SEEDS), _batch_of_second(tmp_path)
    # It has begun, and is in the middle of it, when the first goes on.
    ended = live(frozen, life, lambda: _take_over(other, life, first, second, until_ended=False))
    first.read(life, ended, 0)
    assert ended == LOST
    went_on = other.end()
    second.read(life, went_on, 0)
    assert went_on == DONE
    assert [*first.problems, *second.judge(life.cases())] == []


def test_who_was_stopped_in_a_transaction_keeps_its_place(pair: tuple[Driver, Driver], tmp_path: Path) -> None:
    frozen, other = pair
    life = replace(_life(tmp_path), faults=[Fault("steps.apply:written", 15, Action.FREEZE)])
    batch = Batch(tmp_path, _SEEDS)
    others: list[int] = []

    def meanwhile() -> None:
        # SQLite keeps the database for it: nobody can take it away, and nothing is lost.
        time.sleep(_LEASE_S * 1.5)
        others.append(live(other, _second(life)))

    ended = live(frozen, life, meanwhile)
    batch.read(life, ended, 0)
    assert (ended, others) == (DONE, [NOT_STARTED])
    assert batch.judge(life.cases()) == []


def _life(folder: Path, **more: object) -> Life:
    batch = Batch(folder, _SEEDS)
    settings = {"lease_s": _LEASE_S} if "node" not in more else {}
    life = Life(folder / "data", batch.notes, folder / "log.txt", "chaos", _SEEDS, settings=settings, calm=True)
    return replace(life, **more)  # type: ignore[arg-type]


def _second(life: Life) -> Life:
    folder = life.notes.parent
    return replace(life, notes=folder / "other.jsonl", log=folder / "other.txt", faults=[])


def _batch_of_second(folder: Path) -> Batch:
    batch = Batch(folder, _SEEDS)
    batch.notes = folder / "other.jsonl"
    return batch


def _take_over(other: Driver, life: Life, first: Batch, second: Batch, *, until_ended: bool) -> None:
    """Begin another platform on the folder, once it may; return once it works, or has ended."""
    first.read(life, DONE, 0)
    assert first.fired_now, "it was stopped by nobody"
    second.accepted |= first.accepted
    time.sleep(_LEASE_S * 1.2)
    taking = replace(_second(life), accepted=dict(first.accepted))
    other.begin(taking)
    if until_ended:
        ended = other.end()
        second.read(taking, ended, 0)
        assert ended == DONE
        return
    until = time.monotonic() + _PATIENCE_S
    while not (taking.notes.exists() and b"opened" in taking.notes.read_bytes()):
        assert time.monotonic() < until, "it could not take over"
        time.sleep(0.01)


def _dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())
