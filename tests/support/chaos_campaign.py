"""Rounds of the crash matrix: random programs, a data folder for some of them, and one life after another over it.

A round takes a part of the matrix and goes on until every fault of it has happened and every program came to its end.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chaos_batch import Batch
from chaos_driver import Driver, live
from chaos_faults import Fault
from chaos_life import DONE, Life
from chaos_points import Action, Phase, Point, pairs

#: Seconds for which a life that was stopped stays so.
FROZEN_S = 0.15

#: Lives without faults in which a batch must come to its end; the first should do, but for its timing.
_CALM_LIVES = 2

#: What nothing follows in a life.
_ENDS = {Action.KILL, Action.STOP}

#: Most faults of a life, the one that ends it apart.
_FAULTS = 3

Pair = tuple[Point, Action]


class Chaos(AssertionError):
    """Something was lost, done twice or left behind."""


@dataclass(frozen=True)
class Plan:
    """How large a round is.

    Attributes:
        docker: Whether sandboxes are containers.
        shards: Into so many rounds the matrix is divided; the seed chooses among them.
        programs: At least so many are run.
        batch: Programs that share a data folder.
        lives: With faults, in a batch.
        life: What all lives have.
        choose: Which seeds are taken for programs.
    """

    docker: bool
    shards: int
    programs: int
    batch: int
    lives: int
    life: dict[str, Any] = field(default_factory=dict)
    choose: Callable[[int], bool] = lambda _: True


IN_PROCESS = Plan(docker=False, shards=4, programs=50, batch=6, lives=12)


@dataclass
class Report:
    """What a round did."""

    programs: int = 0
    lives: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    felt: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        actions = Counter[str]()
        for each, times in self.fired.items():
            actions[each.rpartition(" ")[2]] += times
        faults = ", ".join(f"{times} {action}" for action, times in sorted(actions.items()))
        return f"{self.programs} programs, {self.lives} lives, {faults}; {self.seconds:.1f} s"


def shard(seed: int, plan: Plan) -> list[Pair]:
    """Return the part of the matrix that a round has."""
    matrix = pairs(docker=plan.docker)
    random.Random(0).shuffle(matrix)
    return matrix[seed % plan.shards :: plan.shards]


class Round:
    """One round.

    Args:
        seed: Decides all but the timing.
        plan: Its size.
        folder: Gets a folder for each batch.
        driver: Gives lives.
        deployment: Of its containers.
    """

    def __init__(self, seed: int, plan: Plan, folder: Path, driver: Driver, deployment: str = "chaos") -> None:
        self._seed = seed
        self._plan = plan
        self._folder = folder
        self._driver = driver
        self._deployment = deployment
        self._chance = random.Random(seed)
        self._open: deque[Pair] = deque(shard(seed, plan))
        self._chance.shuffle(self._open)
        self._most: Counter[str] = Counter()
        self._missed: Counter[Pair] = Counter()
        self._next_program = seed * 10_000
        self.report = Report()

    def run(self) -> Report:
        """Run it.

        Raises:
            Chaos: With all that was found.
        """
        began, plan = time.monotonic(), self._plan
        batches = 0
        while self.report.programs < plan.programs or self._open:
            if batches > 3 * (plan.programs // plan.batch + 1):
                never = sorted(f"{point.name} {action}" for point, action in self._open)
                raise Chaos(f"seed {self._seed}: these points were never reached: {never}")
            batches += 1
            self._batch(self._folder / f"batch-{batches}")
        self.report.seconds = time.monotonic() - began
        return self.report

    def _batch(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        seeds = [self._choose() for _ in range(self._plan.batch)]
        batch = Batch(folder, seeds)
        base = Life(
            folder / "data",
            batch.notes,
            folder / "log.txt",
            self._deployment,
            seeds,
            docker=self._plan.docker,
            **self._plan.life,
        )
        for _ in range(self._plan.lives):
            picked = self._pick(batch)
            if not picked:
                break
            faults = self._faults(picked)
            ended = self._live(batch, replace(base, accepted=dict(batch.accepted), faults=faults))
            fired = {fired["fired"] for fired in batch.fired_now}
            for pair, fault in zip(picked, faults, strict=False):
                if str(fault) not in fired:
                    self._missed[pair] += 1
                    self._open.append(pair)
            if ended == DONE:
                break
        for _ in range(_CALM_LIVES):
            if self._live(batch, replace(base, accepted=dict(batch.accepted))) == DONE:
                break
        problems = batch.judge(base.cases())
        if problems:
            raise Chaos("\n".join([f"seed {self._seed}, {folder}:", *problems, *batch.history]))
        self.report.programs += len(seeds)

    def _live(self, batch: Batch, life: Life) -> int:
        began = time.monotonic()
        ended = live(self._driver, life, lambda: time.sleep(FROZEN_S))
        batch.read(life, ended, time.monotonic() - began)
        self.report.lives += 1
        self.report.ends[str(ended)] += 1
        self.report.felt.update(batch.felt_now)
        for fired in batch.fired_now:
            self.report.fired[f"{fired['point']} {fired['action']}"] += 1
        for point, times in batch.passed_now.items():
            self.report.passed[point] += times
            self._most[point] = max(self._most[point], times)
        return ended

    def _choose(self) -> int:
        while True:
            self._next_program += 1
            if self._plan.choose(self._next_program):
                return self._next_program

    def _pick(self, batch: Batch) -> list[Pair]:
        """Return faults that one life can have: some that it outlives, and one that ends it; at last, any."""
        picked: list[Pair] = []
        # What is passed rarely comes first where it can be.
        is_new, is_in_progress = len(batch.accepted) < len(batch.seeds), batch.is_in_progress()
        phases = [*([Phase.RECOVERY] if is_in_progress else []), *([Phase.SUBMISSION] if is_new else [])]
        phases += [Phase.CLOSE, Phase.ANY]
        for phase in phases:
            for pair in list(self._open):
                if pair[0].phase is phase and _goes_with(pair, picked):
                    picked.append(pair)
                    self._open.remove(pair)
        if not picked and self.report.programs < self._plan.programs:
            others = [pair for pair in pairs(docker=self._plan.docker) if pair[0].phase in phases]
            picked.append(self._chance.choice(others))
        return picked

    def _faults(self, picked: list[Pair]) -> list[Fault]:
        faults = []
        for point, action in picked:
            # Early in what there may be: something must be left to go on with.
            most = (self._most[point.name] // 5) >> self._missed[point, action]
            faults.append(Fault(point.name, self._chance.randint(1, max(1, most)), action))
        if any(point.phase is Phase.CLOSE for point, _ in picked):
            faults.append(Fault("tell.AttemptSucceeded", self._chance.randint(1, 10), Action.STOP))
        elif self._open and not any(action in _ENDS for _, action in picked):
            # So that there is a life after this one, with runs to go on with.
            faults.append(Fault("tell.AttemptSucceeded", self._chance.randint(5, 20), Action.KILL))
        return faults


def _goes_with(pair: Pair, others: list[Pair]) -> bool:
    """Tell whether a fault can be in a life with these."""
    action, actions = pair[1], {other for _, other in others}
    if action in _ENDS or pair[0].phase is Phase.CLOSE:
        return not actions & _ENDS and not any(other.phase is Phase.CLOSE for other, _ in others)
    return len(others) < _FAULTS and action not in actions
