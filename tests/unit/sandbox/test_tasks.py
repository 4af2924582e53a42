"""Doing something again where it failed in a way that may pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from sandgraph.sandbox.tasks import persistently

pytestmark = pytest.mark.anyio


def failing(*errors: Exception | None) -> tuple[Callable[[], Awaitable[str]], list[float]]:
    """Return an action that fails in these ways, one after another, and when it was called."""
    left, called = list(errors), list[float]()

    async def action() -> str:
        called.append(time.monotonic())
        error = left.pop(0)
        if error is not None:
            raise error
        return "done"

    return action, called


async def test_what_succeeds_is_done_once() -> None:
    action, called = failing(None)
    assert await persistently(action, lambda _: True, within_s=9) == "done"
    assert len(called) == 1


async def test_what_may_pass_is_tried_again() -> None:
    action, called = failing(OSError(), OSError(), None)
    assert await persistently(action, lambda _: True, within_s=9) == "done"
    assert len(called) == 3
    assert called[-1] - called[0] < 0.2 + 0.4 + 0.3


async def test_what_does_not_pass_is_raised_at_once() -> None:
    action, called = failing(OSError(), ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await persistently(action, lambda error: isinstance(error, OSError), within_s=9)
    assert len(called) == 2


async def test_tries_and_seconds_end() -> None:
    action, called = failing(*[OSError("full")] * 9)
    with pytest.raises(OSError, match="full"):
        await persistently(action, lambda _: True, within_s=9, attempts=2)
    assert len(called) == 2
    with pytest.raises(OSError, match="full"):
        await persistently(action, lambda _: True, within_s=0)
    assert len(called) == 3


async def test_a_cancellation_is_never_tried_again() -> None:
    async def action() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await persistently(action, lambda _: True, within_s=9)
