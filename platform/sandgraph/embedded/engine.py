"""Runs graphs from a Python program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sandgraph.api.views import record_view
from sandgraph.embedded import running
from sandgraph.embedded.background import Background
from sandgraph.embedded.graph import Function, WorkflowGraph
from sandgraph.embedded.host import Host, open_host, say_that_there_are_no_sandboxes, settings_of
from sandgraph.embedded.registration import Registrar
from sandgraph.embedded.state import checked_state
from sandgraph.errors import InvalidInput, Unavailable
from sandgraph.settings import Settings
from sandgraph.store.records import JournalRecord
from sandgraph_runner.protocol import Source
from sandgraph_runner.state import WorkflowState

R = TypeVar("R")

#: A state to start with.
InitialState = Mapping[str, object] | WorkflowState


class WorkflowEngine:
    """The platform inside this program: registers graphs and runs them.

    Functions handed over as Python objects run in containers, as everything does: their source is taken when their
    graph is registered, with what it refers to. With ``sandbox="inprocess"`` they are called in this very process,
    without isolation: for tests, and for code that is trusted.

    It starts at its first use, on a thread of its own, so that its methods can be awaited from any event loop, and from
    several. Close it, or use it as a context manager; at the end of the program it closes itself. No container is left.

    Args:
        sandbox: ``docker`` or ``inprocess``.
        data_dir: Folder of the database; without it a temporary one, which goes with the engine.
        settings: Of the platform.
        options: Instead of ``settings`` single ones of them, over those of the environment.

    Raises:
        InvalidInput: There is no such kind of sandbox.
        ConfigurationError: The settings cannot work.
    """

    def __init__(
        self,
        *,
        sandbox: str = "docker",
        data_dir: str | PathLike[str] | None = None,
        settings: Settings | None = None,
        **options: object,
    ) -> None:
        if sandbox not in {"docker", "inprocess"}:
            raise InvalidInput.at("sandbox", "unknown_value", f"It is 'docker' or 'inprocess', not {sandbox!r}.")
        folder = None if data_dir is None else Path(data_dir)
        if folder is None and settings is not None and "data_dir" in settings.model_fields_set:
            folder = settings.data_dir
        self._settings = settings_of(settings, options)
        live: dict[Source, Function] | None = None
        if sandbox == "inprocess":
            say_that_there_are_no_sandboxes()
            live = {}
        self._registrar = Registrar(self._settings, live)
        self._registering = threading.Lock()
        self._stored: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._background = Background[Host](partial(open_host, self._settings, folder, live), "sandgraph")
        # What nobody refers to any more is stopped. At the end of the program, its background sees to itself.
        weakref.finalize(self, self._background.stop).atexit = False

    def register_graph(self, graph: WorkflowGraph) -> str:
        """Check a graph, take the source of its functions and of the tools, and register all of it.

        Registering a graph again makes a new version of it, which runs that start from now on use. This blocks, for as
        long as it takes to start the platform at the first time; an async program may want `asyncio.to_thread`.

        Returns:
            The graph's id.

        Raises:
            InvalidInput: The graph is wrong, or a function cannot be taken to a sandbox; ``problems`` lists everything.
            EngineUnavailable: The Docker engine does not answer, or lacks the image.
            Unavailable: The engine was closed.
        """
        if not isinstance(graph, WorkflowGraph):
            raise InvalidInput.at("graph", "wrong_type", f"It is a WorkflowGraph, not a {type(graph).__name__}.")
        with self._registering:
            registration = self._registrar.prepare(graph)
            call = self._background.call(lambda host: self._registrar.perform(registration, host.catalog))
            try:
                version = call.future.result()
            except BaseException:
                call.cancel()
                raise
            self._stored[graph.graph_id] = version.graph_id
            self._given[version.graph_id] = graph.graph_id
        return graph.graph_id

    async def run(
        self, graph_id: str, initial_state: InitialState | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Run a graph and return what came of it, whether it completed or not.

        Cancelling this cancels the run.

        Args:
            graph_id: Of a registered graph.
            initial_state: What it starts with.
            timeout_s: Longest that this waits.

        Returns:
            ``run_id``, ``graph_id``, ``status``, ``error`` (None, or why it failed) and ``final_state``, which has
            ``run_id``, ``data`` (the state) and ``execution_log`` (every attempt).

        Raises:
            NotFound: There is no such graph.
            InvalidInput: The state is not JSON, or over its bounds.
            QueueFull: Too many runs wait.
            TimeoutError: It took longer than ``timeout_s`` seconds, and was cancelled.
            Unavailable: The engine was closed.
        """
        state = checked_state(initial_state, graph_id, self._settings)
        stored = self._stored.get(graph_id, graph_id)
        outcome = await self._do(lambda host: running.run(host, stored, state, timeout_s))
        return {**outcome, "graph_id": graph_id}

    async def start_run(self, graph_id: str, initial_state: InitialState | None = None) -> str:
        """Start a run and return its id; raises as `run` does."""
        state = checked_state(initial_state, graph_id, self._settings)
        stored = self._stored.get(graph_id, graph_id)
        return await self._do(lambda host: running.start(host, stored, state))

    async def wait(self, run_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for the end of a run, and return what `run` would; giving up leaves the run as it is.

        Raises:
            NotFound: There is no such run.
            TimeoutError: It goes on after ``timeout_s`` seconds.
            Unavailable: The engine was closed.
        """
        return self._with_given_id(await self._do(lambda host: running.wait(host, run_id, timeout_s)))

    async def status(self, run_id: str) -> dict[str, Any]:
        """Return where a run stands: its status, its nodes, and each attempt with what it used.

        Raises:
            NotFound: There is no such run.
            Unavailable: The engine was closed.
        """
        return self._with_given_id(await self._do(lambda host: running.status(host, run_id)))

    async def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run, killing its containers at once, and return where it stands.

        Raises:
            NotFound: There is no such run.
            Conflict: It ended otherwise.
            Unavailable: The engine was closed.
        """
        return self._with_given_id(await self._do(lambda host: running.cancel(host, run_id)))

    async def follow(self, run_id: str, after: int = 0) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the records of a run as they come, printed lines among them, up to its end.

        Args:
            run_id: The run.
            after: The ``seq`` of the last record that was seen.

        Raises:
            NotFound: There is no such run.
            Unavailable: The engine was closed.
        """

        async def begin(host: Host) -> AsyncIterator[list[JournalRecord]]:
            return host.runs.follow(run_id, after)

        async def end(_host: Host) -> None:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()

        batches = await self._do(begin)
        try:
            while (batch := await self._do(lambda _host: anext(batches, None))) is not None:
                for record in batch:
                    yield record_view(record)
        finally:
            with contextlib.suppress(Unavailable):
                await self._do(end)

    def close(self) -> None:
        """Cancel what runs, remove every container, and end; once is enough, twice is fine."""
        self._background.close()

    async def aclose(self) -> None:
        """Do as `close` does, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _do(self, work: Callable[[Host], Awaitable[R]]) -> R:
        return await self._background.result(work)

    def _with_given_id(self, view: dict[str, Any]) -> dict[str, Any]:
        """Return a run's document with the id that the program knows its graph by."""
        return {**view, "graph_id": self._given.get(view["graph_id"], view["graph_id"])}
