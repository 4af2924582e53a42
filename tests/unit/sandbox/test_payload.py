"""What comes out of a sandbox is refused unless it is exactly what the protocol allows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from fake_engine import an_outcome

from sandgraph.model.run import LogLine, Usage
from sandgraph.model.state import StateDiff
from sandgraph.sandbox.payload import (
    Account,
    Answers,
    read_account,
    read_answers,
    read_lines,
    read_problems,
    read_report,
    read_text,
    read_used,
    read_version,
)
from sandgraph.sandbox.spec import CheckProblem, Succeeded
from sandgraph_runner.protocol import (
    Check,
    Condition,
    Frame,
    Job,
    Kind,
    ProtocolError,
    Reason,
    Report,
    Source,
    Used,
    replace,
)


def answers_of(body: bytes, job: Job) -> Answers:
    return read_answers(read_text(body, job.max_result_bytes), job)


def problems_of(body: bytes, check: Check) -> Sequence[CheckProblem]:
    return read_problems(read_text(body, check.max_result_bytes), check)


ASKED = Condition(expression="True")


def setting(value: str) -> bytes:
    """An outcome that sets a key to this JSON text."""
    return an_outcome(ops=[{"op": "set", "key": "k", "value": "VALUE"}]).replace(b'"VALUE"', value.encode())


ITEM = Job(function=Source("f", ""), item_key="items", item_index=7)


def resulting(value: str) -> bytes:
    """An outcome whose result for an item is this JSON text."""
    return an_outcome(value="VALUE").replace(b'"VALUE"', value.encode())


def test_an_outcome() -> None:
    body = an_outcome(ops=[{"op": "set", "key": "k", "value": [1, 2.5, "é", None, {}]}, {"op": "delete", "key": "a"}])
    answers = answers_of(body, Job())
    assert answers.diff.to_json() == [
        {"op": "delete", "key": "a"},
        {"op": "set", "key": "k", "value": [1, 2.5, "é", None, {}]},
    ]


@pytest.mark.parametrize(
    ("job", "answers"),
    [
        (Job(after=(ASKED, ASKED)), {"after": [True, False]}),
        (Job(again=ASKED, after=(ASKED,)), {"again": True}),
        (Job(again=ASKED, after=(ASKED,)), {"again": False, "after": [True]}),
        (Job(again=ASKED, after=(ASKED,), is_last=True), {"again": True, "after": [False]}),
        (Job(before=ASKED, again=ASKED, after=(ASKED,)), {"entered": False, "after": [True]}),
    ],
)
def test_answers_to_what_was_asked(job: Job, answers: dict[str, object]) -> None:
    read = answers_of(an_outcome(**answers), job)
    assert {"entered": read.entered, "again": read.again, "after": list(read.after)} == {
        "entered": True,
        "again": None,
        "after": [],
        **answers,
    }


@pytest.mark.parametrize(
    ("job", "answers"),
    [
        (Job(), {"after": [True]}),
        (Job(after=(ASKED,)), {}),
        (Job(after=(ASKED,)), {"after": [1]}),
        (Job(after=(ASKED,)), {"after": "x"}),
        (Job(), {"again": True}),
        (Job(again=ASKED), {}),
        (Job(again=ASKED), {"again": 1}),
        (Job(again=ASKED, after=(ASKED,)), {"again": True, "after": [True]}),
        (Job(), {"entered": False}),
        (Job(before=ASKED), {"entered": None}),
        (Job(before=ASKED, again=ASKED), {"entered": False, "again": True}),
    ],
)
def test_answers_to_what_was_not_asked(job: Job, answers: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        answers_of(an_outcome(**answers), job)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe{\x00}\x00",
        an_outcome(next_node="end"),
        an_outcome(ops={}),
        an_outcome(ops=[{"op": "set", "key": "k"}]),
        an_outcome(ops=[{"op": "set", "key": 1, "value": 1}]),
        an_outcome(ops=[{"op": "append", "key": "k", "value": 1}]),
        an_outcome(ops=[{"op": "append", "key": "k", "value": [1]}]),
        an_outcome(ops=[{"op": "add", "key": "k", "value": 1}]),
        an_outcome(ops=[{"op": "set", "key": "k", "value": 1, "status": "succeeded"}]),
        an_outcome(ops=[{"op": "delete", "key": "k"}] * 2),
        an_outcome().replace(b"}", b",}"),
        setting("NaN"),
        setting("-Infinity"),
        setting("1e999"),
        setting("9223372036854775808"),
        setting("-9223372036854775809"),
        setting("1" * 5000),
        setting(r'"\ud800"'),
        setting(r'{"\udfff": 1}'),
        setting("[" * 200 + "]" * 200),
        setting("[" * 100_000 + "]" * 100_000),
        setting(r'"\ud800"').replace(rb"\ud800", b"\xed\xa0\x80"),
    ],
    ids=range(26),
)
def test_what_is_no_outcome(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        answers_of(body, Job())


@pytest.mark.parametrize("value", ["9223372036854775807", "-9223372036854775808", "1e308", '"NaN"', r'"\ud83d\ude00"'])
def test_what_is_just_possible(value: str) -> None:
    assert answers_of(setting(value), Job()).diff


def test_the_bounds_of_an_outcome() -> None:
    assert answers_of(setting("[" * 64 + "]" * 64), Job(max_depth=64)).diff
    with pytest.raises(ProtocolError):
        answers_of(setting('"' + "x" * 100 + '"'), Job(max_result_bytes=100))
    many = [{"op": "set", "key": str(n), "value": 1} for n in range(21)]
    with pytest.raises(ProtocolError):
        answers_of(an_outcome(ops=many), Job(max_keys=10))


def log(lines: object) -> Frame:
    return Frame(Kind.LOG, json.dumps({"lines": lines}).encode())


def test_lines() -> None:
    frame = log([["stdout", 0, "", False], ["stderr", 1.5, "<b> \x1b[31m é", True]])
    assert read_lines(frame) == [LogLine("stdout", 0.0, ""), LogLine("stderr", 1.5, "<b> \x1b[31m é", is_cut=True)]


@pytest.mark.parametrize(
    "lines",
    [
        None,
        "x",
        ["x"],
        [["stdin", 0, "x", False]],
        [["stdout", -1, "x", False]],
        [["stdout", True, "x", False]],
        [["stdout", "0", "x", False]],
        [["stdout", float("nan"), "x", False]],
        [["stdout", 0, 1, False]],
        [["stdout", 0, "x", 0]],
        [["stdout", 0, "x"]],
        [["stdout", 0, "x", False, "extra"]],
        [["stdout", 0, "a\nb", False]],
        [["stdout", 0, "a\0b", False]],
        [["stdout", 0, "\ud800", False]],
    ],
    ids=range(15),
)
def test_what_is_no_line(lines: object) -> None:
    with pytest.raises(ProtocolError):
        read_lines(log(lines))


def used(**changed: object) -> dict[str, object]:
    return {**Used().to_meta(), **changed}


def report(kind: Kind = Kind.RESULT, **changed: object) -> Frame:
    return Frame(kind, json.dumps({**Report().to_meta(), **changed}).encode())


def test_a_heartbeat() -> None:
    said = Used(1.5, 2**30, 7, 1)
    assert read_used(Frame(Kind.HEARTBEAT, json.dumps(said.to_meta()).encode())) == said


@pytest.mark.parametrize(
    "meta",
    [{}, used(cpu_s=-1), used(pids_peak=-1), used(oom_kills=2**63), used(more=1), used(oom_kills=None)],
    ids=repr,
)
def test_what_is_no_heartbeat(meta: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        read_used(Frame(Kind.HEARTBEAT, json.dumps(meta).encode()))


def test_a_report() -> None:
    read = read_report(
        report(
            Kind.FAILURE, reason="error", message="x" * 9999, used=used(cpu_s=1, oom_kills=2), exit_code=255, signal=64
        )
    )
    assert (read.reason, read.used.cpu_s, read.used.oom_kills, read.exit_code, read.signal) == (
        Reason.ERROR,
        1.0,
        2,
        255,
        64,
    )
    assert len(read.message) == 4096


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "timeout"},
        {"reason": "succeeded"},
        {"reason": None},
        {"reason": "error"},
        {"used": used(cpu_s=-1)},
        {"used": used(cpu_s=float("inf"))},
        {"used": used(cpu_s=True)},
        {"used": used(cpu_s="1")},
        {"used": 1},
        {"output_bytes": -1},
        {"output_bytes": 1.5},
        {"used": used(peak_memory_bytes=2**64)},
        {"exit_code": 256},
        {"exit_code": True},
        {"signal": 0},
        {"message": None},
        {"status": "succeeded"},
    ],
    ids=repr,
)
def test_what_is_no_report(changed: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        read_report(report(**changed))  # type: ignore[arg-type]


def test_a_failure_has_a_reason() -> None:
    with pytest.raises(ProtocolError):
        read_report(report(Kind.FAILURE))


ACCOUNT = {"type": "ValueError", "message": "no", "traceback": "line 1", "condition": None, "key": None}


def test_an_account_is_cut() -> None:
    assert read_account(json.dumps(ACCOUNT).encode()) == Account("ValueError", "no", "line 1", None)
    long = read_account(json.dumps({**ACCOUNT, "type": "T" * 99_999, "message": "\0" * 99_999}).encode())
    assert len(long.type) == 1024
    assert len(long.message) == 8192
    assert "\0" not in long.message


@pytest.mark.parametrize(
    "changed", [{"message": 1}, {"extra": "x"}, {"traceback": ["x"]}, {"message": "\udc80"}], ids=repr
)
def test_what_is_no_account(changed: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        read_account(json.dumps({**ACCOUNT, **changed}).encode())


CHECK = Check((Source("f", ""),), ("1",))
PROBLEM = {"index": 1, "code": "syntax_error", "message": "no", "line": 1, "column": None}


def test_problems() -> None:
    body = json.dumps({"problems": [PROBLEM]}).encode()
    assert problems_of(body, CHECK) == [CheckProblem(1, "syntax_error", "no", 1, None)]


@pytest.mark.parametrize(
    "changed",
    [
        {"index": 2},
        {"index": -1},
        {"index": True},
        {"code": "<b>"},
        {"message": 1},
        {"line": -1},
        {"column": 1.5},
        {"x": 1},
    ],
    ids=repr,
)
def test_what_is_no_problem(changed: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        problems_of(json.dumps({"problems": [{**PROBLEM, **changed}]}).encode(), CHECK)


@pytest.mark.parametrize("body", [b"{}", b'{"problems":{}}', b'{"problems":[1]}'])
def test_what_is_no_list_of_problems(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        problems_of(body, CHECK)


def test_a_version() -> None:
    assert read_version(Frame(Kind.HELLO, b'{"version":7,"python":"3"}')) == 7


@pytest.mark.parametrize(
    "frame",
    [Frame(Kind.LOG, b'{"version":1}'), Frame(Kind.HELLO, b'{"version":true}'), Frame(Kind.HELLO, b"{}")],
    ids=repr,
)
def test_what_is_no_version(frame: Frame) -> None:
    with pytest.raises(ProtocolError):
        read_version(frame)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ([1] * 2000, True),
        ([1] * 2100, False),
        ([[]] * 2100, False),
        ([{"a": 1}] * 1040, False),
        ([{"a": 1}] * 990, True),
        (['a,[{"\\ ,'] * 900, True),
        (",[{" * 5000, True),
    ],
    ids=range(7),
)
def test_more_values_than_a_state_may_have_are_not_even_parsed(
    value: object, monkeypatch: pytest.MonkeyPatch, *, fits: bool
) -> None:
    # What it says of reads counts among them, as much as that may be.
    job = Job(function=Source("f", ""), max_values=1000, max_keys=10)
    body = an_outcome(ops=[{"op": "set", "key": "k", "value": value}])
    result, item = an_outcome(value=value), replace(job, item_key="items")
    if fits:
        assert answers_of(body, job).diff
        assert answers_of(result, item).value == value
        return
    monkeypatch.setattr(json, "loads", None)
    for asked, said in ((job, body), (item, result)):
        with pytest.raises(ProtocolError, match="1000 values"):
            answers_of(said, asked)


@pytest.mark.parametrize(
    "value", [None, False, 0, "", [], {}, {"ops": [1, {"a": None}]}, [2**63 - 1, -1.5, "é"]], ids=repr
)
def test_the_result_for_an_item(value: object) -> None:
    answers = answers_of(an_outcome(value=value, reads=["items"]), ITEM)
    assert (answers.value, answers.diff.ops, answers.entered, answers.reads) == (value, (), True, ("items",))


@pytest.mark.parametrize(
    ("job", "body"),
    [
        (Job(), an_outcome(value=1)),
        (Job(), an_outcome(value=False)),
        (ITEM, an_outcome(ops=[{"op": "set", "key": "k", "value": 1}])),
        (ITEM, an_outcome(ops=[{"op": "delete", "key": "k"}])),
        (ITEM, an_outcome(entered=False)),
        (ITEM, an_outcome(again=True)),
        (ITEM, an_outcome(after=[True])),
        (replace(ITEM, before=ASKED), an_outcome(entered=False)),
        (replace(ITEM, again=ASKED), an_outcome(again=True)),
        (replace(ITEM, after=(ASKED,)), an_outcome(after=[True])),
        (ITEM, resulting("NaN")),
        (ITEM, resulting("1e999")),
        (ITEM, resulting("9223372036854775808")),
        (ITEM, resulting(r'"\ud800"')),
        (ITEM, resulting("[" * 65 + "]" * 65)),
        (ITEM, resulting("[" * 100_000 + "]" * 100_000)),
        (replace(ITEM, max_depth=0), resulting("[]")),
        (ITEM, resulting("")),
        (replace(ITEM, max_result_bytes=100), resulting('"' + "x" * 100 + '"')),
    ],
    ids=range(19),
)
def test_what_is_no_result_for_an_item(job: Job, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        answers_of(body, job)


def test_a_result_of_the_greatest_depth() -> None:
    assert answers_of(resulting("[" * 64 + "]" * 64), ITEM).value


@pytest.mark.parametrize(
    ("names", "is_cut", "expected"),
    [
        ([], False, ((), False)),
        (["", "a", "é"], True, (("", "a", "é"), True)),
        (None, False, ((), False)),
        ([f"{n:04}" for n in range(1000)], True, (tuple(f"{n:04}" for n in range(1000)), True)),
        (["x" * 65_536], False, (("x" * 65_536,), False)),
    ],
    ids=range(5),
)
def test_what_was_read(names: object, expected: object, *, is_cut: bool) -> None:
    answers = answers_of(an_outcome(reads=names, reads_cut=is_cut), Job())
    assert (answers.reads, answers.reads_cut) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"reads": "a"},
        {"reads": {"a": 1}},
        {"reads": [1]},
        {"reads": [None]},
        {"reads": [["a"]]},
        {"reads": ["b", "a"]},
        {"reads": ["a", "a"]},
        {"reads": ["\ud800"]},
        {"reads": [f"{n:04}" for n in range(1001)]},
        {"reads": ["x" * 65_537]},
        {"reads": ["é" * 32_769]},
        {"reads_cut": None},
        {"reads_cut": 0},
    ],
    ids=range(13),
)
def test_what_cannot_have_been_read(changed: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        answers_of(an_outcome(**changed), Job())


def test_an_outcome_with_what_it_used() -> None:
    usage = Usage(wall_s=0.5)
    answers = answers_of(an_outcome(value=[1], reads=["items"], reads_cut=True), ITEM)
    assert answers.succeeded(usage) == Succeeded(StateDiff(), True, None, (), usage, [1], ("items",), True)  # noqa: FBT003
