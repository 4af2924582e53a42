"""Many clients at once: nobody is told anything but an answer or to come back, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from load import Load
from served import serve

pytestmark = pytest.mark.timeout(300)

#: Fewer and shorter than in the benchmark, which is where the time is looked at.
CLIENTS, SECONDS, DRAIN_S = 40, 8.0, 200.0


def test_clients_that_submit_poll_and_tail_get_answers_and_every_run_ends(
    tmp_path: Path, deployment: Callable[[], str]
) -> None:
    with serve(tmp_path, deployment(), max_active_runs=4, max_queued_runs=4) as served:
        report = asyncio.run(Load(served.url).go(CLIENTS, SECONDS, DRAIN_S))
    assert report.errors == []
    # As many as were let in; the others came back for it, as they were told.
    assert len(report.accepted) > 10
    assert report.statuses[429] > 0
    assert report.tailed > 0
