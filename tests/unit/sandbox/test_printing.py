"""What jobs on threads print, told apart and bounded."""

from __future__ import annotations

import sys
import threading

import pytest

from sandgraph.model.run import LogLine
from sandgraph.sandbox import printing
from sandgraph.sandbox.printing import OutputLimit, Printer, printing_to


class Kept:
    def __init__(self, max_bytes: int = 10_000, max_line_bytes: int = 100) -> None:
        self.lines: list[LogLine] = []
        self.limits_hit = 0
        self.printer = Printer(
            self.lines.append, lambda: 0.5, on_limit=self.hit, max_bytes=max_bytes, max_line_bytes=max_line_bytes
        )

    def hit(self) -> None:
        self.limits_hit += 1

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]


def test_lines_are_whole_however_they_are_written() -> None:
    kept = Kept()
    for text in ("a", "b\nc", "\n", "\nd"):
        kept.printer.write("stdout", text)
    kept.printer.write("stderr", "e")
    assert kept.texts == ["ab", "c", ""]
    kept.printer.finish()
    assert kept.texts == ["ab", "c", "", "d", "e"]
    assert kept.lines[-1] == LogLine("stderr", 0.5, "e")
    assert kept.printer.written == 8


def test_a_long_line_is_cut_within_no_character() -> None:
    kept = Kept(max_line_bytes=5)
    kept.printer.write("stdout", "éééé\nok\n")
    assert kept.lines == [LogLine("stdout", 0.5, "éé", is_cut=True), LogLine("stdout", 0.5, "ok")]


@pytest.mark.parametrize("text", ["x" * 1000, "x\n" * 1000, "\n" * 1000])
def test_at_the_limit_printing_raises_and_goes_on_raising(text: str) -> None:
    kept = Kept(max_bytes=160)
    with pytest.raises(OutputLimit):
        kept.printer.write("stdout", text)
    assert kept.limits_hit == 1
    assert kept.printer.is_over
    assert kept.printer.written <= 160
    assert sum(len(line) + 1 for line in kept.texts) <= 161
    assert len(kept.lines) <= 10
    with pytest.raises(OutputLimit):
        kept.printer.write("stderr", "more")
    assert kept.limits_hit == 1


def test_only_this_context_prints_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    kept, other = Kept(), Kept()

    def work() -> None:
        with printing_to(other.printer):
            print("theirs")  # noqa: T201 - what is tested

    before = sys.stdout
    with printing_to(kept.printer):
        print("ours")  # noqa: T201 - what is tested
        print("an error", file=sys.stderr)  # noqa: T201 - what is tested
        threads = [threading.Thread(target=work), threading.Thread(target=lambda: print("nobody's"))]  # noqa: T201
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sys.stdout.isatty() in {True, False}
    # Jobs that others gave up at their deadline may still run, and print, in this process.
    assert sys.stdout is before or printing._users
    assert kept.texts == ["ours", "an error"]
    assert other.texts == ["theirs"]
    assert capsys.readouterr().out == "nobody's\n"
