"""When a failed attempt is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.model.profile import examples

from sandgraph.model.retry import LOST, MAX_LOST, RETRYABLE, Retry
from sandgraph.model.run import AttemptStatus

ERROR = AttemptStatus.ERROR


def test_waits_grow_by_the_factor_up_to_the_longest() -> None:
    retry = Retry(max_attempts=6, initial_s=0.5, factor=3, max_s=10)
    assert [retry.delay_after(attempt, ERROR) for attempt in range(1, 7)] == [0.5, 1.5, 4.5, 10, 10, None]


def test_without_being_asked_nothing_is_retried() -> None:
    assert Retry().delay_after(1, ERROR) is None


@pytest.mark.parametrize("status", AttemptStatus)
def test_only_the_failures_that_were_named_are_retried(status: AttemptStatus) -> None:
    named = Retry(max_attempts=2, on=frozenset({AttemptStatus.OOM}))
    assert (named.delay_after(1, status) is not None) is (status is AttemptStatus.OOM)
    usual = {AttemptStatus.ERROR, AttemptStatus.TIMEOUT, AttemptStatus.OOM, AttemptStatus.LOST}
    assert (Retry(max_attempts=2).delay_after(1, status) is not None) is (status in usual)


def test_what_ended_well_or_was_ended_on_purpose_cannot_be_retried() -> None:
    assert set(AttemptStatus) - RETRYABLE == {AttemptStatus.RUNNING, AttemptStatus.SUCCEEDED, AttemptStatus.CANCELLED}


def test_what_was_lost_is_tried_again_up_to_a_bound() -> None:
    waits = [LOST.delay_after(attempts, AttemptStatus.LOST) for attempts in range(1, MAX_LOST + 1)]
    assert waits == [0.5, 1, 2, 4, None]
    assert LOST.jitter


@examples(100)
@given(
    st.builds(Retry, st.integers(1, 100), st.floats(0, 1e300), st.floats(1, 1e300), st.floats(0, 1e6)),
    st.integers(1, 99),
)
def test_no_wait_is_longer_than_the_longest_nor_shorter_than_the_one_before(retry: Retry, attempt: int) -> None:
    waits = [wait for n in (attempt, attempt + 1) if (wait := retry.delay_after(n, ERROR)) is not None]
    assert waits == sorted(waits)
    assert all(0 <= wait <= retry.max_s for wait in waits)
