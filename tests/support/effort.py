"""How far tests look that could look for ever: for some seconds and always the same.

With SANDGRAPH_LONG_TESTS=1 they look far and at random; with SANDGRAPH_FAST_TESTS=1, for whoever changes the code and
waits for them, at a part.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

IS_LONG = bool(os.environ.get("SANDGRAPH_LONG_TESTS"))
IS_FAST = bool(os.environ.get("SANDGRAPH_FAST_TESTS")) and not IS_LONG


def part_of(number: int, least: int = 1) -> int:
    """Return how many of so many things a test looks at: all of them, or in a hurry a quarter."""
    return max(number // 4, min(number, least)) if IS_FAST else number


def examples(number: int) -> settings:
    """Settings for a test that looks at so many examples, or at a hundred times as many."""
    return settings(
        max_examples=number * 100 if IS_LONG else part_of(number, 5),
        derandomize=not IS_LONG,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
