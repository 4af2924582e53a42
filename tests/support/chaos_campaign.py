"""Rounds of the crash matrix: random programs, a data folder for some of them, and one life after another over it.

A round takes a part of the matrix and goes on until every fault of it has happened and every program came to its end.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chaos_driver import Driver, live
from chaos_faults import Fault
from chaos_judge import Judge
from chaos_life import CRASHED, DATABASE, DONE, NOT_STARTED, STOPPED, STUCK, Life
from chaos_points import Action, Phase, Point, pairs
from random_programs import make

#: Seconds for which a life that was stopped stays so.
FROZEN_S = 0.3

#: Lives without faults in which a batch must come to its end; the first should do, but for its timing.
_CALM_LIVES = 2

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


IN_PROCESS = Plan(docker=False, shards=4, programs=50, batch=8, lives=8)


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
        self._most: Counter[str] = Counter({"commit:before": 100})
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
        for number in range(self._plan.lives):
            pair = self._pick(is_first=number == 0)
            if pair is None:
                break
            ended = self._live(batch, replace(base, accepted=dict(batch.accepted), faults=self._faults(*pair)))
            if str(pair[0].name) not in {fired["point"] for fired in batch.fired_now}:
                self._missed[pair] += 1
                self._open.append(pair)
            if ended == DONE:
                break
        for _ in range(_CALM_LIVES):
            if self._live(batch, replace(base, accepted=dict(batch.accepted))) == DONE:
                break
        programs = {seed: make(seed) for seed in seeds}
        problems = batch.problems + Judge(folder / "data" / DATABASE).judge(programs, batch.accepted, batch.cancelled)
        if problems:
            raise Chaos("\n".join([f"seed {self._seed}, {folder}:", *problems, *batch.history]))
        self.report.programs += len(seeds)

    def _live(self, batch: Batch, life: Life) -> int:
        ended = live(self._driver, life, lambda: time.sleep(FROZEN_S))
        batch.read(life, ended)
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

    def _pick(self, *, is_first: bool) -> Pair | None:
        """Return the next fault that a life can have; where all have happened, any."""
        for _ in range(len(self._open)):
            point, action = self._open.popleft()
            if is_first == (point.phase is Phase.SUBMISSION) or point.phase is Phase.ANY:
                return point, action
            self._open.append((point, action))
        others = [
            (point, action)
            for point, action in pairs(docker=self._plan.docker)
            if is_first == (point.phase is Phase.SUBMISSION) or point.phase is Phase.ANY
        ]
        return self._chance.choice(others) if self.report.programs < self._plan.programs else None

    def _faults(self, point: Point, action: Action) -> list[Fault]:
        # In the first third of what there may be: something must be left to go on with.
        passage = self._chance.randint(1, max(1, (self._most[point.name] // 3) >> self._missed[point, action]))
        faults = [Fault(point.name, passage, action)]
        if point.phase is Phase.CLOSE:
            faults.append(Fault("tell.AttemptSucceeded", self._chance.randint(1, 10), Action.STOP))
        elif action not in {Action.KILL, Action.STOP}:
            # What does not end a life leaves room for what does.
            further = self._chance.randint(1, self._most["commit:before"] // 2)
            faults.append(Fault("commit:before", further, Action.KILL))
        return faults


class Batch:
    """Programs over one data folder, and what is known of them from their lives' notes.

    Args:
        folder: Its own.
        seeds: Of its programs.
    """

    def __init__(self, folder: Path, seeds: list[int]) -> None:
        self.seeds = seeds
        self.notes = folder / "notes.jsonl"
        self.accepted: dict[int, str] = {}
        self.cancelled: set[str] = set()
        self.problems: list[str] = []
        self.history: list[str] = []
        self.fired_now: list[dict[str, Any]] = []
        self.felt_now: list[str] = []
        self.passed_now: dict[str, int] = {}
        self._read = 0

    def read(self, life: Life, ended: int) -> None:
        """Take in what a life noted and how it ended."""
        lines = self.notes.read_bytes()[self._read :] if self.notes.exists() else b""
        self._read += len(lines)
        notes = [json.loads(line) for line in lines.splitlines()]
        self.fired_now = [note for note in notes if "fired" in note]
        self.felt_now = [note["felt"] for note in notes if "felt" in note]
        self.passed_now = next((note["passed"] for note in reversed(notes) if "passed" in note), {})
        for note in notes:
            if "accepted" in note:
                seed, run_id = note["accepted"]
                if self.accepted.setdefault(seed, run_id) != run_id:
                    self.problems.append(f"program {seed} was accepted as {self.accepted[seed]} and as {run_id}")
            if "cancelled" in note:
                self.cancelled.add(note["cancelled"])
            if "stuck" in note:
                self.problems.append(f"nobody works on a run that has not ended: {note['stuck']}")
        fired = ", ".join(note["fired"] for note in self.fired_now)
        planned = ", ".join(map(str, life.faults)) or "none"
        self.history.append(f"  a life with faults ({planned}): fired ({fired}), felt {self.felt_now}, ended {ended}")
        actions = {note["action"] for note in self.fired_now}
        allowed = {DONE}
        if Action.KILL in actions:
            allowed = {-signal.SIGKILL}
        elif Action.STOP in actions:
            allowed = {STOPPED, DONE, NOT_STARTED}
        elif actions:
            # It may have met the start, which then fails as a whole and is made again.
            allowed = {DONE, NOT_STARTED}
        if ended not in allowed:
            names = {CRASHED: "crashed", STUCK: "stuck", NOT_STARTED: "not started", -signal.SIGALRM: "too long"}
            self.problems.append(
                f"a life with faults ({planned}) ended as {ended} ({names.get(ended, '?')}): {life.log}"
            )
