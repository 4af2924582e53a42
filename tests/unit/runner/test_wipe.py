"""Everything that an attempt may leave in a directory goes, and nothing outside of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandgraph_runner.wipe import wipe


def test_whatever_kind_of_file_it_is(tmp_path: Path) -> None:
    place, outside = tmp_path / "place", tmp_path / "outside"
    outside.mkdir()
    kept = outside / "kept"
    kept.write_text("kept")
    place.mkdir()
    (place / "file").write_text("x")
    (place / "file").chmod(0)
    (place / "empty").mkdir()
    (place / "to a file").symlink_to(kept)
    (place / "to a directory").symlink_to(outside)
    (place / "to nowhere").symlink_to("nowhere")
    (place / "hard").hardlink_to(kept)
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "socket"))
    Path(os.fsdecode(os.fsencode(place) + b"/\xff\n")).write_text("x")
    wipe((str(place),))
    assert list(place.iterdir()) == []
    assert kept.read_text() == "kept"


def test_directories_that_nobody_may_enter(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    for directory in (inner, inner.parent, inner.parent.parent):
        directory.chmod(0)
    wipe((str(tmp_path),))
    assert list(tmp_path.iterdir()) == []


def test_deeper_than_any_path_or_stack(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(3000):
            os.mkdir("d" * 100, dir_fd=here)
            inner = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    wipe((str(tmp_path),))
    assert list(tmp_path.iterdir()) == []


def test_several_places_and_names_that_look_like_ours(tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        (place / "0.0" / "inner" / "1").mkdir(parents=True)
        (place / "abc.0" / "inner").mkdir(parents=True)
    wipe(tuple(map(str, places)))
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wipe((str(tmp_path / "gone"),))
