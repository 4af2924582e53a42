"""WorkflowState, as submitted code uses it."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest

from sandgraph_runner.protocol import MAX_READS
from sandgraph_runner.state import ExpressionState, ItemState, ReadOnlyState, WorkflowState


def test_it_reads_and_writes_like_a_mapping() -> None:
    state = WorkflowState({"a": 1})
    state.set("b", 2)
    state["c"] = [3]
    state.update({"d": 4}, e=5)
    state.update([("f", 6)])
    assert state["a"] == state.get("a") == 1
    assert state.get("none") is None
    assert state.get("none", 7) == 7
    assert "b" in state
    assert "z" not in state
    assert state.keys() == list(state) == ["a", "b", "c", "d", "e", "f"]
    assert state.values() == [1, 2, [3], 4, 5, 6]
    assert state.items()[:2] == [("a", 1), ("b", 2)]
    assert len(state) == 6
    assert repr(state) == "<WorkflowState with a, b, c, d, e, f>"


def test_deleting_tells_whether_there_was_anything() -> None:
    state = WorkflowState({"a": 1, "b": 2})
    assert state.delete("a")
    assert not state.delete("a")
    del state["b"]
    assert len(state) == 0
    with pytest.raises(KeyError, match="b"):
        del state["b"]
    with pytest.raises(KeyError, match="b"):
        _ = state["b"]


@pytest.mark.parametrize(("key", "error"), [(1, TypeError), (None, TypeError), ("", ValueError), (b"a", TypeError)])
def test_keys_are_strings_that_are_not_empty(key: object, error: type[Exception]) -> None:
    state = WorkflowState()
    with pytest.raises(error, match="a state key is"):
        state.set(key, 1)  # type: ignore[arg-type]
    with pytest.raises(error):
        state.update({"good": 1, key: 2})  # type: ignore[arg-type]
    assert state.keys() == []


def test_it_is_made_of_string_keys_an_empty_one_among_them() -> None:
    with pytest.raises(TypeError, match="not int"):
        WorkflowState({1: 1})  # type: ignore[dict-item]
    assert WorkflowState({"": 1}).to_dict() == {"": 1}


def test_no_key_is_special() -> None:
    state = WorkflowState({"__proto__": 1, "__class__": 2, "$ref": 3})
    assert state.to_dict() == {"__proto__": 1, "__class__": 2, "$ref": 3}
    assert type(state) is WorkflowState


def test_a_value_that_is_handed_out_is_the_states_own() -> None:
    state = WorkflowState({"a": [1]})
    state["a"].append(2)
    assert state["a"] == [1, 2]


def test_to_dict_is_a_deep_copy() -> None:
    state = WorkflowState({"a": {"b": [1]}, "c": ("x", {1})})
    copied = state.to_dict()
    copied["a"]["b"].append(2)
    assert state["a"] == {"b": [1]}
    assert copied["c"] == ("x", {1})


def test_it_tells_where_it_is() -> None:
    state = WorkflowState(run_id="r", node="n", iteration=2, attempt=3, idempotency_key="k", scope="s")
    assert (state.run_id, state.node, state.iteration, state.attempt, state.idempotency_key) == ("r", "n", 2, 3, "k")
    assert (state.scope, WorkflowState().scope) == ("s", "")
    for name in ("run_id", "scope"):
        with pytest.raises(AttributeError):
            setattr(state, name, "other")
    with pytest.raises(AttributeError):
        state.counter = 1  # type: ignore[attr-defined]


def test_a_condition_cannot_change_it() -> None:
    given = {"a": [1]}
    state = ReadOnlyState(given)
    state["a"].append(2)
    state.to_dict()["a"].append(3)
    assert given == {"a": [1]}
    for change in (lambda: state.set("a", 1), lambda: state.delete("a"), lambda: state.update(a=1)):
        with pytest.raises(TypeError, match="a condition may not change the state"):
            change()
    with pytest.raises(TypeError):
        state["a"] = 1
    with pytest.raises(TypeError):
        del state["a"]


def test_a_maps_function_cannot_change_it_and_is_told_what_to_do() -> None:
    given = {"a": [1]}
    state = ItemState(given, node="n")
    state["a"].append(2)
    assert (given, state.node) == ({"a": [1]}, "n")
    for change in (
        lambda: state.set("a", 1),
        lambda: state.delete("a"),
        lambda: state.update(a=1),
        lambda: state.__setitem__("a", 1),
        lambda: state.__delitem__("a"),
    ):
        with pytest.raises(TypeError, match="a map's function returns its result and cannot change the state"):
            change()


ALL = None
EACH: list[tuple[str, set[str | None]]] = [
    ("pass", set()),
    ("state.get('a')", {"a"}),
    ("state.get('none', 1)", {"none"}),
    ("state['a']", {"a"}),
    ("state['none']", {"none"}),
    ("'a' in state", {"a"}),
    ("'none' not in state", {"none"}),
    ("state.get(Name('a'))", {"a"}),
    ("state.keys()", {ALL}),
    ("state.values()", {ALL}),
    ("state.items()", {ALL}),
    ("state.to_dict()", {ALL}),
    ("list(state)", {ALL}),
    ("dict(state)", {ALL, "a", "b"}),
    ("len(state)", {ALL}),
    ("bool(state)", {ALL}),
    ("repr(state)", {ALL}),
    ("copy.copy(state)", {ALL}),
    ("copy.deepcopy(state)", {ALL}),
    ("state.node + state.scope", set()),
    ("3 in state", set()),
    ("[] in state", set()),
]


class Name(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)


@pytest.mark.parametrize(("statement", "expected"), EACH)
@pytest.mark.parametrize("kind", [WorkflowState, ReadOnlyState, ItemState])
def test_it_notes_which_keys_are_read(kind: type[WorkflowState], statement: str, expected: set[str | None]) -> None:
    state = kind({"a": [1], "b": 2})
    with suppress(KeyError, TypeError):
        exec(statement, {"state": state, "copy": copy, "Name": Name})
    assert state._reads == expected
    assert {type(key) for key in state._reads} <= {str, type(None)}


def test_to_write_is_not_to_read() -> None:
    state = WorkflowState({"a": 1, "b": 1, "c": 1})
    state.set("a", 2)
    state["b"] = 3
    state.update(c=4)
    state.delete("a")
    del state["b"]
    assert state._reads == set()


def test_an_expression_notes_the_attributes_that_are_keys() -> None:
    state: Any = ExpressionState({"counter": 1, "_own": 2, "items": 3}, node="n")
    assert (state.counter, state._own, state.items, state.node) == (1, 2, 3, "n")
    assert state.scope == ""
    assert getattr(state, "missing", None) is None
    assert state._reads == {"counter", "_own", "items", "missing"}


def test_names_that_are_not_there_fill_no_memory() -> None:
    state = WorkflowState({"a": 1})
    for number in range(5000):
        assert state.get(f"k{number}") is None
    assert len(state._reads) == MAX_READS + 1


def test_an_expression_reads_keys_as_attributes() -> None:
    state: Any = ExpressionState({"counter": 1, "items": [1], "node": "mine", "_own": 2, "__dunder__": 3}, node="n")
    assert state.counter == 1
    assert state.items == [1]
    assert state.node == "mine"
    assert state._own == 2
    assert state.__dunder__ == 3
    assert state.iteration == 1
    assert state.get("counter") == state["counter"] == 1
    assert "counter" in state
    assert getattr(state, "missing", None) is None


def test_a_missing_key_is_named_and_those_there_are_listed() -> None:
    with pytest.raises(AttributeError, match="the state has no key 'countr'; it has counter, items"):
        _ = ExpressionState({"counter": 1, "items": []}).countr
    with pytest.raises(AttributeError, match="it has no keys"):
        _ = ExpressionState().x
    many = {f"k{number}": 0 for number in range(1000)}
    with pytest.raises(AttributeError, match="k19 and 980 more"):
        _ = ExpressionState(many).x


def test_it_can_be_copied() -> None:
    state = ExpressionState({"a": [1]})
    assert copy.deepcopy(state).a == [1]
    assert copy.copy(WorkflowState({"a": 1})).to_dict() == {"a": 1}


def test_reading_again_and_again_copies_once() -> None:
    state = ExpressionState({"a": list(range(100_000))})
    assert state.a is state.a
