"""Reducers, case by case; and that what is told from a value before and after leads from one to the other."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.profile import examples

from sandgraph.model.reducers import Reducer
from sandgraph.model.state import DeleteKey, Json, ReduceKey, SetKey, StateDiff
from sandgraph.model.values import kind_of

LEAST, MOST = -(2**63), 2**63 - 1
ABSENT = object()
SET = object()
NOTHING = object()


def reduced(reducer: Reducer, before: object, after: Json) -> StateDiff:
    state: Mapping[str, Json] = {} if before is ABSENT else {"k": before}  # type: ignore[dict-item]
    return StateDiff((SetKey("k", after),)).reduced(state, {"k": reducer})


def text(value: object) -> str:
    return json.dumps(value)


APPEND, EXTEND, UNION, ADD, MIN, MAX, MERGE = Reducer

CASES: list[tuple[Reducer, object, Json, object]] = [
    (APPEND, [1], [1, 2, 3], [2, 3]),
    (APPEND, [], [[]], [[]]),
    (APPEND, ABSENT, [1], [1]),
    (APPEND, ABSENT, [], []),
    (APPEND, [1], [1], NOTHING),
    (APPEND, [1, 2], [1], SET),
    (APPEND, [1, 2], [3, 1, 2], SET),
    (APPEND, [1], [2, 1], SET),
    (APPEND, [1], [True, 2], SET),
    (APPEND, [1], [1.0, 2], SET),
    (APPEND, [{"a": 1}], [{"a": True}, 2], SET),
    (APPEND, [0.0], [-0.0, 1], SET),
    (APPEND, "a", ["a"], SET),
    (APPEND, ["a"], "a", SET),
    (APPEND, None, [1], SET),
    (APPEND, ABSENT, None, SET),
    (EXTEND, [1], [1, 2], [2]),
    (EXTEND, [1], [2], SET),
    (UNION, [1], [1, 2], [2]),
    (UNION, [2, 1], [1, 3, 2], [3]),
    (UNION, [1, 2], [2, 1], NOTHING),
    (UNION, [1, 2], [1, 2, 2, 1], NOTHING),
    (UNION, [1], [3, 3, 1, 2, 3], [3, 2]),
    (UNION, [1], [1, True, 1.0], [True, 1.0]),
    (UNION, [True], [1], SET),
    (UNION, [1, 2], [2], SET),
    (UNION, [], [], NOTHING),
    (UNION, ABSENT, [2, 2, 1], [2, 1]),
    (UNION, ABSENT, [], []),
    (UNION, [{"a": []}], [{"b": 1}, {"a": []}], [{"b": 1}]),
    (UNION, list(range(20)), list(range(30)), list(range(20, 30))),
    (UNION, {"a": 1}, ["a"], SET),
    (ADD, 1, 3, 2),
    (ADD, 3, 1, -2),
    (ADD, 3, 3, NOTHING),
    (ADD, 0, MOST, MOST),
    (ADD, LEAST, MOST, SET),
    (ADD, LEAST, -1, MOST),
    (ADD, ABSENT, 5, 5),
    (ADD, ABSENT, 0, 0),
    (ADD, 1, True, SET),
    (ADD, False, 1, SET),
    (ADD, 1, "2", SET),
    (ADD, 0.5, 2.0, 1.5),
    (ADD, 1, 1.5, 0.5),
    (ADD, 1, 1.0, 0.0),
    (ADD, 0.1, 0.3, 0.3 - 0.1),
    (ADD, -1e308, 1e308, SET),
    (ADD, 3 * math.ulp(1.7976931348623157e308) / 2, 1.7976931348623157e308, SET),
    (MIN, 5, 3, 3),
    (MIN, 5, 5, NOTHING),
    (MIN, 5, 7, SET),
    (MIN, 5, 5.0, SET),
    (MIN, 5, 4.5, 4.5),
    (MIN, ABSENT, 5, 5),
    (MIN, 5, False, SET),
    (MIN, None, 1, SET),
    (MAX, 5, 7, 7),
    (MAX, 5, 3, SET),
    (MAX, MOST - 1, MOST, MOST),
    (MAX, 0.0, -0.0, SET),
    (MAX, ABSENT, -5, -5),
    (MAX, 0, True, SET),
    (MERGE, {"a": 1}, {"a": 1, "b": 2}, {"b": 2}),
    (MERGE, {"a": 1}, {"b": 2, "a": 1}, {"b": 2}),
    (MERGE, {"a": 1}, {"a": True}, {"a": True}),
    (MERGE, {"a": 1, "b": 1, "c": 1}, {"c": 1, "b": 2, "a": 1}, {"b": 2}),
    (MERGE, {"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 2}}),
    (MERGE, {"a": 1, "b": 2}, {"b": 2}, SET),
    (MERGE, {"a": 1, "b": 2}, {"b": 2, "a": 1}, NOTHING),
    (MERGE, {"a": 1}, {"a": 1}, NOTHING),
    (MERGE, ABSENT, {}, {}),
    (MERGE, ABSENT, {"a": 1}, {"a": 1}),
    (MERGE, [], {"a": 1}, SET),
    (MERGE, {}, [], SET),
]


@pytest.mark.parametrize(("reducer", "before", "after", "operand"), CASES)
def test_what_a_change_is_told_as(reducer: Reducer, before: object, after: Json, operand: object) -> None:
    diff = reduced(reducer, before, after)
    if operand is NOTHING:
        assert diff.ops == ()
    elif operand is SET:
        assert diff.ops == (SetKey("k", after),)
    else:
        (op,) = diff.ops
        assert isinstance(op, ReduceKey)
        assert (op.key, op.reducer, text(op.value)) == ("k", reducer, text(operand))
        # What was told once passes through.
        assert diff.reduced({}, {"k": reducer}) == diff


def test_what_has_no_reducer_stays_as_it_is() -> None:
    diff = StateDiff((SetKey("a", [1]), SetKey("b", 1), DeleteKey("c"), SetKey("d", [1, 2])))
    assert diff.reduced({"a": []}, {}) is diff
    assert diff.reduced({"c": [], "d": [1]}, {"c": APPEND, "d": APPEND}).ops == (
        SetKey("a", [1]),
        SetKey("b", 1),
        DeleteKey("c"),
        ReduceKey("d", APPEND, [2]),
    )


@pytest.mark.parametrize(("reducers", "declared"), [({}, "none"), ({"k": UNION}, "union")])
def test_a_reducer_that_is_not_the_declared_one_is_refused(reducers: dict[str, Reducer], declared: str) -> None:
    diff = StateDiff((ReduceKey("k", APPEND, [1]),))
    with pytest.raises(ValueError, match=f"^the key 'k': its reducer is {declared}, and not append$"):
        diff.reduced({}, reducers)


@pytest.mark.parametrize(
    ("reducer", "before", "operand", "after"),
    [
        (APPEND, [1], [1, 2], [1, 1, 2]),
        (APPEND, ABSENT, [1], [1]),
        (EXTEND, [1], [1], [1, 1]),
        (UNION, [3, 1], [1, 2, 2, 3, True], [3, 1, 2, True]),
        (UNION, list(range(50)), list(range(40, 60)), list(range(60))),
        (UNION, ABSENT, [1, 1], [1]),
        (ADD, 1, 2, 3),
        (ADD, ABSENT, 2.5, 2.5),
        (ADD, MOST, -1, MOST - 1),
        (ADD, MOST, 0.0, 2.0**63),
        (MIN, 1, 2, 1),
        (MIN, 1, 1.0, 1),
        (MIN, 2, 1, 1),
        (MIN, ABSENT, 2, 2),
        (MAX, 1, 2, 2),
        (MAX, ABSENT, -2, -2),
        (MERGE, {"a": 1, "b": 1}, {"b": 2, "c": 2}, {"a": 1, "b": 2, "c": 2}),
        (MERGE, ABSENT, {"a": 1}, {"a": 1}),
    ],
)
def test_what_an_operand_makes_of_a_value(reducer: Reducer, before: object, operand: Json, after: Json) -> None:
    state: dict[str, Json] = {} if before is ABSENT else {"k": before}  # type: ignore[dict-item]
    was = text(state)
    found = StateDiff((ReduceKey("k", reducer, operand),)).apply(state)
    assert text(found) == text({"k": after})
    assert text(state) == was


WRONG: list[tuple[Reducer, Json, Json, str, Json]] = [
    (APPEND, "x", [1], "the key 'k': append needs an array and not a string", [1]),
    (EXTEND, None, [1], "the key 'k': extend needs an array and not null", [1]),
    (UNION, {}, [1, 1], "the key 'k': union needs an array and not an object", [1]),
    (ADD, True, 1, "the key 'k': add needs a number and not a boolean", 1),
    (MIN, "1", 1, "the key 'k': min needs a number and not a string", 1),
    (MAX, [], 1, "the key 'k': max needs a number and not an array", 1),
    (MERGE, 1.5, {"a": 1}, "the key 'k': merge needs an object and not a number", {"a": 1}),
    (ADD, MOST, 1, "the key 'k': add leads out of the numbers that a state can hold", 1),
    (ADD, LEAST, -1, "the key 'k': add leads out of the numbers that a state can hold", -1),
    (ADD, 1e308, 1e308, "the key 'k': add leads out of the numbers that a state can hold", 1e308),
]


@pytest.mark.parametrize(("reducer", "before", "operand", "message", "anew"), WRONG)
def test_what_cannot_be_applied_is_refused_or_starts_anew(
    reducer: Reducer, before: Json, operand: Json, message: str, anew: Json
) -> None:
    diff = StateDiff((ReduceKey("k", reducer, operand),))
    with pytest.raises(ValueError, match=f"^{message}$"):
        diff.apply({"k": before})
    state = {"k": before}
    diff.apply_to(state, lenient=True)
    assert text(state) == text({"k": anew})


def test_operations_of_reducers_as_json_and_back() -> None:
    operands: dict[Reducer, Json] = {reducer: [1] for reducer in (APPEND, EXTEND, UNION)}
    operands |= {ADD: 1.5, MIN: 2, MAX: 3, MERGE: {"a": 1}}
    diff = StateDiff(tuple(ReduceKey(reducer.value, reducer, operands[reducer]) for reducer in sorted(Reducer)))
    written = diff.to_json()
    assert {"op": "append", "key": "append", "value": [1]} in written
    assert all(type(value) in {str, list, int, float, dict} for each in written for value in each.values())
    assert StateDiff.from_json(json.loads(json.dumps(written))) == diff


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("append", {}, "an array and not an object"),
        ("extend", "ab", "an array and not a string"),
        ("union", None, "an array and not null"),
        ("add", True, "a number and not a boolean"),
        ("min", "1", "a number and not a string"),
        ("max", [1], "a number and not an array"),
        ("merge", [["a", 1]], "an object and not an array"),
    ],
)
def test_an_operand_of_another_kind_is_refused(name: str, value: Json, needed: str) -> None:
    with pytest.raises(ValueError, match=f"^the key 'k': {name} needs {needed}$"):
        StateDiff.from_json([{"op": name, "key": "k", "value": value}])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["add", "min", "max"])
def test_an_operand_that_no_state_can_hold_is_refused(name: str, value: Json) -> None:
    with pytest.raises(ValueError, match=f"^the key 'k': {name} needs a number that a state can hold$"):
        StateDiff.from_json([{"op": name, "key": "k", "value": value}])


# Few values, of which many are equal for Python and not as JSON.
scalars = st.sampled_from([None, True, False, 0, 1, 2, 0.0, -0.0, 1.0, 1.5, "", "a"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
numbers = st.integers(LEAST, MOST) | st.floats(allow_nan=False, allow_infinity=False) | scalars
lists = st.lists(values, max_size=12)


@st.composite
def grown(draw: st.DrawFn) -> tuple[Json, Json]:
    """Two values of which the second often comes from the first as ordinary code would make it."""
    before: Json = draw(values | lists | numbers)
    kind = draw(st.integers(0, 4))
    if kind == 0 and isinstance(before, list):
        return before, [*before, *draw(lists)]
    if kind == 1 and isinstance(before, list):
        return before, draw(st.permutations([*before, *draw(lists)]))
    if kind == 2 and isinstance(before, dict):
        return before, {**before, **draw(st.dictionaries(st.sampled_from("abcd"), values))}
    return before, draw(values | numbers)


def as_set(value: Json) -> set[str]:
    assert isinstance(value, list)
    return {text(each) for each in value}


@given(grown(), st.sampled_from(Reducer))
@examples(300)
def test_what_is_told_leads_to_just_what_was_set(pair: tuple[Json, Json], reducer: Reducer) -> None:
    before, after = pair
    diff = reduced(reducer, before, after)
    found = diff.apply({"k": before})["k"]
    assert StateDiff.from_json(json.loads(json.dumps(diff.to_json()))) == diff
    if any(isinstance(op, SetKey) for op in diff.ops):
        assert text(found) == text(after)
    elif reducer is UNION:
        assert as_set(found) == as_set(after)
    elif reducer is MERGE:
        assert json.dumps(found, sort_keys=True) == json.dumps(after, sort_keys=True)
    elif reducer is ADD and {type(before), type(after)} != {int}:
        assert isinstance(found, float)
        assert found == before + (after - before)  # type: ignore[operator]
    else:
        assert text(found) == text(after)


@given(grown(), st.sampled_from(Reducer))
@examples(150)
def test_a_key_that_was_absent_is_what_was_set(pair: tuple[Json, Json], reducer: Reducer) -> None:
    _, after = pair
    diff = reduced(reducer, ABSENT, after)
    assert isinstance(diff.ops[0], ReduceKey) is (kind_of(after) == reducer.kind)
    found = diff.apply({})["k"]
    if reducer is UNION and isinstance(after, list):
        assert as_set(found) == as_set(after)
    elif reducer is ADD:
        assert found == after
    else:
        assert text(found) == text(after)


@given(st.lists(lists, min_size=1, max_size=4))
@examples(60)
def test_a_union_is_unique_and_in_the_order_of_first_appearance(parts: list[list[Json]]) -> None:
    state: dict[str, Json] = {}
    for part in parts:
        StateDiff((ReduceKey("k", UNION, part),)).apply_to(state)
    expected = list(dict.fromkeys(text(each) for part in parts for each in part))
    assert [text(each) for each in state["k"]] == expected  # type: ignore[union-attr]


def member(number: int) -> Json:
    return {"n": number, "s": str(number)}


@pytest.mark.parametrize("reducer", [APPEND, UNION, MERGE])
@pytest.mark.parametrize("where", [0, -1])
def test_a_large_value_is_walked_by_no_python_code(reducer: Reducer, where: int) -> None:
    before = [member(number) for number in range(5_000)]
    after = [member(-1), *before] if where == 0 else [*before, member(-1)]
    calls: list[str] = []
    pair = (before, after)
    if reducer is MERGE:
        pair = tuple({str(each): each for each in part} for part in pair)  # type: ignore[assignment]
    profiled(calls, lambda: reduced(reducer, *pair))
    assert len(calls) < 60


def profiled(calls: list[str], act: Callable[[], StateDiff]) -> None:
    """Note each call of Python code, and each turn of a generator."""
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        act()
    finally:
        sys.setprofile(None)
