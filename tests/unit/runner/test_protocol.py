"""The codec: any cut of the stream gives the same frames, and nothing over a limit is waited for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandgraph_runner.protocol import (
    ACCOUNT_FIELDS,
    OUTCOME_FIELDS,
    OVERHEAD,
    VERSION,
    Check,
    Condition,
    Decoder,
    Frame,
    Job,
    Kind,
    ProtocolError,
    Reason,
    Report,
    Source,
    Used,
    encode,
    replace,
)

metas = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
frames = st.tuples(st.sampled_from(list(Kind)), metas, st.binary(max_size=40))
sources = st.builds(Source, st.text(), st.text())
conditions = st.builds(Condition, expression=st.text()) | st.builds(Condition, function=sources)
jobs = st.builds(
    Job,
    function=st.none() | sources,
    tools=st.lists(sources, max_size=2).map(tuple),
    before=st.none() | conditions,
    again=st.none() | conditions,
    is_last=st.booleans(),
    after=st.lists(conditions, max_size=3).map(tuple),
    item_key=st.none() | st.text(),
    item_index=st.integers(0, 10_000),
    node=st.text(),
    scope=st.text(),
)


@given(st.lists(frames, max_size=5), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(
    given_frames: list[tuple[Kind, dict[str, object], bytes]], draw: st.DataObject
) -> None:
    stream = b"".join(encode(*frame) for frame in given_frames)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = Decoder(1 << 20)
    read: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += decoder.feed(stream[start:end])
    assert [(frame.kind, frame.read_meta(), frame.body) for frame in read] == given_frames
    assert decoder.is_between_frames


@given(st.binary(max_size=60))
def test_garbage_is_frames_or_an_error_but_nothing_else(data: bytes) -> None:
    decoder = Decoder(1 << 10)
    try:
        for frame in decoder.feed(data):
            assert isinstance(frame.kind, Kind)
    except ProtocolError:
        pass


@pytest.mark.parametrize("size", [0, 1])
def test_the_limit_is_exact(size: int) -> None:
    frame = encode(Kind.LOG, {}, b"x" * (100 + size))
    decoder = Decoder(len(frame) - OVERHEAD + 4 - size)
    if size:
        with pytest.raises(ProtocolError, match="outside the limits"):
            list(decoder.feed(frame))
    else:
        assert len(list(decoder.feed(frame))) == 1


def test_a_length_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(ProtocolError, match="outside"):
        list(Decoder(1000).feed(b"\xff\xff\xff\xff\x11"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\x03\x11abc", "outside"),
        (b"\0\0\0\x04\x63\0\0\0\0", "no frame of kind 99"),
        (b"\0\0\0\x04\x11\0\0\0\x01", "longer than the frame"),
    ],
)
def test_a_broken_header_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        list(Decoder(1000).feed(data))


@pytest.mark.parametrize("meta", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_a_meta_section_is_an_object(meta: bytes) -> None:
    with pytest.raises(ProtocolError, match="LOG"):
        Frame(Kind.LOG, meta).read_meta()


@given(jobs)
def test_a_job_survives_the_way(job: Job) -> None:
    assert Job.from_meta(json.loads(json.dumps(job.to_meta()))) == job


@given(st.builds(Check, st.lists(sources, max_size=3).map(tuple), st.lists(st.text(), max_size=3).map(tuple)))
def test_a_check_survives_the_way(check: Check) -> None:
    assert Check.from_meta(json.loads(json.dumps(check.to_meta()))) == check


def test_a_report_survives_the_way() -> None:
    report = Report(Reason.KILLED, "m", Used(1.5, 2, None, 4), 3, None, 9)
    assert Report.from_meta(json.loads(json.dumps(report.to_meta()))) == report


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "fine"},
        {"reason": None},
        {"message": 1},
        {"reason": []},
        {"used": None},
        {"used": {}},
        {"used": {**Used().to_meta(), "cpu_s": "1"}},
        {"used": {**Used().to_meta(), "oom_kills": None}},
        {"used": {**Used().to_meta(), "pids_peak": True}},
        {"exit_code": "0"},
        {"more": 1},
    ],
)
def test_a_report_of_other_fields_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        Report.from_meta({**Report().to_meta(), **changes})


def test_a_report_needs_every_field() -> None:
    meta = Report().to_meta()
    del meta["signal"]
    with pytest.raises(ProtocolError):
        Report.from_meta(meta)


def test_an_items_job_asks_nothing() -> None:
    asks = Job(before=Condition("a"), again=Condition("b"), after=(Condition("c"),))
    assert asks.as_asked() == asks
    assert replace(asks, item_key="items").as_asked() == Job(item_key="items")


def test_other_fields_mean_another_version() -> None:
    fields = {kind.__name__: " ".join(vars(kind())) for kind in (Job, Check, Report, Used)}
    fields |= {"outcome": " ".join(sorted(OUTCOME_FIELDS)), "account": " ".join(sorted(ACCOUNT_FIELDS))}
    # An image of the same version that knows other fields would end every attempt: raise VERSION with any change here.
    assert (VERSION, fields) == (
        3,
        {
            "Job": "function tools before again is_last after item_key item_index run_id node iteration attempt "
            "idempotency_key scope max_output_bytes max_line_bytes max_result_bytes max_depth max_keys max_values keep",
            "Check": "sources expressions max_output_bytes max_line_bytes max_result_bytes",
            "Report": "reason message used output_bytes exit_code signal",
            "Used": "cpu_s peak_memory_bytes pids_peak oom_kills",
            "outcome": "after again entered ops reads reads_cut value",
            "account": "condition key message traceback type",
        },
    )
