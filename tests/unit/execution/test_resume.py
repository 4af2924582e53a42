"""Runs whose platform is killed, or stopped, and started again over the same database."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from random import Random

import pytest
from killed import FILE, Mortal, living
from tests.unit.model.playbook import diff_of
from tests.unit.model.profile import IS_LONG, part_of
from tests.unit.model.programs import INITIAL, Program, program
from tests.unit.model.simulation import Simulation

from sandgraph.errors import Conflict, Unavailable
from sandgraph.execution.dispatcher import Dispatcher
from sandgraph.execution.transport import Assignment
from sandgraph.model.event_document import from_document
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.retry import Retry
from sandgraph.model.run import AttemptStatus, Failure, NodeRunKey, NodeRunStatus, RunStatus, Usage
from sandgraph.sandbox.spec import Broken, Outcome, Succeeded
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits with jitter be over at once."""
    monkeypatch.setattr(random, "uniform", lambda _, __: 0.0)


def wrote(**values: int) -> Succeeded:
    return Succeeded(diff_of(dict(values)), entered=True, again=None, after=(), usage=Usage(wall_s=0.01))


def broke() -> Broken:
    return Broken(AttemptStatus.ERROR, Failure("error", "ValueError: no"), Usage())


async def works(assignment: Assignment) -> Outcome:
    return wrote(**{assignment.key.node: assignment.attempt})


async def sleeps(_: Assignment) -> Outcome:
    await asyncio.sleep(60)
    return wrote()


def chain(*names: str, timeout_s: float | None = None, **node: object) -> Graph:
    nodes = [Node("start", NodeType.START), *(Node(name, function="f", **node) for name in names)]  # type: ignore[arg-type]
    every = [*nodes, Node("end", NodeType.END)]
    edges = tuple(Edge(one.name, two.name) for one, two in pairwise(every))
    return Graph("chain", tuple(every), edges, timeout_s=timeout_s)


async def begin(dispatcher: Dispatcher, store: Store, graph: Graph) -> str:
    await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
    version, _ = await store.save_graph(graph)
    return (await dispatcher.submit(version.graph_id, INITIAL))[0].run_id


async def until_asked(asked: list[str], times: int = 1) -> None:
    while len(asked) < times:  # noqa: ASYNC110 - the worker has no event to wait for
        await asyncio.sleep(0)


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        database.execute(statement)


async def lasting(store: Store, run_id: str) -> None:
    """Check what holds of a run however often its platform was killed."""
    run = await store.run(run_id)
    journal = await store.journal(run_id, limit=10_000)
    assert [record.seq for record in journal] == list(range(1, run.last_seq + 1))
    assert [record.is_end for record in journal] == [*[False] * (len(journal) - 1), True]
    commits = await store.commits(run_id)
    assert [commit.number for commit in commits] == list(range(1, run.last_commit + 1))
    told = await store.run_events(run_id, limit=10_000)
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    for node_run in await store.node_runs(run_id):
        statuses = [attempt.status for attempt in node_run.attempts]
        assert [attempt.attempt for attempt in node_run.attempts] == list(range(1, len(statuses) + 1))
        assert AttemptStatus.SUCCEEDED not in statuses[:-1]
        assert AttemptStatus.RUNNING not in statuses


# Killed at each step


async def lived(tmp_path: Path, chosen: Program, random_: Random, *, is_deaf: bool) -> tuple[Store, str, int]:
    """Run a program on platforms that die now and then; return the last one's store, closed, and how many died."""

    async def performs(assignment: Assignment) -> Outcome:
        key = assignment.key
        node = next(node for node in chosen.graph.nodes if node.name == key.node)
        if assignment.attempt == 1 and node.retry.max_attempts > 1 and key.iteration % 2:
            return broke()
        act = chosen.act(key)
        if act.fails:
            return Broken(act.fails, Failure(act.fails, "It broke."), Usage())
        return Succeeded(diff_of(act.changes, act.deletes), act.entered, act.again, act.after, Usage())

    run_id = ""
    for life in count():
        folder = tmp_path / str(life)
        fatal = random_.randrange(1, 12) if life < 4 else 0
        async with living(folder, performs) as (dispatcher, store, _):
            dying = Mortal(
                store,
                folder,
                tmp_path / str(life + 1),
                fatal=fatal,
                is_stored=random_.random() < 0.5,
                is_deaf=is_deaf,
            )
            if not run_id:
                for name in {name for _, name in chosen.graph.functions()}:
                    await store.save_code(CodeKind.FUNCTION, name, f"def {name}(state): pass")
            await dispatcher.start()
            if not run_id:
                version, _ = await store.save_graph(chosen.graph)
                run_id = (await dispatcher.submit(version.graph_id, INITIAL))[0].run_id
            died = asyncio.create_task(dying.died.wait())
            ended = asyncio.create_task(dispatcher.wait(run_id, 60))
            await asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            ended.cancel()
            if not dying.died.is_set():
                return await Store.open(await _kept(store, folder, tmp_path)), run_id, life
    raise AssertionError


async def _kept(store: Store, folder: Path, tmp_path: Path) -> Path:
    """Return a folder with the database as it is now."""
    kept = tmp_path / "kept"
    kept.mkdir()
    await store.count_runs()
    with closing(sqlite3.connect(folder / FILE)) as source, closing(sqlite3.connect(kept / FILE)) as target:
        source.backup(target)
    return kept


async def _agrees_with_oracle(store: Store, run_id: str, chosen: Program) -> None:
    """Tell a simulation what the run was told: it is what the oracle says, and the store has nothing else."""
    simulation = Simulation(chosen)
    for each in (await store.run_events(run_id, limit=10_000))[1:]:
        assert simulation.tell(from_document(each.document, INITIAL, each.diff))
    simulation.agrees_with_oracle()
    run, outcome = await store.run(run_id), simulation.ledger.outcome
    assert outcome is not None
    assert (run.status, run.failure, run.final_state) == (outcome.status, outcome.failure, outcome.state)
    found = {NodeRunKey(each.node, each.iteration): each.status for each in await store.node_runs(run_id)}
    assert found == simulation.ledger.node_runs


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("is_deaf", [False, True])
@pytest.mark.parametrize("seed", range(200 if IS_LONG else part_of(12, 4)))
async def test_a_run_comes_to_the_same_whenever_its_platform_is_killed(
    tmp_path: Path, seed: int, *, is_deaf: bool
) -> None:
    chosen, order = program(Random(seed).choice), Random(seed)
    store, run_id, deaths = await lived(tmp_path, chosen, order, is_deaf=is_deaf)
    try:
        await lasting(store, run_id)
        await _agrees_with_oracle(store, run_id, chosen)
        recoveries = [record for record in await store.journal(run_id, limit=10_000) if "recovery" in record.data]
        assert len(recoveries) <= deaths
    finally:
        await store.close()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(("fatal", "is_stored"), [(n, stored) for n in range(1, 7) for stored in (False, True)])
async def test_a_platform_may_be_killed_at_any_step(tmp_path: Path, fatal: int, *, is_stored: bool) -> None:
    async def fails_at_first(assignment: Assignment) -> Outcome:
        return broke() if assignment.attempt == 1 and assignment.key.node == "a" else wrote(**{assignment.key.node: 1})

    one, two = tmp_path / "one", tmp_path / "two"
    async with living(one, fails_at_first) as (dispatcher, store, _):
        dying = Mortal(store, one, two, fatal=fatal, is_stored=is_stored)
        await dispatcher.start()
        run_id = await begin(dispatcher, store, chain("a", "b", retry=Retry(max_attempts=2)))
        await asyncio.wait(
            {asyncio.create_task(dying.died.wait()), asyncio.create_task(dispatcher.wait(run_id, 10))},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if fatal > 4:
            # The start, a failure, its retry and two successes.
            assert not dying.died.is_set() or dying.steps == fatal
        if not dying.died.is_set():
            return
    async with living(two, fails_at_first) as (dispatcher, store, _):
        await dispatcher.start()
        run = await dispatcher.wait(run_id, 10)
        assert (run.status, run.final_state) == (RunStatus.COMPLETED, {**INITIAL, "a": 1, "b": 1})
        await lasting(store, run_id)


# Stopped and started


async def test_a_platform_that_stops_hands_its_runs_back(tmp_path: Path) -> None:
    async with living(tmp_path, sleeps, max_active_runs=1) as (dispatcher, store, worker):
        await dispatcher.start()
        running = await begin(dispatcher, store, chain("a"))
        waiting = await begin(dispatcher, store, chain("a"))
        following = asyncio.create_task(anext_all(dispatcher, running))
        await until_asked(worker.asked)
        await dispatcher.close()
        assert (await store.run(running)).status is RunStatus.INTERRUPTED
        assert (await store.run(waiting)).status is RunStatus.PENDING
        # Who follows is let go: what it saw is not the end.
        assert (await following)[-1] == "interrupted"
        for run_id in (running, waiting):
            with pytest.raises(Unavailable, match="after its next start"):
                await dispatcher.cancel(run_id)
    async with living(tmp_path, works, max_active_runs=1) as (dispatcher, store, worker):
        await dispatcher.start()
        assert dispatcher.facts() == {"active_runs": 1, "queued_runs": 1}
        assert (await anext_all(dispatcher, running))[-1] == "completed"
        assert (await dispatcher.wait(waiting, 10)).status is RunStatus.COMPLETED
        assert worker.asked == ["a/2", "a/1"]
        for run_id in (running, waiting):
            await lasting(store, run_id)
        said = [(record.type, record.status) for record in await store.journal(running)]
        lost = said.index(("attempt", "lost"))
        assert said[lost : lost + 6] == [
            ("attempt", "lost"),
            ("node", "interrupted"),
            ("run", "interrupted"),
            ("run", "running"),
            ("node", "retrying"),
            ("attempt", "scheduled"),
        ]


async def anext_all(dispatcher: Dispatcher, run_id: str) -> list[str]:
    return [record.status async for page in dispatcher.follow(run_id, 0) for record in page]


async def test_a_run_can_be_cancelled_before_it_is_resumed(tmp_path: Path) -> None:
    async with living(tmp_path, sleeps, max_active_runs=2) as (dispatcher, store, worker):
        await dispatcher.start()
        one, two = [await begin(dispatcher, store, chain("a")) for _ in range(2)]
        await until_asked(worker.asked, 2)
    async with living(tmp_path, sleeps, max_active_runs=1) as (dispatcher, store, worker):
        await dispatcher.start()
        assert (await store.run(two)).status is RunStatus.INTERRUPTED
        for run_id in (two, one):
            assert (await dispatcher.cancel(run_id)).status is RunStatus.CANCELLED
            assert (await store.run(run_id)).final_state == INITIAL
            await lasting(store, run_id)
        with pytest.raises(Conflict):
            await dispatcher.cancel(await completed(dispatcher, store))
    assert "a/2" not in worker.asked or worker.asked == ["a/2"]


async def completed(dispatcher: Dispatcher, store: Store) -> str:
    run_id = await begin(dispatcher, store, chain())
    assert (await dispatcher.wait(run_id, 10)).status is RunStatus.COMPLETED
    return run_id


async def test_without_resuming_what_was_handed_back_is_interrupted_for_good(tmp_path: Path) -> None:
    async with living(tmp_path, sleeps) as (dispatcher, store, worker):
        await dispatcher.start()
        run_id = await begin(dispatcher, store, chain("a"))
        await until_asked(worker.asked)
    async with living(tmp_path, works, resume_runs=False) as (dispatcher, store, worker):
        await dispatcher.start()
        run = await dispatcher.wait(run_id, 10)
        assert (run.status, run.is_final) == (RunStatus.INTERRUPTED, True)
        assert (await anext_all(dispatcher, run_id))[-1] == "interrupted"
        with pytest.raises(Conflict, match="interrupted already"):
            await dispatcher.cancel(run_id)
        assert worker.asked == []


async def test_a_run_that_is_interrupted_too_often_fails(tmp_path: Path) -> None:
    async with living(tmp_path, sleeps, max_recoveries=2) as (dispatcher, store, worker):
        await dispatcher.start()
        run_id = await begin(dispatcher, store, chain("a"))
        await until_asked(worker.asked)
    for _ in range(2):
        async with living(tmp_path, sleeps, max_recoveries=2) as (dispatcher, _, worker):
            await dispatcher.start()
            await until_asked(worker.asked)
    async with living(tmp_path, works, max_recoveries=2) as (dispatcher, store, worker):
        await dispatcher.start()
        run = await dispatcher.wait(run_id, 10)
        assert run.failure is not None
        assert (run.status, run.failure.code) == (RunStatus.FAILED, "too_many_recoveries")
        assert worker.asked == []
        await lasting(store, run_id)


# Time


async def test_the_time_a_run_may_take_goes_on_counting(tmp_path: Path) -> None:
    async with living(tmp_path, sleeps) as (dispatcher, store, worker):
        await dispatcher.start()
        run_id = await begin(dispatcher, store, chain("a", timeout_s=50))
        await until_asked(worker.asked)
    past = (datetime.now(UTC) - timedelta(seconds=51)).strftime("%Y-%m-%d %H:%M:%S.%f")
    edit(tmp_path, f"UPDATE run_event SET created_at = '{past}'")
    async with living(tmp_path, sleeps) as (dispatcher, store, _):
        await dispatcher.start()
        run = await dispatcher.wait(run_id, 10)
        assert run.failure is not None
        assert run.failure.code == "run_timeout"


@pytest.mark.parametrize("seconds", [0, 61])
async def test_the_wait_before_an_attempt_goes_on_counting(tmp_path: Path, seconds: int) -> None:
    async def fails(_: Assignment) -> Outcome:
        return broke()

    graph = chain("a", retry=Retry(max_attempts=2, initial_s=60, max_s=60, jitter=False))
    async with living(tmp_path, fails) as (dispatcher, store, _):
        await dispatcher.start()
        run_id = await begin(dispatcher, store, graph)
        async for page in dispatcher.follow(run_id, 0):
            if any(each.status == "scheduled" for each in page):
                break
    past = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")
    edit(tmp_path, f"UPDATE run_event SET created_at = '{past}'")
    async with living(tmp_path, works) as (dispatcher, store, worker):
        await dispatcher.start()
        run = await dispatcher.wait(run_id, 10 if seconds else 0.2)
        assert run.status is (RunStatus.COMPLETED if seconds else RunStatus.RUNNING)
        assert worker.asked == (["a/2"] if seconds else [])
        node_run = (await store.node_runs(run_id))[1]
        assert node_run.status is (NodeRunStatus.SUCCEEDED if seconds else NodeRunStatus.RETRYING)


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE run_event SET document = '{\"type\": \"unheard\"}' WHERE run_id = 'RUN'",
        "UPDATE run_event SET document = 'no JSON' WHERE run_id = 'RUN'",
        "DELETE FROM run_event WHERE run_id = 'RUN' AND number = 2",
        "UPDATE graph SET document = '{}' WHERE id = (SELECT graph_id FROM run WHERE id = 'RUN')",
        "UPDATE run_state SET state = '[' WHERE run_id = 'RUN'",
        "UPDATE run SET last_commit = 7 WHERE id = 'RUN'",
    ],
)
async def test_a_run_that_cannot_be_made_again_fails_and_holds_nobody_up(tmp_path: Path, damage: str) -> None:
    async def second_sleeps(assignment: Assignment) -> Outcome:
        return await (sleeps if assignment.key.node == "b" else works)(assignment)

    async with living(tmp_path, second_sleeps) as (dispatcher, store, worker):
        await dispatcher.start()
        run_id = await begin(dispatcher, store, chain("a", "b"))
        other = await begin(dispatcher, store, chain("b"))
        await until_asked(worker.asked, 3)
    edit(tmp_path, damage.replace("RUN", run_id))
    async with living(tmp_path, works) as (dispatcher, store, _):
        await dispatcher.start()
        assert (await dispatcher.wait(other, 10)).status is RunStatus.COMPLETED
        await anext_all(dispatcher, run_id)
        run = await store.run_summary(run_id)
        assert run.failure is not None
        assert (run.status, run.failure.code) == (RunStatus.FAILED, "not_recoverable")
