"""Lines: what is printed arrives as it was, at once, in order, and bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runner.driver import Ended, Supervisor, source

from sandgraph_runner.capture import Capture, Line
from sandgraph_runner.protocol import Job, Kind, Reason

Run = Callable[..., Ended]


def captured(chunks: list[bytes], *, max_bytes: int = 1 << 20, max_line_bytes: int = 1 << 16) -> list[Line]:
    capture = Capture(max_bytes, max_line_bytes)
    lines = [line for chunk in chunks for line in capture.feed("stdout", chunk, 0.0)]
    return lines + capture.finish(0.0)


def texts(lines: list[Line]) -> list[tuple[object, object]]:
    return [(line[2], line[3]) for line in lines]


def test_each_stream_has_its_lines_and_their_time(run: Run) -> None:
    body = "import sys, time\nprint('a\\n\\nb')\nprint('c', file=sys.stderr)\ntime.sleep(0.2)\nprint('d', end='')"
    ended = run(body)
    assert ended.text() == ["a", "", "b", "d"]
    assert ended.text("stderr") == ["c"]
    times = [line[1] for line in ended.lines]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 0.2
    assert not any(line[3] for line in ended.lines)


def test_a_line_arrives_while_the_function_still_runs(supervisor: Supervisor) -> None:
    supervisor.hello()
    supervisor.send(Job(function=source("import time\nprint('now')\ntime.sleep(60)")))
    assert supervisor.first_line() == "now"


def test_what_is_no_text_is_shown_all_the_same(run: Run) -> None:
    body = r"import os; os.write(1, b'\xff\xc3\x28 \0 \x1b[31m \xe2\x82'); print('\ud800<b>')"
    assert run(body).text() == ["\ufffd\ufffd( \ufffd \x1b[31m \ufffd\\ud800<b>"]


def test_over_the_limit_it_is_killed_and_what_was_printed_is_there(run: Run) -> None:
    ended = run("while True: print('x' * 99)", max_output_bytes=1050)
    assert (ended.kind, ended.report.reason) == (Kind.FAILURE, Reason.OUTPUT_LIMIT)
    assert [(len(line[2]), line[3]) for line in ended.lines] == [(99, False)] * 10 + [(50, True)]
    assert ended.report.output_bytes == 1050
    assert (ended.report.exit_code, ended.report.signal) == (None, None)


def test_the_limit_holds_for_what_is_printed_last(run: Run) -> None:
    ended = run("import sys\nsys.stdout.write('x' * 101)\nreturn {'x': 1}", max_output_bytes=100)
    assert ended.report.reason is Reason.OUTPUT_LIMIT


def test_exactly_the_limit_is_within_it(run: Run) -> None:
    assert run("print('x' * 99)\nreturn {'x': 1}", max_output_bytes=100).changes == {"x": 1}


def test_an_endless_line_is_cut_once_and_goes_on_counting(run: Run) -> None:
    ended = run("import os\nwhile True: os.write(2, b'x' * 65536)", max_output_bytes=10_000_000, max_line_bytes=1000)
    assert ended.report.reason is Reason.OUTPUT_LIMIT
    assert texts(ended.lines) == [("x" * 1000, True)]
    assert ended.report.output_bytes == 10_000_000


def test_very_many_tiny_writes(run: Run) -> None:
    ended = run("import os\nfor i in range(100_000): os.write(1, b'.')", max_line_bytes=1 << 20)
    assert ended.text() == ["." * 100_000]


def test_processes_that_the_function_starts_print_too(run: Run) -> None:
    ended = run("import subprocess; subprocess.run(['/bin/echo', 'from echo'], check=True)")
    assert ended.text() == ["from echo"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [("", False)]),
        (b"12345\n123456\n1", [("12345", False), ("12345", True), ("1", False)]),
        ("ääää\n".encode(), [("ää", True)]),
        (b"123456789", [("12345", True)]),
    ],
)
def test_lines_over_their_limit_are_cut(data: bytes, expected: list[tuple[str, bool]]) -> None:
    assert texts(captured([data], max_line_bytes=5)) == expected


@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), st.data())
def test_how_the_bytes_come_in_makes_no_difference(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for limits in ({"max_line_bytes": 7}, {"max_bytes": 20}, {}):
        assert captured(chunks, **limits) == captured([data], **limits)


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=9)))
def test_text_comes_out_as_it_went_in(lines: list[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    assert texts(captured([data])) == [(line, False) for line in lines]
