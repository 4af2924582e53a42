"""What the store need not ask the database for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sandgraph.errors import NotFound, Unavailable
from sandgraph.model.graph import Graph
from sandgraph.store import known
from sandgraph.store.known import Recent
from sandgraph.store.records import CodeKind
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is read from the database, from now on."""
    seen: list[str] = []
    read = store._database.read

    async def counted(work: object, *args: object) -> object:
        seen.append(work.__name__)  # type: ignore[attr-defined]
        return await read(work, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(store._database, "read", counted)
    return seen


async def test_a_version_of_a_graph_is_read_once(store: Store, graph: Graph, reads: list[str]) -> None:
    version, _ = await store.save_graph(graph)
    assert await store.graph(version.graph_id) == await store.graph(version.graph_id) == version
    assert reads == ["get"]
    for _ in range(2):
        with pytest.raises(NotFound):
            await store.graph("graph_none")


async def test_the_latest_code_is_read_once_and_again_after_a_new_version(store: Store, reads: list[str]) -> None:
    for code in ("one", "two"):
        function, _ = await store.save_code(CodeKind.FUNCTION, "f", code)
        helper, _ = await store.save_code(CodeKind.TOOL, "t", code)
        for _ in range(3):
            assert await store.latest_code(CodeKind.FUNCTION, ["f"]) == {"f": function}
            assert await store.latest_code(CodeKind.TOOL, ["t"]) == await store.all_tools() == {"t": helper}
        assert await store.latest_code(CodeKind.FUNCTION, ["f", "none"]) == {"f": function}
    assert len(reads) == 8


async def test_what_is_asked_while_a_version_is_added_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save_code(CodeKind.FUNCTION, "f", "one")
    read, may_return = store._database.read, asyncio.Event()

    async def slow(work: object, *args: object) -> object:
        found: object = await read(work, *args)  # type: ignore[arg-type]
        await may_return.wait()
        return found

    with monkeypatch.context() as slowly:
        slowly.setattr(store._database, "read", slow)
        asked = asyncio.create_task(store.latest_code(CodeKind.FUNCTION, ["f"]))
        await asyncio.sleep(0.1)
        await store.save_code(CodeKind.FUNCTION, "f", "two")
        may_return.set()
        assert (await asked)["f"].code == "one"
    assert (await store.latest_code(CodeKind.FUNCTION, ["f"]))["f"].code == "two"


async def test_code_that_may_have_been_stored_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.save_code(CodeKind.TOOL, "t", "one")
    assert (await store.all_tools())["t"].code == "one"
    write = store._database.write

    async def told_failed(work: object, *args: object) -> object:
        await write(work, *args)  # type: ignore[arg-type]
        raise Unavailable("nobody heard of it", code="store_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(store._database, "write", told_failed)
        with pytest.raises(Unavailable):
            await store.save_code(CodeKind.TOOL, "t", "two")
    assert (await store.all_tools())["t"].code == "two"


async def test_what_a_run_pinned_is_known_from_its_making(store: Store, graph: Graph, reads: list[str]) -> None:
    version, _ = await store.save_graph(graph)
    function, _ = await store.save_code(CodeKind.FUNCTION, "f", "one")
    run, _ = await store.create_run(version, {}, functions={"f": function}, tools={}, image="image")
    assert await store.run_code(run.run_id) == ({"f": function}, {})
    assert reads == []
    store._known.pinned.clear()
    assert await store.run_code(run.run_id) == ({"f": function}, {})


async def test_a_run_that_was_sent_nothing_has_no_mail(store: Store, graph: Graph, reads: list[str]) -> None:
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    assert await store.untold_events(run.run_id) == []
    assert reads == []
    for number in (1, 2):
        event, _ = await store.receive_event(run.run_id, "go", number, limit=9)
        assert (await store.untold_events(run.run_id))[-1] == event


async def test_an_event_that_comes_before_the_making_was_heard_of_is_mail(store: Store, graph: Graph) -> None:
    version, _ = await store.save_graph(graph)
    write, sent = store._database.write, list[str]()

    async def slow(work: object, *args: object) -> object:
        done: object = await write(work, *args)  # type: ignore[arg-type]
        if work.__name__ == "create":  # type: ignore[attr-defined]
            [run] = (await store.list_runs()).items
            sent.append((await store.receive_event(run.run_id, "go", None, limit=9))[0].event_id)
        return done

    with pytest.MonkeyPatch.context() as slowly:
        slowly.setattr(store._database, "write", slow)
        run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image")
    assert [each.event_id for each in await store.untold_events(run.run_id)] == sent


async def test_no_more_is_kept_than_the_bound(store: Store, graph: Graph) -> None:
    for number in range(known._GRAPHS + 5):
        version, _ = await store.save_graph(replace(graph, name=f"g{number}"))
        await store.graph(version.graph_id)
    assert len(store._known.graphs) == known._GRAPHS
    recent = Recent[str, int](2)
    recent.keep("a", 1)
    recent.keep("b", 2)
    assert recent.get("a") == 1
    recent.keep("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c"), len(recent)) == (1, None, 3, 2)
