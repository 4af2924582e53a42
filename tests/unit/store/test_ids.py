from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandgraph.store.ids import IdMaker


def test_an_id_is_a_prefix_and_a_ulid() -> None:
    before = time.time_ns() // 1_000_000
    made = IdMaker().make("run")
    after = time.time_ns() // 1_000_000
    assert re.fullmatch(r"run_[0-7][0-9A-HJKMNP-TV-Z]{25}", made)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    millisecond = sum(alphabet.index(digit) << 5 * place for place, digit in enumerate(reversed(made[4:14])))
    assert before <= millisecond <= after


def test_ids_sort_by_the_order_they_were_made_in() -> None:
    maker = IdMaker()
    made = [maker.make("run") for _ in range(10_000)]
    assert made == sorted(set(made))


def test_threads_share_a_maker() -> None:
    maker = IdMaker()
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [maker.make("run") for _ in range(500)], range(8)))
    assert len({made for batch in batches for made in batch}) == 4_000
    assert all(batch == sorted(batch) for batch in batches)


def test_a_clock_that_is_set_back_changes_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    maker = IdMaker()
    first = maker.make("run")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert maker.make("run") > first


def test_neighbours_in_one_millisecond_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    maker = IdMaker()
    one, two = maker.make("run"), maker.make("run")
    assert one[:14] == two[:14]
    assert one[:-4] != two[:-4]
