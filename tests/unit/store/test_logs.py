"""A run's log in pages: filtered, bounded, and whole."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from effort import part_of

from sandgraph.errors import NotFound
from sandgraph.model.commands import RecordAttempt, RecordRun
from sandgraph.model.log_filter import Level, LogFilter
from sandgraph.model.run import AttemptStatus, Failure, LogLine, NodeRunKey, RunStatus
from sandgraph.store.records import LogPage, LogQuery
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

Begin = Callable[[str, int], Awaitable[NodeRunKey]]


@pytest.fixture
async def key(store: Store, run_id: str, begin: Begin) -> NodeRunKey:
    """Give a node run that printed lines 0 to 9, numbers 5 to 14, every third one on stderr."""
    key = await begin("work", 1)
    lines = [LogLine("stdout" if i % 3 else "stderr", i / 10, f"line {i}") for i in range(10)]
    await store.append_logs(run_id, key, 1, lines)
    return key


def texts(page: LogPage) -> list[str]:
    return [record.message for record in page.records]


def numbers(page: LogPage) -> list[int]:
    return [record.seq for record in page.records]


@pytest.mark.usefixtures("key")
async def test_a_page_has_the_lines_alone_and_goes_on_at_its_cursors(store: Store, run_id: str) -> None:
    first = await store.log(run_id, LogQuery(limit=4))
    assert numbers(first) == [5, 6, 7, 8]
    assert (first.next, first.previous, first.more, first.is_final) == (8, None, True, False)
    then = await store.log(run_id, LogQuery(after=first.next, limit=100))
    assert numbers(then) == [9, 10, 11, 12, 13, 14]
    assert (then.next, then.previous, then.more) == (14, 9, False)
    assert numbers(await store.log(run_id, LogQuery(before=9, limit=2, newest=True))) == [7, 8]


@pytest.mark.usefixtures("key")
async def test_the_last_lines_are_asked_for_as_such_and_lead_back_to_the_first(store: Store, run_id: str) -> None:
    seen: list[int] = []
    query = LogQuery(limit=3, newest=True)
    while True:
        page = await store.log(run_id, query)
        seen = [*numbers(page), *seen]
        if not page.more or page.previous is None:
            break
        query = LogQuery(limit=3, newest=True, before=page.previous)
    assert seen == list(range(5, 15))
    assert numbers(await store.log(run_id, LogQuery(after=12, limit=5, newest=True))) == [13, 14]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (LogFilter(stream="stderr"), [0, 3, 6, 9]),
        (LogFilter(level=Level.ERROR), [0, 3, 6, 9]),
        (LogFilter(grep="ine 7"), [7]),
        (LogFilter(grep="LINE 7"), []),
        (LogFilter(grep="LINE 7", ignore_case=True), [7]),
        (LogFilter(grep="%"), []),
        (LogFilter(node="work", iteration=1, attempt=1, scope=""), list(range(10))),
        (LogFilter(node="start"), []),
        (LogFilter(attempt=2), []),
        (LogFilter(stream="stderr", grep="6"), [6]),
    ],
)
@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.usefixtures("key")
async def test_filters(
    store: Store,
    run_id: str,
    wanted: LogFilter,
    found: list[int],
    newest: bool,  # noqa: FBT001
) -> None:
    page = await store.log(run_id, LogQuery(wanted, newest=newest))
    assert texts(page) == [f"line {i}" for i in found]
    assert not page.more


async def test_what_the_database_escapes_is_found_as_it_was_printed(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    await store.append_logs(run_id, key, 1, [LogLine("stdout", 0, "a\x00b \udc80 Ä"), LogLine("stdout", 0, "rest")])
    for sought in ("a\x00b", "\udc80", "Ä"):
        assert len((await store.log(run_id, LogQuery(LogFilter(grep=sought)))).records) == 1
    assert not (await store.log(run_id, LogQuery(LogFilter(grep="ä", ignore_case=True)))).records


async def test_since_is_the_time_at_which_a_line_was_stored(store: Store, run_id: str, key: NodeRunKey) -> None:
    await store.append_logs(run_id, key, 1, [LogLine("stdout", 2, "later"), LogLine("stdout", 2, "last")])
    first, *_, last = (await store.log(run_id, LogQuery())).records
    assert texts(await store.log(run_id, LogQuery(since=last.ts))) == ["later", "last"]
    assert texts(await store.log(run_id, LogQuery(since=last.ts + timedelta(seconds=1)))) == []
    assert len((await store.log(run_id, LogQuery(since=first.ts))).records) == 12
    assert len((await store.log(run_id, LogQuery(since=first.ts - timedelta(days=1)))).records) == 12


@pytest.mark.usefixtures("key")
async def test_events_come_with_the_lines_where_they_are_asked_for(store: Store, run_id: str) -> None:
    page = await store.log(run_id, LogQuery(LogFilter(events=True)))
    assert numbers(page) == list(range(1, 15))
    assert [record.kind for record in page.records[:5]] == ["event"] * 4 + ["log"]
    back = await store.log(run_id, LogQuery(LogFilter(events=True, stream="stderr"), newest=True, limit=5))
    assert numbers(back) == [4, 5, 8, 11, 14]


async def test_output_that_was_cut_is_said_where_it_ends(store: Store, run_id: str, key: NodeRunKey) -> None:
    failure = Failure("output_limit", "It printed too much.", node="work")
    await store.apply(run_id, [RecordAttempt(key, 1, AttemptStatus.OUTPUT_LIMIT, failure)])
    other = NodeRunKey("rest", 1)
    await store.append_logs(run_id, other, 1, [LogLine("stdout", 0, "of another")])
    page = await store.log(run_id, LogQuery())
    assert [record.is_truncation for record in page.records] == [False] * 10 + [True, False]
    assert page.records[-2].seq == 15
    # Once, on whatever page it is.
    whole: list[int] = []
    after = 0
    while True:
        page = await store.log(run_id, LogQuery(after=after, limit=3))
        whole += numbers(page)
        after = page.next
        if not page.more:
            break
    assert whole == [*range(5, 17)]
    assert numbers(await store.log(run_id, LogQuery(after=15))) == [16]
    assert numbers(await store.log(run_id, LogQuery(LogFilter(node="rest")))) == [16]
    assert numbers(await store.log(run_id, LogQuery(LogFilter(grep="no such"), limit=3))) == [15]


@pytest.mark.usefixtures("key")
async def test_a_page_of_a_run_that_ended_says_that_nothing_follows(store: Store, run_id: str) -> None:
    await store.apply(run_id, [RecordRun(RunStatus.FAILED, Failure("error", "It broke."))])
    assert not (await store.log(run_id, LogQuery(limit=10))).is_final
    page = await store.log(run_id, LogQuery())
    assert (page.is_final, page.next) == (True, 15)
    assert (await store.log(run_id, LogQuery(after=2**63 - 1))).is_final


async def test_a_run_that_there_is_not_has_no_log(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.log("run_0", LogQuery())


async def test_a_page_of_a_long_log_costs_little_whatever_is_asked(store: Store, run_id: str, begin: Begin) -> None:
    key = await begin("work", 1)
    length = part_of(100_000)
    for first in range(0, length, 5_000):
        lines = [
            LogLine("stdout", 1, f"{first + i} some text of an ordinary length, as they are") for i in range(5_000)
        ]
        await store.append_logs(run_id, key, 1, lines)
    queries = [
        LogQuery(limit=200),
        LogQuery(limit=200, after=length - 10_000),
        LogQuery(limit=1_000, newest=True),
        LogQuery(LogFilter(grep="nothing of that kind"), limit=200),
        LogQuery(LogFilter(grep="NOTHING", ignore_case=True), newest=True),
        LogQuery(LogFilter(level=Level.CRITICAL)),
        LogQuery(LogFilter(grep=f"{length - 1} some")),
    ]
    for query in queries:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            await store.log(run_id, query)
            took.append(time.perf_counter() - began)
        assert min(took) < 0.1, query
    # Whoever goes on finds it in the end.
    query, found, pages = LogQuery(LogFilter(grep=f"{length - 1} some")), [], 0
    while True:
        page = await store.log(run_id, query)
        found += texts(page)
        pages += 1
        if not page.more:
            break
        query = LogQuery(query.wanted, after=page.next)
    assert len(found) == 1
    assert pages < 100
