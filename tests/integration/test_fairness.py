"""1,500 runs of one tenant, and a single one of another, in containers."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flood import measure

from sandgraph.settings import load_settings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Seconds that starting a container takes on a machine whose cores are all busy: what the flood itself costs, not its
#: place in the line.
_SLACK_S = 0.5


def test_a_flood_delays_another_tenants_run_by_less_than_its_own_time(
    tmp_path: Path, deployment: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(deployment=deployment())
    found = asyncio.run(measure(tmp_path, settings, flood=1_500, singles=5))
    alone, beside = statistics.median(found.alone), statistics.median(found.beside)
    figures = f"alone {alone:.2f} s, beside {found.waiting} runs that wait {beside:.2f} s: {beside / alone:.2f} times"
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    assert found.waiting > 1_000, "the flood was over before"
    assert beside <= 2 * alone + _SLACK_S
