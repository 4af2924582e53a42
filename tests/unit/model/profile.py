"""How far property tests look: for seconds and always the same, or with SANDGRAPH_LONG_TESTS=1 far and at random."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

IS_LONG = bool(os.environ.get("SANDGRAPH_LONG_TESTS"))


def examples(number: int) -> settings:
    """Settings for a test that looks at so many examples, or at a hundred times as many."""
    return settings(
        max_examples=number * (100 if IS_LONG else 1),
        derandomize=not IS_LONG,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
