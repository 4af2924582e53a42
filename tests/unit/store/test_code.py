from __future__ import annotations

import asyncio
import hashlib

import pytest

from sandgraph.errors import InvalidInput
from sandgraph.model.graph import Graph
from sandgraph.store.records import CodeKind, CodeSource
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def test_code_is_versioned_by_its_content(store: Store) -> None:
    one, created = await store.save_code(CodeKind.FUNCTION, "f", "def f(state): ...")
    assert created
    assert (one.version, one.hash) == (1, hashlib.sha256(b"def f(state): ...").hexdigest())
    assert one.created_at.tzinfo is not None
    assert await store.save_code(CodeKind.FUNCTION, "f", "def f(state): ...") == (one, False)

    two, created = await store.save_code(CodeKind.FUNCTION, "f", "def f(state): pass")
    assert created
    assert two.version == 2
    assert await store.latest_code(CodeKind.FUNCTION, ["f"]) == {"f": two}

    # Going back to older code is a new version too: the latest wins.
    three, created = await store.save_code(CodeKind.FUNCTION, "f", "def f(state): ...")
    assert created
    assert (three.version, three.hash) == (3, one.hash)
    assert await store.latest_code(CodeKind.FUNCTION, ["f"]) == {"f": three}


async def test_a_new_description_of_the_same_code_is_a_new_version(store: Store) -> None:
    one, _ = await store.save_code(CodeKind.TOOL, "t", "def t(): ...", "Does it.")
    two, created = await store.save_code(CodeKind.TOOL, "t", "def t(): ...", "Does it well.")
    assert created
    assert (two.version, two.hash) == (2, one.hash)
    assert await store.save_code(CodeKind.TOOL, "t", "def t(): ...") == (two, False)


async def test_functions_and_tools_do_not_share_names(store: Store) -> None:
    function, _ = await store.save_code(CodeKind.FUNCTION, "same", "def same(state): ...")
    tool, _ = await store.save_code(CodeKind.TOOL, "same", "def same(): ...", "A tool.")
    assert await store.latest_code(CodeKind.FUNCTION, ["same"]) == {"same": function}
    assert await store.all_tools() == {"same": tool}


async def test_unknown_names_are_absent(store: Store) -> None:
    known, _ = await store.save_code(CodeKind.FUNCTION, "known", "…")
    names = ["unknown", "known", *(f"other{i}" for i in range(1_200))]
    assert await store.latest_code(CodeKind.FUNCTION, names) == {"known": known}
    assert await store.latest_code(CodeKind.FUNCTION, []) == {}


async def test_lists_show_the_latest_by_name_in_stable_pages(store: Store) -> None:
    for name in "dbca":
        await store.save_code(CodeKind.FUNCTION, name, "old")
        await store.save_code(CodeKind.FUNCTION, name, "new")
    await store.save_code(CodeKind.TOOL, "b", "a tool")
    first = await store.list_code(CodeKind.FUNCTION, limit=2)
    assert [(version.name, version.code) for version in first.items] == [("a", "new"), ("b", "new")]
    await store.save_code(CodeKind.FUNCTION, "aa", "inserted before the cursor")
    second = await store.list_code(CodeKind.FUNCTION, cursor=first.next_cursor, limit=2)
    assert [version.name for version in second.items] == ["c", "d"]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "?", "é", "Zm9v", "Z3JhcGhzOng", "A", "a" * 10_000])
async def test_what_is_no_cursor_of_the_list_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await store.list_code(CodeKind.FUNCTION, cursor=cursor)
    assert [(problem.path, problem.code) for problem in refused.value.problems] == [("cursor", "invalid_cursor")]


async def test_a_cursor_of_functions_is_none_of_tools(store: Store) -> None:
    for kind in CodeKind:
        for name in "ab":
            await store.save_code(kind, name, "…")
    cursor = (await store.list_code(CodeKind.FUNCTION, limit=1)).next_cursor
    with pytest.raises(InvalidInput):
        await store.list_code(CodeKind.TOOL, cursor=cursor)


@pytest.mark.parametrize(
    ("code", "stored"),
    [("# 🐍 ☃ \u2028", "# 🐍 ☃ \u2028"), ("a\x00b", "a\\x00b"), ("\ud83d \udc80", "\\ud83d \\udc80"), ("", "")],
)
async def test_any_text_can_be_stored(store: Store, code: str, stored: str) -> None:
    version, _ = await store.save_code(CodeKind.FUNCTION, "f", code, code)
    assert (version.code, version.description) == (stored, stored)
    assert await store.latest_code(CodeKind.FUNCTION, ["f"]) == {"f": version}
    assert await store.save_code(CodeKind.FUNCTION, "f", code, code) == (version, False)


async def test_what_is_installed_again_is_left_as_it_is(store: Store, graph: Graph) -> None:
    sources = [
        CodeSource(CodeKind.FUNCTION, "f", "old \x00"),
        CodeSource(CodeKind.FUNCTION, "g", "…"),
        CodeSource(CodeKind.TOOL, "f", "a tool", "Does it."),
    ]
    transactions: list[str] = []
    store.watch(lambda kind, _waited, _took: transactions.append(kind))
    await store.install(sources, [graph])
    users, _ = await store.save_code(CodeKind.FUNCTION, "f", "the user's")
    assert users.version == 2
    # All were told of but perhaps the last.
    assert transactions in (["write"], ["write", "write"])

    for _ in range(2):
        await store.install(sources, [graph])
        found = await store.latest_code(CodeKind.FUNCTION, ["f", "g"])
        assert [found["f"], found["g"].code] == [users, "…"]
        [(name, tool)] = (await store.all_tools()).items()
        assert (name, tool.version, tool.code, tool.description) == ("f", 1, "a tool", "Does it.")
        assert [each.version for each in (await store.list_graphs()).items] == [1]


async def test_what_a_later_release_installs_is_the_latest_version(store: Store) -> None:
    await store.install([CodeSource(CodeKind.FUNCTION, "f", "one"), CodeSource(CodeKind.FUNCTION, "g", "one")], [])
    await store.latest_code(CodeKind.FUNCTION, ["f", "g"])
    later = [CodeSource(CodeKind.FUNCTION, "f", "two"), CodeSource(CodeKind.FUNCTION, "g", "one")]
    await store.install(later, [])
    found = await store.latest_code(CodeKind.FUNCTION, ["f", "g"])
    assert [(found[name].version, found[name].code) for name in "fg"] == [(2, "two"), (1, "one")]
    # Another's tenant has none of it.
    await store.install(later, [], tenant="other")
    assert [each.version for each in (await store.latest_code(CodeKind.FUNCTION, "fg", tenant="other")).values()] == [
        1,
        1,
    ]


async def test_concurrent_registrations_number_the_versions(store: Store) -> None:
    made = await asyncio.gather(*(store.save_code(CodeKind.FUNCTION, "f", f"# {i}") for i in range(20)))
    assert sorted(version.version for version, _ in made) == list(range(1, 21))
