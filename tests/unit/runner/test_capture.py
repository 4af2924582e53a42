"""What is printed is bounded in lines too."""

from __future__ import annotations

from sandgraph_runner.capture import Capture


def test_lines_are_as_bounded_as_bytes() -> None:
    capture = Capture(max_bytes=1600, max_line_bytes=100)
    fed = [("stdout", 60), ("stderr", 60), ("stdout", 1)]
    seen = []
    for stream, count in fed:
        lines = capture.feed(stream, b"\n" * count, 0.0)
        seen.append((len(lines), capture.is_over))
    assert seen == [(60, False), (40, True), (0, True)]
    assert capture.finish(0.0) == []
