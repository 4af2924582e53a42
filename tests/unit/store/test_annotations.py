"""What is noted about runs: kept, found by, and changed by one at a time."""

from __future__ import annotations

import pytest

from sandgraph.errors import InvalidInput, NotFound, PreconditionFailed
from sandgraph.model.annotations import MAX_METADATA, AnnotationChange, Annotations
from sandgraph.model.graph import Graph
from sandgraph.store.filters import RunFilter
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def made(store: Store, graph: Graph, annotations: Annotations) -> str:
    version, _ = await store.save_graph(graph)
    run, _ = await store.create_run(version, {}, functions={}, tools={}, image="image", annotations=annotations)
    assert run.annotations == annotations
    return run.run_id


async def found(store: Store, tag: str) -> list[str]:
    return [run.run_id for run in (await store.list_runs(RunFilter(tags=(tag,)), tenant="default")).items]


async def test_a_run_is_found_by_its_tags_and_shows_what_is_noted(store: Store, graph: Graph, run_id: str) -> None:
    noted = Annotations(("a", "b:1"), {"key": "text"}, 1)
    other = await made(store, graph, noted)
    assert (await store.run_summary(other)).annotations == noted
    assert (await store.run(run_id)).annotations == Annotations()
    assert await found(store, "a") == await found(store, "b:1") == [other]
    assert await found(store, "b") == []
    both = (await store.list_runs()).items
    assert [run.annotations.tags for run in both] == [("a", "b:1"), ()]


async def test_a_change_replaces_tags_and_merges_metadata(store: Store, run_id: str) -> None:
    first = await store.annotate_run(run_id, AnnotationChange(("z", "a"), {"x": "1", "y": "2"}))
    assert first == Annotations(("a", "z"), {"x": "1", "y": "2"}, 1)
    second = await store.annotate_run(run_id, AnnotationChange(None, {"x": None, "w": "3"}))
    assert second == Annotations(("a", "z"), {"w": "3", "y": "2"}, 2)
    third = await store.annotate_run(run_id, AnnotationChange(("z",)))
    assert third == (await store.run_summary(run_id)).annotations == Annotations(("z",), {"w": "3", "y": "2"}, 3)
    assert (await found(store, "a"), await found(store, "z")) == ([], [run_id])


async def test_what_changes_nothing_is_no_revision(store: Store, run_id: str) -> None:
    assert (await store.annotate_run(run_id, AnnotationChange())).revision == 0
    await store.annotate_run(run_id, AnnotationChange(("a",)))
    assert (await store.annotate_run(run_id, AnnotationChange(("a",), {"never": None}))).revision == 1


async def test_of_two_who_change_the_same_one_is_refused(store: Store, run_id: str) -> None:
    seen = frozenset({0})
    await store.annotate_run(run_id, AnnotationChange(("mine",)), expected=seen)
    with pytest.raises(PreconditionFailed):
        await store.annotate_run(run_id, AnnotationChange(("theirs",)), expected=seen)
    assert (await store.run_summary(run_id)).annotations.tags == ("mine",)
    await store.annotate_run(run_id, AnnotationChange(("theirs",)), expected=frozenset({0, 1}))


async def test_metadata_is_bounded_by_all_that_there_is_then(store: Store, run_id: str) -> None:
    half = MAX_METADATA // 2 + 1
    await store.annotate_run(run_id, AnnotationChange(None, {f"a{n}": "" for n in range(half)}))
    with pytest.raises(InvalidInput, match="metadata"):
        await store.annotate_run(run_id, AnnotationChange(None, {f"b{n}": "" for n in range(half)}))
    assert len((await store.run_summary(run_id)).annotations.metadata) == half


async def test_a_run_that_is_not_there_has_no_notes(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.annotate_run("run_nowhere", AnnotationChange(("a",)))


def test_a_run_that_is_made_of_another_takes_over_what_it_is_not_told_otherwise() -> None:
    before = Annotations(("a",), {"x": "1"}, 7)
    assert AnnotationChange().of_new(before) == Annotations(("a",), {"x": "1"})
    assert AnnotationChange((), {}).of_new(before) == Annotations()
    assert AnnotationChange(("b",)).of_new(before) == Annotations(("b",), {"x": "1"})
    assert AnnotationChange(None, {"y": "2"}).of_new(before) == Annotations(("a",), {"y": "2"})
