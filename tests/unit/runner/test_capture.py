"""What is printed is bounded in lines too."""

from __future__ import annotations

from sandgraph_runner.capture import Capture


def test_lines_are_as_bounded_as_bytes() -> None:
    capture = Capture(max_bytes=1600, max_line_bytes=100)
    lines = capture.feed("stdout", b"\n" * 60, 0.0)
    assert not capture.is_over
    lines += capture.feed("stderr", b"\n" * 60, 0.0)
    assert capture.is_over
    lines += capture.feed("stdout", b"late\n", 0.0)
    lines += capture.finish(0.0)
    assert len(lines) == 100
