"""Signatures that others can check, and when a delivery is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sandgraph.model import webhooks
from sandgraph.model.run import RunStatus

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of the Standard Webhooks specification's libraries.
    signed = webhooks.signature(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_active_secret_signs() -> None:
    old, new = webhooks.new_secret(), webhooks.new_secret()
    both = webhooks.signature([new, old], "msg_1", 1, b"{}").split()
    assert both == [webhooks.signature([each], "msg_1", 1, b"{}") for each in (new, old)]
    assert len(set(both)) == 2


def test_secrets_are_told_from_other_text() -> None:
    assert webhooks.is_secret(webhooks.new_secret())
    for text in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_no base64!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_é"):
        assert not webhooks.is_secret(text)


def test_tries_spread_over_about_a_day() -> None:
    at, tries = NOW, 1
    while (then := webhooks.next_try(tries, at, 0.5)) is not None:
        assert then > at
        at, tries = then, tries + 1
    assert tries == 9
    assert timedelta(hours=22) < at - NOW < timedelta(hours=26)
    assert at - NOW < webhooks.GIVE_UP_AFTER


def test_the_delay_varies_and_a_server_may_lengthen_it_to_a_bound() -> None:
    least, most = webhooks.next_try(1, NOW, 0.0), webhooks.next_try(1, NOW, 1.0)
    assert (least, most) == (NOW + timedelta(seconds=4), NOW + timedelta(seconds=6))
    assert webhooks.next_try(1, NOW, 0.5, 60) == NOW + timedelta(seconds=60)
    assert webhooks.next_try(1, NOW, 0.5, 10**9) == NOW + timedelta(hours=1)
    assert webhooks.next_try(4, NOW, 0.5, 60) == NOW + timedelta(seconds=1_800)


def test_an_endpoint_that_fails_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    closed = [webhooks.closed_until(failures, NOW) for failures in (4, 5, 6, 20, 10_000)]
    assert closed == [None, *(NOW + timedelta(seconds=seconds) for seconds in (30, 60, 1_800, 1_800))]


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_final])
def test_there_is_an_event_for_each_end_of_a_run(status: RunStatus) -> None:
    assert webhooks.event_of(status) == f"run.{status.value}"
