"""Levels as lines tell them, and which records a reader wants."""

from __future__ import annotations

import time

import pytest

from sandgraph.model.log_filter import Level, LogFilter, level_of


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("WARNING:root:low on disk", "warning"),
        ("ERROR: no", "error"),
        ("[CRITICAL] out", "critical"),
        ("<DEBUG> in", "debug"),
        ("FATAL out", "critical"),
        ("2026-11-23 12:00:00,123 - my.name - INFO - begun", "info"),
        ("2026-11-23T12:00:00Z ERROR broken", "error"),
        ("12:00:00.123 | WARN | slow", "warning"),
        ('{"level": "error", "event": "broken"}', "error"),
        ('{"severity": "NOTICE"}', "info"),
        ('{"levelname": "WARNING", "level": 30}', "warning"),
    ],
)
def test_a_line_says_its_level_itself_on_either_stream(text: str, level: str) -> None:
    assert level_of("stdout", text) == level_of("stderr", text) == level


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Error in the middle of a sentence",
        "ERRORS: 3",
        "the ERROR",
        "{",
        '{"level": 3}',
        "[1]",
        '{"level"',
        "{" * 4_000,
    ],
)
def test_a_line_that_says_nothing_has_the_level_of_its_stream(text: str) -> None:
    assert level_of("stdout", text) is Level.INFO
    assert level_of("stderr", text) is Level.ERROR


def test_no_line_takes_long_to_be_read() -> None:
    began = time.perf_counter()
    for text in ("1" * 20_000, "1 " * 10_000, "1 - a" * 5_000, '{"a":' * 5_000, " " * 20_000, "[" * 20_000):
        for _ in range(100):
            level_of("stdout", text)
    assert time.perf_counter() - began < 1


def test_a_filter_takes_what_fits_in_every_respect() -> None:
    wanted = LogFilter(node="work", iteration=2, stream="stderr", level=Level.WARNING, grep="disk")
    assert wanted.is_about("sub#1", "work", 2, 1)
    assert not wanted.is_about("", "work", 1, 1)
    assert not wanted.is_about("", "rest", 2, 1)
    assert not LogFilter(scope="").is_about("sub#1", "work", 2, 1)
    assert not LogFilter(attempt=2).is_about("", "work", 2, 1)
    assert wanted.takes_text("stderr", "the disk is full")
    assert not wanted.takes_text("stdout", "the disk is full")
    assert not wanted.takes_text("stderr", "the Disk is full")
    assert not wanted.takes_text("stderr", "INFO: the disk is fine")


def test_case_is_that_of_ascii() -> None:
    wanted = LogFilter(grep="DISK ä", ignore_case=True)
    assert wanted.takes_text("stdout", "the Disk ä")
    assert not wanted.takes_text("stdout", "the Disk Ä")
    assert LogFilter(grep="a.c%_").takes_text("stdout", "xa.c%_x")
    assert not LogFilter(grep="a.c").takes_text("stdout", "abc")
