"""What every implementation of `Sandboxes` promises: the in-process stand-in and the pool of containers alike."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from sandgraph.errors import EngineUnavailable
from sandgraph.model.limits import Limits
from sandgraph.model.run import AttemptStatus, LogLine
from sandgraph.model.state import DeleteKey, SetKey
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.sandbox.pool import SandboxPool
from sandgraph.sandbox.spec import Broken, Outcome, Owner, Sandboxes, Succeeded
from sandgraph_runner.protocol import BYTES_A_LINE, Check, Condition, Job, Source

pytestmark = pytest.mark.anyio

OWNER = Owner("run-1", "node", 1, 1)
LIMITS = Limits()


@pytest.fixture(scope="module", params=["inprocess", pytest.param("docker", marks=pytest.mark.docker)])
async def sandboxes(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Sandboxes]:  # noqa: ARG001 - as wide
    made: Sandboxes
    if request.param == "docker":
        made = SandboxPool(request.getfixturevalue("engine_settings"))
    else:
        made = InProcessSandboxes()
    await made.start()
    yield made
    await made.close()


class Attempt:
    """One job run, and what came of it."""

    def __init__(self, outcome: Outcome, lines: list[LogLine]) -> None:
        self.outcome = outcome
        self.lines = lines

    @property
    def printed(self) -> list[str]:
        return [line.text for line in self.lines]

    @property
    def succeeded(self) -> Succeeded:
        assert isinstance(self.outcome, Succeeded), self.outcome
        return self.outcome

    @property
    def broken(self) -> Broken:
        assert isinstance(self.outcome, Broken), self.outcome
        return self.outcome

    @property
    def changes(self) -> dict[str, Any]:
        return {op.key: op.value if isinstance(op, SetKey) else None for op in self.succeeded.diff.ops}


async def _drop(_: Sequence[LogLine]) -> None:
    pass


async def run(
    sandboxes: Sandboxes,
    body: str = "pass",
    state: object = None,
    *,
    limits: Limits = LIMITS,
    timeout_s: float = 10,
    header: str = "",
    **job: Any,  # noqa: ANN401 - fields of Job
) -> Attempt:
    """Run a function ``f(state)`` with this body; ``function=None`` in ``job`` runs none."""
    lines: list[LogLine] = []

    async def keep(some: Sequence[LogLine]) -> None:
        lines.extend(some)

    source = Source("f", header + "\ndef f(state):\n" + "\n".join(f"    {line}" for line in body.splitlines()) + "\n")
    order = Job(**{"function": source, "max_output_bytes": limits.output_kb * 1024, **job})
    async with sandboxes.lease(limits, OWNER) as sandbox:
        assert sandbox.sandbox_id
        outcome = await sandbox.execute(
            order, json.dumps({} if state is None else state).encode(), timeout_s=timeout_s, on_log=keep
        )
    return Attempt(outcome, lines)


async def test_what_a_function_changes_comes_back_sorted_by_key(sandboxes: Sandboxes) -> None:
    attempt = await run(
        sandboxes, "state.set('z', 1)\nstate.delete('a')\nstate.set('k', {'deep': [1.5, None, 'é']})", {"a": 1}
    )
    assert attempt.succeeded.diff.ops == (DeleteKey("a"), SetKey("k", {"deep": [1.5, None, "é"]}), SetKey("z", 1))
    assert attempt.succeeded.entered
    assert attempt.succeeded.again is None
    assert attempt.succeeded.after == ()


@pytest.mark.parametrize("ending", ["pass", "return None", "return state"])
async def test_none_and_the_state_itself_change_nothing(sandboxes: Sandboxes, ending: str) -> None:
    attempt = await run(sandboxes, ending, {"a": 1})
    assert attempt.changes == {}


async def test_a_returned_dict_is_a_dict_of_changes(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "return {'b': state.get('a') + 1}", {"a": 1})
    assert attempt.changes == {"b": 2}


async def test_an_async_function_is_run_to_its_end(sandboxes: Sandboxes) -> None:
    source = Source("f", "import asyncio\nasync def f(state):\n    await asyncio.sleep(0)\n    return {'x': 1}\n")
    attempt = await run(sandboxes, function=source)
    assert attempt.changes == {"x": 1}


async def test_a_large_state_goes_both_ways(sandboxes: Sandboxes) -> None:
    text = "é" * 600_000
    attempt = await run(sandboxes, "state.set('copy', state.get('text'))", {"text": text})
    assert attempt.changes == {"copy": text}


async def test_many_small_values_come_back(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "state.set('n', [[i, i / 3] for i in range(50_000)])")
    assert attempt.changes["n"][-1] == [49_999, 49_999 / 3]


async def test_lines_come_in_order_with_their_stream_and_their_time(sandboxes: Sandboxes) -> None:
    body = (
        "import sys, time\nprint('one')\ntime.sleep(0.05)\nprint('two', file=sys.stderr)\nprint('three\\nfour', end='')"
    )
    attempt = await run(sandboxes, body)
    assert attempt.changes == {}
    assert sorted(attempt.printed) == ["four", "one", "three", "two"]
    assert [line.text for line in attempt.lines if line.stream == "stdout"] == ["one", "three", "four"]
    assert [line.text for line in attempt.lines if line.stream == "stderr"] == ["two"]
    times = {line.text: line.elapsed_s for line in attempt.lines}
    assert 0 <= times["one"] < times["three"] < 5
    assert not any(line.is_cut for line in attempt.lines)


async def test_a_long_line_is_cut_and_says_so(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "print('x' * 300)\nprint('short')", max_line_bytes=100)
    assert [(line.text.rstrip("…")[:100], line.is_cut) for line in attempt.lines] == [
        ("x" * 100, True),
        ("short", False),
    ]


async def test_what_cannot_be_shown_is_replaced(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, r"print('a\0b \x1b[31m <b> \u2028')")
    assert attempt.printed == ["a\N{REPLACEMENT CHARACTER}b \x1b[31m <b> \u2028"]


async def test_an_exception_is_told_with_type_message_and_own_frames(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "print('before')\nraise ValueError('no such thing')")
    assert attempt.broken.status is AttemptStatus.ERROR
    failure = attempt.broken.failure
    assert (failure.code, failure.type, failure.message) == ("error", "ValueError", "no such thing")
    assert "raise ValueError('no such thing')" in (failure.traceback or "")
    assert "sandgraph_runner" not in (failure.traceback or "")
    assert attempt.printed == ["before"]


@pytest.mark.parametrize("way_out", ["raise SystemExit(0)", "import sys; sys.exit(1)", "raise KeyboardInterrupt"])
async def test_leaving_by_exception_is_an_error(sandboxes: Sandboxes, way_out: str) -> None:
    attempt = await run(sandboxes, way_out)
    assert attempt.broken.status is AttemptStatus.ERROR


async def test_a_huge_message_is_cut(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "raise ValueError('x' * 10_000_000)")
    assert attempt.broken.status is AttemptStatus.ERROR
    assert len(attempt.broken.failure.message) < 20_000
    assert len(attempt.broken.failure.traceback or "") < 40_000


async def test_code_that_does_not_compile_is_an_error(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, function=Source("f", "def f(state:\n"))
    assert (attempt.broken.status, attempt.broken.failure.type) == (AttemptStatus.ERROR, "SyntaxError")


@pytest.mark.parametrize("value", ["float('nan')", "{1, 2}", "lambda: 0", "b'x'", "{1: 2}", "2**63", "'\\ud800'"])
async def test_what_the_state_cannot_hold_names_its_key(sandboxes: Sandboxes, value: str) -> None:
    attempt = await run(sandboxes, f"state.set('the_key', {value})")
    assert attempt.broken.status is AttemptStatus.RESULT_INVALID
    assert "the_key" in attempt.broken.failure.message


async def test_a_result_over_its_limit_is_invalid(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "state.set('x', 'x' * 100_000)", max_result_bytes=50_000)
    assert attempt.broken.status is AttemptStatus.RESULT_INVALID


async def test_edge_conditions_are_answered_in_order_over_the_new_state(sandboxes: Sandboxes) -> None:
    conditions = (
        Condition(expression="state.score > 5"),
        Condition(expression="state.score < 5"),
        Condition(function=Source("is_six", "def is_six(state):\n    return state.get('score') == 6\n")),
    )
    attempt = await run(sandboxes, "state.set('score', 6)", {"score": 0}, after=conditions)
    assert attempt.succeeded.after == (True, False, True)


async def test_conditions_alone_need_no_function(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, state={"x": 1}, function=None, after=(Condition(expression="state.x == 1"),))
    assert attempt.succeeded.after == (True,)
    assert attempt.changes == {}


async def test_a_condition_that_raises_is_named(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, after=(Condition(expression="state.nowhere > 1"),))
    assert attempt.broken.status is AttemptStatus.ERROR
    assert attempt.broken.failure.condition == "state.nowhere > 1"


@pytest.mark.parametrize(
    ("start", "is_last", "entered", "again", "after"),
    [
        (0, False, True, True, ()),
        (0, True, True, True, (True,)),
        (1, False, True, False, (True,)),
        (9, False, False, None, (True,)),
    ],
    ids=["goes on", "last one allowed", "ends", "not entered"],
)
async def test_a_loops_questions(
    sandboxes: Sandboxes,
    *,
    start: int,
    is_last: bool,
    entered: bool,
    again: bool | None,
    after: tuple[bool, ...],
) -> None:
    loop = Condition(expression="state.n < 2")
    attempt = await run(
        sandboxes,
        "print('called')\nstate.set('n', state.get('n') + 1)",
        {"n": start},
        before=loop,
        again=loop,
        is_last=is_last,
        after=(Condition(expression="True"),),
    )
    assert (attempt.succeeded.entered, attempt.succeeded.again, attempt.succeeded.after) == (entered, again, after)
    assert attempt.printed == (["called"] if entered else [])


async def item(sandboxes: Sandboxes, body: str, items: list[object], index: int = 0, **more: Any) -> Attempt:  # noqa: ANN401
    """Run ``f(item, state)`` with this body for one of a map's items."""
    code = "def f(item, state):\n" + "\n".join(f"    {line}" for line in body.splitlines())
    order = {"function": Source("f", code), "item_key": "items", "item_index": index, **more}
    return await run(sandboxes, state={"items": items, "factor": 10}, **order)


@pytest.mark.parametrize("value", [None, False, 0, "", [], {"a": [1.5, None, "é\u2028"]}, 2**63 - 1], ids=repr)
async def test_what_a_maps_function_returns_is_the_items_result(sandboxes: Sandboxes, value: object) -> None:
    attempt = await item(sandboxes, "return item", [0, value], 1)
    assert (attempt.succeeded.value, attempt.changes) == (value, {})
    assert repr(attempt.succeeded.value) == repr(value)
    assert (attempt.succeeded.entered, attempt.succeeded.again, attempt.succeeded.after) == (True, None, ())


async def test_a_maps_function_may_take_the_item_alone(sandboxes: Sandboxes) -> None:
    code = "import asyncio\nasync def f(item):\n    await asyncio.sleep(0)\n    print(item)\n    return item * 2\n"
    attempt = await item(sandboxes, "", [1, 4], 1, function=Source("f", code))
    assert (attempt.succeeded.value, attempt.printed) == (8, ["4"])
    assert attempt.succeeded.reads == ("items",)


async def test_a_maps_function_reads_the_state_but_cannot_change_it(sandboxes: Sandboxes) -> None:
    attempt = await item(sandboxes, "return item * state['factor']", [1, 4], 1)
    assert (attempt.succeeded.value, attempt.succeeded.reads) == (40, ("factor", "items"))
    attempt = await item(sandboxes, "state['x'] = 1", [1])
    assert attempt.broken.status is AttemptStatus.ERROR
    assert attempt.broken.failure.message == (
        "a map's function returns its result and cannot change the state (it set 'x' to a int)"
    )


@pytest.mark.parametrize("value", ["float('nan')", "{1, 2}", "2**63", "'\\ud800'", "[[[[]]]]", "'x' * 70_000"])
async def test_a_result_that_cannot_be_stored_names_its_item(sandboxes: Sandboxes, value: str) -> None:
    attempt = await item(sandboxes, f"return {value}", [0, 0, 0], 2, max_depth=3, max_result_bytes=60_000)
    assert attempt.broken.status is AttemptStatus.RESULT_INVALID
    assert attempt.broken.failure.message.startswith("the result of item 2: result")


async def test_a_maps_function_that_raises_is_an_error(sandboxes: Sandboxes) -> None:
    attempt = await item(sandboxes, "return 1 / item", [0])
    assert (attempt.broken.status, attempt.broken.failure.type) == (AttemptStatus.ERROR, "ZeroDivisionError")
    assert "return 1 / item" in (attempt.broken.failure.traceback or "")


async def test_no_condition_is_asked_for_an_item(sandboxes: Sandboxes) -> None:
    raising = Condition(expression="1 / 0")
    attempt = await item(sandboxes, "return item", [3], before=raising, again=raising, after=(raising,))
    assert (attempt.succeeded.value, attempt.succeeded.after) == (3, ())


async def test_a_large_result_comes_back(sandboxes: Sandboxes) -> None:
    attempt = await item(sandboxes, "return [[i, i / 3] for i in range(item)]", [50_000])
    assert attempt.succeeded.value == [[i, i / 3] for i in range(50_000)]


async def test_what_was_read_is_told(sandboxes: Sandboxes) -> None:
    after = (Condition(expression="state.asked > 0"), Condition(expression="'absent' in state"))
    attempt = await run(
        sandboxes, "state.set('w', state.get('b', 0))\nreturn {'x': state['a']}", {"a": 1, "asked": 1}, after=after
    )
    assert (attempt.succeeded.reads, attempt.succeeded.reads_cut) == (("a", "absent", "asked", "b"), False)
    attempt = await run(sandboxes, "state.set('w', 1)", {"a": 1})
    assert (attempt.succeeded.reads, attempt.succeeded.value) == ((), None)
    attempt = await run(sandboxes, "len(state)", {f"{number:04}": 0 for number in range(1200)})
    assert (len(attempt.succeeded.reads), attempt.succeeded.reads_cut) == (1000, True)


async def test_tools_are_there_inside(sandboxes: Sandboxes) -> None:
    shout = Source("shout", "def shout(text, mark='!'):\n    return text.upper() + mark\n")
    body = "return {'x': get_global_registry().invoke('shout', 'hey', mark='?')}"
    attempt = await run(sandboxes, body, header="from sandgraph import get_global_registry", tools=(shout,))
    assert attempt.changes == {"x": "HEY?"}


async def test_an_unknown_tool_is_an_error(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "return {'x': tools.invoke('nothing')}")
    assert attempt.broken.status is AttemptStatus.ERROR
    assert "nothing" in attempt.broken.failure.message


async def test_who_it_is_can_be_asked(sandboxes: Sandboxes) -> None:
    attempt = await run(
        sandboxes,
        "return {'x': [state.run_id, state.node, state.attempt, state.scope]}",
        run_id="r",
        node="n",
        attempt=3,
        scope="outer/inner",
    )
    assert attempt.changes == {"x": ["r", "n", 3, "outer/inner"]}


async def test_time_out(sandboxes: Sandboxes) -> None:
    began = time.monotonic()
    attempt = await run(sandboxes, "import time\nprint('started')\ntime.sleep(20)", timeout_s=0.7)
    assert attempt.broken.status is AttemptStatus.TIMEOUT
    assert attempt.broken.failure.code == "timeout"
    assert attempt.broken.failure.message == "It did not finish within 0.7 s and was killed."
    assert attempt.printed == ["started"]
    assert 0.7 <= attempt.broken.usage.wall_s < 2.7
    # A sandbox that had to be started first may have taken its time as well.
    assert time.monotonic() - began < 10


async def test_cancelling_ends_it_and_the_next_one_works(sandboxes: Sandboxes) -> None:
    started = asyncio.Event()

    async def tell(_: Sequence[LogLine]) -> None:
        started.set()

    async def endless() -> None:
        source = Source("f", "import time\ndef f(state):\n    print('x')\n    time.sleep(20)\n")
        async with sandboxes.lease(LIMITS, OWNER) as sandbox:
            await sandbox.execute(Job(function=source), b"{}", timeout_s=30, on_log=tell)

    task = asyncio.create_task(endless())
    await asyncio.wait_for(started.wait(), 20)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 2
    assert (await run(sandboxes, "return {'x': 1}")).changes == {"x": 1}


async def test_a_cancel_scope_ends_it_too(sandboxes: Sandboxes) -> None:
    # Such scopes go on cancelling until the block is left.
    with anyio.move_on_after(0.5) as scope:
        async with sandboxes.lease(LIMITS, OWNER) as sandbox:
            source = Source("f", "import time\ndef f(state):\n    time.sleep(20)\n")
            await sandbox.execute(Job(function=source), b"{}", timeout_s=30, on_log=_drop)
    assert scope.cancelled_caught
    assert (await run(sandboxes, "return {'x': 1}")).changes == {"x": 1}


async def test_the_output_limit(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "while True:\n    print('x' * 99)", limits=Limits(output_kb=10))
    assert attempt.broken.status is AttemptStatus.OUTPUT_LIMIT
    assert sum(len(line.text) + 1 for line in attempt.lines) <= 10 * 1024 + 1
    assert len(attempt.lines) >= 100
    assert "10 KiB" in attempt.broken.failure.message


async def test_lines_are_limited_too(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "while True:\n    print()", limits=Limits(output_kb=10))
    assert attempt.broken.status is AttemptStatus.OUTPUT_LIMIT
    assert len(attempt.lines) == 10 * 1024 // BYTES_A_LINE


async def test_usage_is_measured(sandboxes: Sandboxes) -> None:
    attempt = await run(sandboxes, "import time\nprint('12345')\ntime.sleep(0.1)\nfor i in range(10**6): pass")
    usage = attempt.succeeded.usage
    assert 0.1 <= usage.wall_s < 5
    assert usage.cpu_s is not None
    assert 0.001 < usage.cpu_s < 5
    assert usage.output_bytes == 6
    assert usage.start_s >= 0


async def test_one_sandbox_one_job(sandboxes: Sandboxes) -> None:
    async with sandboxes.lease(LIMITS, OWNER) as sandbox:
        assert await sandbox.check(Check(expressions=("1",)), timeout_s=10) == []
        with pytest.raises(RuntimeError):
            await sandbox.execute(Job(), b"{}", timeout_s=1, on_log=_drop)


async def test_what_the_log_handler_raises_ends_the_attempt(sandboxes: Sandboxes) -> None:
    async def fail(_: Sequence[LogLine]) -> None:
        raise OSError("the disk is full")

    source = Source("f", "def f(state):\n    print('x')\n")
    with pytest.raises(OSError, match="the disk is full"):
        async with sandboxes.lease(LIMITS, OWNER) as sandbox:
            await sandbox.execute(Job(function=source), b"{}", timeout_s=10, on_log=fail)
    assert (await run(sandboxes)).changes == {}


async def test_attempts_run_side_by_side_in_sandboxes_of_their_own(sandboxes: Sandboxes) -> None:
    attempts = await asyncio.gather(
        *(run(sandboxes, f"import time\ntime.sleep(0.1)\nprint({n})\nreturn {{'n': {n}}}") for n in range(3))
    )
    assert [(attempt.changes, attempt.printed) for attempt in attempts] == [({"n": n}, [str(n)]) for n in range(3)]


async def test_a_check_that_finds_nothing(sandboxes: Sandboxes) -> None:
    sources = (Source("f", "print('loud')\ndef f(state):\n    return 1 / 0\n"), Source("T", "class T: pass\n"))
    async with sandboxes.lease(LIMITS, OWNER) as sandbox:
        assert await sandbox.check(Check(sources, ("state.x > 1",)), timeout_s=10) == []


async def test_a_check_names_what_is_wrong_and_where(sandboxes: Sandboxes) -> None:
    check = Check(
        (
            Source("f", "def f(state):\n    return (\n"),
            Source("f", "def g(state):\n    pass\n"),
            Source("f", "\nimport no_such_module\n"),
            Source("f", "f = 3\n"),
            Source("f", "def f(state): pass\n"),
        ),
        ("1", "state.x >", "x = 1"),
    )
    async with sandboxes.lease(LIMITS, OWNER) as sandbox:
        problems = await sandbox.check(check, timeout_s=10)
    assert not isinstance(problems, Broken)
    found = [(problem.index, problem.code) for problem in problems]
    assert found == [
        (0, "syntax_error"),
        (1, "name_not_defined"),
        (2, "import_failed"),
        (3, "not_callable"),
        (6, "syntax_error"),
        (7, "syntax_error"),
    ]
    assert (problems[0].line, problems[0].column) == (2, 12)
    assert problems[2].line == 2


async def test_a_check_that_does_not_end(sandboxes: Sandboxes) -> None:
    check = Check((Source("f", "import time\nprint('x')\ntime.sleep(20)\n"),))
    async with sandboxes.lease(LIMITS, OWNER) as sandbox:
        broken = await sandbox.check(check, timeout_s=0.5)
    assert isinstance(broken, Broken)
    assert broken.status is AttemptStatus.TIMEOUT


async def test_facts_count_the_leases(sandboxes: Sandboxes) -> None:
    assert sandboxes.facts()["leased"] == 0
    async with sandboxes.lease(LIMITS, OWNER):
        assert sandboxes.facts()["leased"] == 1
    assert sandboxes.facts()["leased"] == 0
    assert {"engine", "image", "waiting"} <= sandboxes.facts().keys()


async def test_no_lease_before_the_start(sandboxes: Sandboxes) -> None:
    unstarted = InProcessSandboxes() if isinstance(sandboxes, InProcessSandboxes) else SandboxPool(sandboxes._settings)  # type: ignore[attr-defined]
    with pytest.raises(EngineUnavailable):
        async with unstarted.lease(LIMITS, OWNER):
            pass
    await unstarted.close()
    await unstarted.close()
