"""The platform comes before the work that it starts."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from sandgraph.cli import priority
from sandgraph.cli.priority import precedence


class Machine:
    """What the system would be asked for."""

    def __init__(self, *, niceness: int = 0, may: bool = True) -> None:
        self.niceness = niceness
        self.may = may

    def get(self, _which: int, _who: int) -> int:
        return self.niceness

    def set(self, which: int, who: int, niceness: int) -> None:
        assert (which, who) == (os.PRIO_PROCESS, 0)
        if not self.may:
            raise PermissionError(13, "Permission denied")
        self.niceness = niceness


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own, groups = tmp_path / "autogroup", tmp_path / "enabled"
    own.write_text("/autogroup-12 nice 0\n")
    groups.write_text("1\n")
    monkeypatch.setattr(priority, "_OWN_SESSION", own)
    monkeypatch.setattr(priority, "_GROUPS", groups)
    return own


def on(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Machine:
    monkeypatch.setattr(os, "getpriority", machine.get)
    monkeypatch.setattr(os, "setpriority", machine.set)
    return machine


def test_it_comes_first_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch, session: Path) -> None:
    machine = on(monkeypatch, Machine(niceness=3))
    with precedence(-10):
        assert machine.niceness == -10
        assert session.read_text() == "-10"
    assert machine.niceness == 3
    assert session.read_text() == "0"


def test_a_session_that_somebody_ranked_keeps_its_rank(monkeypatch: pytest.MonkeyPatch, session: Path) -> None:
    on(monkeypatch, Machine())
    session.write_text("/autogroup-12 nice 5\n")
    with precedence(-10):
        assert session.read_text() == "-10"
    assert session.read_text() == "5"


def test_one_that_was_killed_in_the_session_is_tidied_up_after(monkeypatch: pytest.MonkeyPatch, session: Path) -> None:
    on(monkeypatch, Machine())
    session.write_text("/autogroup-12 nice -10\n")
    with precedence(-10):
        pass
    assert session.read_text() == "0"


def test_without_groups_by_session_none_is_touched(
    monkeypatch: pytest.MonkeyPatch, session: Path, tmp_path: Path
) -> None:
    on(monkeypatch, Machine())
    (tmp_path / "enabled").write_text("0\n")
    with precedence(-10):
        assert session.read_text() == "/autogroup-12 nice 0\n"
    monkeypatch.setattr(priority, "_GROUPS", tmp_path / "not-there")
    with precedence(-10):
        assert session.read_text() == "/autogroup-12 nice 0\n"


def test_where_the_system_does_not_let_it_it_is_said(
    monkeypatch: pytest.MonkeyPatch, session: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = on(monkeypatch, Machine(may=False))
    with caplog.at_level(logging.INFO), precedence(-10):
        assert machine.niceness == 0
        assert session.read_text() == "/autogroup-12 nice 0\n"
    assert "Permission denied" in caplog.text


@pytest.mark.parametrize(("asked", "before"), [(0, 7), (-10, -10)])
def test_nothing_is_done_where_nothing_is_to_be_gained(
    monkeypatch: pytest.MonkeyPatch, session: Path, asked: int, before: int
) -> None:
    machine = on(monkeypatch, Machine(niceness=before, may=False))
    with precedence(asked):
        assert machine.niceness == before
        assert session.read_text() == "/autogroup-12 nice 0\n"


def test_the_sessions_rank_is_left_where_it_cannot_be_set(monkeypatch: pytest.MonkeyPatch, session: Path) -> None:
    machine = on(monkeypatch, Machine())

    def refuse(_path: Path, _text: str) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Path, "write_text", refuse)
    with precedence(-10):
        assert machine.niceness == -10
    assert machine.niceness == 0
    assert session.read_text() == "/autogroup-12 nice 0\n"
