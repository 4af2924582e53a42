"""Runs, started and watched on the thread where the platform lives; what is returned has the form of the HTTP API's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from sandgraph.api.node_runs import MOST_SHOWN, status_of
from sandgraph.api.views import Document, commit_view, outcome_view, state_view
from sandgraph.embedded.host import Host
from sandgraph.errors import Conflict
from sandgraph.model.state import Json

#: Seconds of one wait for a run; then follows the next.
_WAIT_S = 600
_BETWEEN_WAITS_S = 0.1


async def start(host: Host, graph_id: str, state: Mapping[str, Json]) -> str:
    """Start a run and return its id. Where this is cancelled, no run goes on."""
    submitting = asyncio.ensure_future(host.runs.submit(graph_id, state))
    try:
        record, _ = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        record, _ = await submitting
        await _stop(host, record.run_id)
        raise
    return record.run_id


async def run(host: Host, graph_id: str, state: Mapping[str, Json], timeout_s: float | None) -> Document:
    """Start a run and return what it came to. Where this is cancelled, or takes too long, so is the run.

    Raises:
        TimeoutError: It took longer than ``timeout_s`` seconds.
    """
    run_id = await start(host, graph_id, state)
    try:
        return await wait(host, run_id, timeout_s)
    except TimeoutError:
        await _stop(host, run_id)
        raise TimeoutError(f"The run {run_id} took longer than {timeout_s:g} s and was cancelled.") from None
    except asyncio.CancelledError:
        await _stop(host, run_id)
        raise


async def wait(host: Host, run_id: str, timeout_s: float | None) -> Document:
    """Wait for a run's end and return what it came to.

    Raises:
        NotFound: There is no such run.
        TimeoutError: It goes on after ``timeout_s`` seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            record = await host.runs.wait(run_id, _WAIT_S)
            while not record.is_final:
                await asyncio.sleep(_BETWEEN_WAITS_S)
                record = await host.runs.wait(run_id, _WAIT_S)
    except TimeoutError:
        raise TimeoutError(f"The run {run_id} goes on after {timeout_s:g} s.") from None
    # A run that did not complete may have no final state of its own; what it committed counts.
    data = record.final_state if record.final_state is not None else (await host.store.state(run_id, None))[1].data
    return outcome_view(record, dict(data), await host.store.node_runs(run_id))


async def status(host: Host, run_id: str, cursor: str | None = None, limit: int = MOST_SHOWN) -> Document:
    """Return where a run stands.

    Raises:
        NotFound: There is no such run.
        InvalidInput: At ``cursor``.
    """
    return await _standing(host, run_id, cursor, limit)


async def cancel(host: Host, run_id: str) -> Document:
    """Cancel a run and return where it stands.

    Raises:
        NotFound: There is no such run.
        Conflict: It ended otherwise.
    """
    return await _standing(host, (await host.runs.cancel(run_id)).run_id)


async def pause(host: Host, run_id: str) -> Document:
    """Pause a run and return where it stands.

    Raises:
        NotFound: There is no such run.
        Conflict: It has ended.
    """
    return await _standing(host, (await host.runs.pause(run_id)).run_id)


async def unpause(host: Host, run_id: str) -> Document:
    """Let a run go on and return where it stands; raises as `pause`."""
    return await _standing(host, (await host.runs.unpause(run_id)).run_id)


async def state(host: Host, run_id: str, at: int | None) -> Document:
    """Return a run's state by now, or that of a checkpoint.

    Raises:
        NotFound: There is no such run, or checkpoint.
    """
    record, found = await host.store.state(run_id, at)
    return state_view(record, found)


async def history(
    host: Host, run_id: str, *, scope: str | None, node: str | None, cursor: str | None, limit: int
) -> Document:
    """Return a page of a run's commits.

    Raises:
        NotFound: There is no such run.
        InvalidInput: At ``cursor``.
    """
    page = await host.store.history(run_id, scope=scope, node=node, cursor=cursor, limit=limit)
    return {"commits": [commit_view(each) for each in page.items], "next_cursor": page.next_cursor}


async def _standing(host: Host, run_id: str, cursor: str | None = None, limit: int = MOST_SHOWN) -> Document:
    return await status_of(host.runs, host.store, run_id, cursor=cursor, limit=limit)


async def _stop(host: Host, run_id: str) -> None:
    with contextlib.suppress(Conflict):
        await host.runs.cancel(run_id)
