"""A flood of one tenant's runs at a platform, and how long another tenant's single run takes meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandgraph.bootstrap import Platform, open_platform
from sandgraph.execution.tenancy import TenantCatalog, TenantRuns
from sandgraph.model.graph import Edge, Graph, Node, NodeType
from sandgraph.model.run import RunStatus
from sandgraph.settings import Settings

CODE = "import time\ndef work(state):\n    time.sleep(0.3)\n"

GRAPH = Graph(
    "works",
    (
        Node("start", NodeType.START),
        Node("first", function="work"),
        Node("second", function="work"),
        Node("end", NodeType.END),
    ),
    (Edge("start", "first"), Edge("first", "second"), Edge("second", "end")),
)

_LONGEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds that a single run took, from its submission to its end.

    Attributes:
        alone: With nothing else to do.
        beside: While another tenant's flood was there.
        waiting: Runs of the flood that waited still at the end.
    """

    alone: Sequence[float]
    beside: Sequence[float]
    waiting: int


async def measure(data_dir: Path, settings: Settings, *, flood: int, singles: int) -> Delays:
    """Run single runs one after another, alone and beside a flood."""
    settings = settings.model_copy(update={"data_dir": data_dir, "max_queued_runs": flood})
    async with open_platform(settings) as platform:
        graphs = {tenant: await _graph(platform, tenant) for tenant in ("flood", "single")}

        async def single() -> float:
            runs = TenantRuns(platform.runs, platform.store, "single")
            began = time.perf_counter()
            record, _ = await runs.submit(graphs["single"], {})
            ended = await runs.wait(record.run_id, _LONGEST_S)
            seconds = time.perf_counter() - began
            if ended.status is not RunStatus.COMPLETED:
                raise RuntimeError(f"the single run ended as {ended.status}: {ended.failure}")
            return seconds

        await single()
        alone = [await _rested(single) for _ in range(singles)]
        runs = TenantRuns(platform.runs, platform.store, "flood")
        await asyncio.gather(*(runs.submit(graphs["flood"], {}) for _ in range(flood)))
        beside = [await _rested(single) for _ in range(singles)]
        return Delays(alone, beside, platform.runs.facts()["queued_runs"])


async def _rested(single: object) -> float:
    await asyncio.sleep(0.5)
    seconds: float = await single()  # type: ignore[operator]
    return seconds


async def _graph(platform: Platform, tenant: str) -> str:
    catalog = TenantCatalog(platform.catalog, tenant)
    await catalog.register_function("work", CODE)
    version, _ = await catalog.create_graph(GRAPH)
    return version.graph_id
