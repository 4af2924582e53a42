"""The supervisor's judgement of what the child sent: nothing of it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandgraph_runner.plain import INT_MAX, INT_MIN, Unstorable, plain, storable, storable_result
from sandgraph_runner.protocol import Check, Condition, Job, Reason, Source, replace
from sandgraph_runner.verdict import ACCOUNT, OUTCOME, Message, Verdict, as_message, judge

CONDITION = Condition(expression="state.n")
FUNCTION = Source("f", "")
JOB = Job(function=FUNCTION)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def judged(body: bytes | str, order: Job | Check = JOB, tag: bytes = OUTCOME, state: bytes = b"{}") -> Verdict:
    message = Message(order)
    message.feed(as_message(tag, body.encode() if isinstance(body, str) else body))
    assert message.is_settled
    return judge(message, order, state)


REST = '"entered":true,"again":null,"after":[],"value":null,"reads":[],"reads_cut":false'


def with_value(value: str, key: str = '"x"') -> str:
    return f'{{"ops":[{{"op":"set","key":{key},"value":{value}}}],{REST}}}'


def with_answers(**answers: object) -> str:
    return json.dumps({"ops": [], **json.loads(f"{{{REST}}}"), **answers})


def with_result(value: str) -> str:
    """An outcome whose result for an item is this JSON text."""
    return with_answers(value="VALUE").replace('"VALUE"', value)


ITEM = Job(function=FUNCTION, item_key="items", item_index=7)


def test_a_good_outcome_is_passed_on_byte_for_byte() -> None:
    body = with_value('{"a":[1,2.5,null,true,"ä\\u0000"]}')
    assert judged(body) == Verdict(Reason.NONE, body=body.encode())


@given(st.dictionaries(st.text(min_size=1), json_values, max_size=4))
def test_whatever_the_child_may_write_is_accepted(values: dict[str, Any]) -> None:
    ops = ",".join(
        f'{{"op":"set","key":{json.dumps(key)},"value":{json.dumps(storable(key, values[key], 64))}}}' for key in values
    )
    body = f'{{"ops":[{ops}],{REST}}}'
    assert judged(body).reason is Reason.NONE
    assert {op["key"]: op["value"] for op in json.loads(body)["ops"]} == values


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "x is inf"),
        ("[" + "1" + "0" * 400 + ".0]", "x[0] is inf"),
        ("9223372036854775808", "'x': x is an integer beyond"),
        ("-9223372036854775809", "'x': x is an integer beyond"),
        ("1" * 5000, "not JSON"),
        ('{"a":1,"a":2}', "the key 'a' twice"),
        ('"\\ud800"', "'x': x is not valid text"),
        ('{"a":["\\udfff"]}', "x['a'][0] is not valid text"),
        ('{"\\udfff":1}', "not valid text"),
        ("[" * 65 + "]" * 65, "nested 68 levels deep"),
        ("[" * 100_000 + "]" * 100_000, "nested"),
        ("[" * 100_000, "nested"),
        ("{]", "not JSON"),
        ("'a'", "not JSON"),
        ("1,]", "not JSON"),
        ("\x00", "not JSON"),
        ('"\n"', "not JSON"),
    ],
)
def test_what_json_or_the_state_does_not_allow_is_refused(value: str, says: str) -> None:
    verdict = judged(with_value(value))
    assert (verdict.reason, verdict.body) == (Reason.RESULT_INVALID, b"")
    assert says in verdict.message
    assert verdict.message.encode()


@pytest.mark.parametrize(
    "value",
    ["9223372036854775807", "-9223372036854775808", "1e308", "1e-999", '"NaN"', '"\\ud83d\\ude00"', '"[[[[{{{{"',
     "[" * 64 + "]" * 64, '"\\\\\\"[["', '{"__proto__":{"a":1}}', "0.1", '"99999999999999999999e999"'],
)  # fmt: skip
def test_what_they_do_allow_is_accepted(value: str) -> None:
    assert judged(with_value(value)).reason is Reason.NONE


def test_text_is_utf8() -> None:
    verdict = judged(with_value('"?"').encode().replace(b"?", b"\xff"))
    assert "not valid UTF-8" in verdict.message


@pytest.mark.parametrize(
    "ops",
    [
        {"x": 1}, [1], [{"op": "set", "key": "x"}], [{"op": "delete", "key": "x", "value": 1}],
        [{"op": "add", "key": "x"}],
        [{"op": "set", "key": 1, "value": 1}], [{"op": "set", "key": "", "value": 1}],
        [{"op": "set", "key": "x", "value": 1, "node": "n"}], [{"op": "delete", "key": "x"}] * 2,
    ],
)  # fmt: skip
def test_operations_are_those_of_the_protocol(ops: object) -> None:
    assert judged(with_answers(ops=ops)).reason is Reason.RESULT_INVALID


@pytest.mark.parametrize(
    ("job", "body", "is_valid"),
    [
        (JOB, with_answers(), True),
        (JOB, with_answers(entered=False), False),
        (JOB, with_answers(entered=1), False),
        (JOB, with_answers(again=False), False),
        (JOB, with_answers(after=[True]), False),
        (Job(), with_answers(ops=[{"op": "delete", "key": "x"}]), False),
        (Job(function=FUNCTION, before=CONDITION), with_answers(entered=False), True),
        (
            Job(function=FUNCTION, before=CONDITION),
            with_answers(entered=False, ops=[{"op": "delete", "key": "x"}]),
            False,
        ),
        (Job(before=CONDITION, again=CONDITION), with_answers(entered=False), True),
        (Job(before=CONDITION, again=CONDITION), with_answers(entered=False, again=True), False),
        (Job(again=CONDITION), with_answers(), False),
        (Job(again=CONDITION), with_answers(again=0), False),
        (Job(again=CONDITION, after=(CONDITION,)), with_answers(again=True), True),
        (Job(again=CONDITION, after=(CONDITION,)), with_answers(again=True, after=[True]), False),
        (Job(again=CONDITION, after=(CONDITION,)), with_answers(again=False), False),
        (Job(again=CONDITION, after=(CONDITION,)), with_answers(again=False, after=[True]), True),
        (Job(again=CONDITION, is_last=True, after=(CONDITION,)), with_answers(again=True, after=[True]), True),
        (Job(again=CONDITION, is_last=True, after=(CONDITION,)), with_answers(again=True), False),
        (Job(after=(CONDITION,) * 2), with_answers(after=[True, False]), True),
        (Job(after=(CONDITION,) * 2), with_answers(after=[True, 1]), False),
        (Job(after=(CONDITION,)), with_answers(after=None), False),
        (JOB, with_answers(value=0), False),
        (ITEM, with_answers(), True),
        (ITEM, with_answers(value={"ops": [None, False, 0, ""]}), True),
        (ITEM, with_answers(ops=[{"op": "set", "key": "x", "value": 1}]), False),
        (ITEM, with_answers(ops=[{"op": "delete", "key": "x"}]), False),
        (ITEM, with_answers(entered=False), False),
        (replace(ITEM, before=CONDITION), with_answers(entered=False), False),
        (replace(ITEM, again=CONDITION), with_answers(again=True), False),
        (replace(ITEM, again=CONDITION), with_answers(), True),
        (replace(ITEM, after=(CONDITION,)), with_answers(after=[True]), False),
        (replace(ITEM, after=(CONDITION,)), with_answers(), True),
    ],
)
def test_answers_fit_the_questions(job: Job, body: str, *, is_valid: bool) -> None:
    assert (judged(body, job).reason is Reason.NONE) is is_valid


def test_keys_are_counted_together_with_those_there_were() -> None:
    state = json.dumps({str(number): "x" for number in range(5)}).encode()
    job = Job(function=FUNCTION, max_keys=6)
    new = [{"op": "set", "key": key, "value": 1} for key in "ab"]
    assert judged(with_answers(ops=new[:1]), job, state=state).reason is Reason.NONE
    assert judged(with_answers(ops=new), job, state=state).reason is Reason.RESULT_INVALID
    assert judged(with_answers(ops=[*new, {"op": "delete", "key": "0"}]), job, state=state).reason is Reason.NONE
    assert (
        judged(with_answers(ops=[{"op": "set", "key": "0", "value": 1}, new[0]]), job, state=state).reason
        is Reason.NONE
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("NaN", "NaN"),
        ("1e999", "the result of item 7: result is inf"),
        ("9223372036854775808", "the result of item 7: result is an integer beyond"),
        ('{"a":[0,"\\ud800"]}', "the result of item 7: result['a'][1] is not valid text"),
        ('{"\\udfff":1}', "not valid text"),
        ("[" * 65 + "]" * 65, "nested 66 levels deep; 65 are allowed"),
        ("[" * 100_000, "nested"),
        ('{"a":1,"a":2}', "the key 'a' twice"),
    ],
    ids=range(8),
)
def test_a_result_is_judged_as_the_states_values_are(value: str, says: str) -> None:
    verdict = judged(with_result(value), ITEM)
    assert (verdict.reason, verdict.body) == (Reason.RESULT_INVALID, b"")
    assert says in verdict.message


@pytest.mark.parametrize(
    "value", ["9223372036854775807", "[" * 64 + "]" * 64, '"\\ud83d\\ude00"', '"99999999999999999999"']
)
def test_a_good_result_is_passed_on(value: str) -> None:
    body = with_result(value)
    assert judged(body, ITEM) == Verdict(Reason.NONE, body=body.encode())


def test_where_no_nesting_is_allowed_the_outcome_itself_still_is() -> None:
    assert judged(with_result("1"), replace(ITEM, max_depth=0)).reason is Reason.NONE


@given(json_values)
def test_whatever_result_the_child_may_write_is_accepted(value: object) -> None:
    assert judged(with_result(json.dumps(storable_result(0, value, 64))), ITEM).reason is Reason.NONE


@pytest.mark.parametrize(
    ("reads", "is_cut", "is_valid"),
    [
        (None, False, True),
        ([], True, True),
        (["", "a", "é", "\U0001f600"], False, True),
        ([f"{n:04}" for n in range(1000)], True, True),
        ([f"{n:04}" for n in range(1001)], True, False),
        (["é" * 32_768], False, True),
        (["é" * 32_769], False, False),
        (["b", "a"], False, False),
        (["a", "a"], False, False),
        (["\ud800"], False, False),
        ([1], False, False),
        ([["a"]], False, False),
        ("a", False, False),
        (True, False, False),
        ([], None, False),
        ([], 1, False),
    ],
    ids=range(16),
)
@pytest.mark.parametrize("job", [JOB, ITEM], ids=["function", "item"])
def test_what_was_read_is_a_bounded_sorted_list(job: Job, reads: object, is_cut: object, *, is_valid: bool) -> None:
    assert (judged(with_answers(reads=reads, reads_cut=is_cut), job).reason is Reason.NONE) is is_valid


def account(**changes: object) -> str:
    return json.dumps({"type": "E", "message": "m", "traceback": "t", "condition": None, "key": None, **changes})


def test_an_account_says_error_and_one_with_a_key_result_invalid() -> None:
    assert judged(account(), tag=ACCOUNT).message == "E: m"
    assert judged(account(message=""), tag=ACCOUNT).message == "E"
    assert judged(account(), tag=ACCOUNT).reason is Reason.ERROR
    assert judged(account(key="k"), tag=ACCOUNT) == Verdict(Reason.RESULT_INVALID, "m", account(key="k").encode(), "E")
    assert judged(account(condition="state.n"), Job(after=(CONDITION,)), tag=ACCOUNT).reason is Reason.ERROR
    assert judged(account(condition="state.n"), replace(ITEM, after=(CONDITION,)), tag=ACCOUNT).body == b""


@pytest.mark.parametrize(
    "changes",
    [
        {"type": 1}, {"message": None}, {"traceback": []}, {"condition": "state.other"}, {"condition": []}, {"key": 1},
        {"more": 1}, {"message": "x" * 9000}, {"traceback": "x" * 40_000}, {"type": "x" * 2000}, {"key": "x" * 2000},
        {"message": "\ud800"}, {"status": "succeeded"},
    ],
)  # fmt: skip
def test_an_account_of_other_fields_is_refused(changes: dict[str, object]) -> None:
    verdict = judged(account(**changes), tag=ACCOUNT)
    assert verdict.reason is Reason.RESULT_INVALID
    assert verdict.body == b""


CHECK = Check((FUNCTION,), ("x",))


def problem(**changes: object) -> str:
    fields = {"index": 0, "code": "syntax_error", "message": "m", "line": 1, "column": None, **changes}
    return json.dumps({"problems": [fields]})


@pytest.mark.parametrize("message", ["m", "", "\N{GRINNING FACE} no"])
def test_a_checks_problems_are_passed_on(message: str) -> None:
    assert judged(problem(message=message), CHECK).body == problem(message=message).encode()


def test_a_check_may_find_nothing() -> None:
    assert judged('{"problems":[]}', CHECK).reason is Reason.NONE


@pytest.mark.parametrize(
    "body",
    [
        "[]", '{"problems":{}}', '{"problems":[],"more":1}', '{"problems":[1]}', json.dumps({"problems": [{}] * 3}),
        problem(index=2), problem(index=-1), problem(index=None), problem(index=True), problem(code="fine"),
        problem(message=1), problem(line="1"), problem(more=1), problem(message="\ud800"),
    ],
)  # fmt: skip
def test_other_problems_are_refused(body: str) -> None:
    assert judged(body, CHECK).reason is Reason.RESULT_INVALID


@pytest.mark.timeout(20)
@pytest.mark.parametrize("start", [b"", b'"'])
def test_escapes_without_end_take_no_longer_than_other_text(start: bytes) -> None:
    # Looking at them again from every quote would take hours.
    assert judged(start + b'\\"' * 2_000_000).reason is Reason.RESULT_INVALID


@given(st.binary(max_size=80))
def test_any_bytes_are_judged_without_a_crash(data: bytes) -> None:
    message = Message(JOB)
    message.feed(data)
    if message.is_settled:
        assert judge(message, JOB, b"{}").reason in {Reason.RESULT_INVALID, Reason.ERROR, Reason.NONE}


@given(st.text(max_size=80))
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    judged(text.encode("utf-8", "replace"))
    judged(with_value(text).encode("utf-8", "replace"))


@given(st.lists(st.integers(0, 200), max_size=5))
def test_a_message_may_come_in_pieces_and_its_first_end_counts(cuts: list[int]) -> None:
    data = as_message(OUTCOME, with_value("1").encode()) + b"more"
    message = Message(JOB)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        message.feed(data[start:end])
    assert message.is_complete
    assert message.body == with_value("1").encode()


@given(json_values)
def test_plain_json_stays_what_it_is(value: object) -> None:
    assert json.dumps(plain(value, 64)) == json.dumps(value)


anything = st.recursive(
    st.none() | st.binary() | st.floats() | st.complex_numbers() | st.integers(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner)
        | st.frozensets(st.integers())
    ),
)


@settings(max_examples=50)
@given(anything)
def test_any_value_is_stored_or_refused(value: object) -> None:
    try:
        text = json.dumps(storable("x", value, 64))
    except Unstorable as error:
        text = json.dumps(str(error))
    assert json.loads(text) is not text
