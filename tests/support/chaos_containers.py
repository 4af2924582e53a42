"""The crash matrix with containers: its plan, and the certainty that none is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chaos_campaign import Chaos, Plan
from chaos_programs import case_of
from served import containers_of

#: Node runs of a program at most: each is a container.
_MOST_RUNS = 7


def is_small(seed: int) -> bool:
    """Tell whether a program has few node runs."""
    expected = case_of(seed).expected
    return expected.ran.total() + expected.inside <= _MOST_RUNS


DOCKER = Plan(
    docker=True,
    shards=1,
    programs=20,
    batch=10,
    lives=16,
    life={
        "fails": 0.03,
        # Other limits than a waiting sandbox has, so that it is given them.
        "node": {"limits": {"memory_mb": 96}},
        "settings": {"pool_min": 2, "worker_slots": 4},
    },
    choose=is_small,
)


@contextmanager
def containers_gone(deployment: str | None) -> Iterator[None]:
    """See to it that a deployment has no container after the block.

    Raises:
        Chaos: The block ended well, and some were left.
    """
    try:
        yield
        if deployment and (left := containers_of(deployment)):
            raise Chaos(f"containers are left: {left}")
    finally:
        if deployment and (left := containers_of(deployment)):
            subprocess.run(["docker", "rm", "--force", *left], check=False, capture_output=True, timeout=60)
