"""The heartbeat, and what becomes of a process whose place another one took."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from killed import FILE

from sandgraph.bootstrap import open_platform
from sandgraph.errors import Conflict, Unavailable
from sandgraph.execution.heart import Heart
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import Settings
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


async def test_a_heart_beats_on_when_the_database_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[None] = []
    store = await Store.open(tmp_path)

    async def unreliable() -> None:
        beats.append(None)
        if len(beats) == 1:
            raise Unavailable("The database does not answer.")

    monkeypatch.setattr(store, "heartbeat", unreliable)
    heart = Heart(store, 0.03)
    heart.start()
    await asyncio.sleep(0.2)
    await heart.stop()
    await store.close()
    assert len(beats) > 2
    assert not heart.lost.is_set()


async def test_a_platform_that_was_replaced_takes_no_more_runs(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, lease_s=1)  # type: ignore[call-arg]
    async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
        assert str(platform.store.process_id).count("-") >= 2
        # As another process does that takes over.
        with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
            database.execute("DELETE FROM process")
        async with asyncio.timeout(5):
            await platform.heart.lost.wait()
        with pytest.raises(Conflict) as lost:
            await platform.store.heartbeat()
        assert lost.value.code == "lease_lost"
        await asyncio.sleep(0.05)
        graphs = await platform.store.list_graphs()
        with pytest.raises(Unavailable):
            await platform.runs.submit(graphs.items[0].graph_id, {})
