"""Runs graphs from a Python program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sandgraph.api.node_runs import MOST_SHOWN
from sandgraph.api.schemas.control import parse_replay, parse_resume
from sandgraph.api.views import event_view, record_view, replay_view
from sandgraph.embedded import running
from sandgraph.embedded.background import Background
from sandgraph.embedded.graph import Function, WorkflowGraph
from sandgraph.embedded.host import Host, open_host, say_that_there_are_no_sandboxes, settings_of
from sandgraph.embedded.registration import Registrar, subgraphs_first, within
from sandgraph.embedded.state import checked_event, checked_fork, checked_state
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

        The graphs that its nodes run are registered first, each once.

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
            for path, each in subgraphs_first(graph):
                try:
                    self._register(each)
                except InvalidInput as invalid:
                    raise within(path, invalid) from None
        return graph.graph_id

    def _register(self, graph: WorkflowGraph) -> None:
        registration = self._registrar.prepare(graph)
        known = dict(self._stored)
        call = self._background.call(lambda host: self._registrar.perform(registration, host.catalog, known))
        try:
            version = call.future.result()
        except BaseException:
            call.cancel()
            raise
        self._stored[graph.graph_id] = version.graph_id
        self._given[version.graph_id] = graph.graph_id

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

    async def status(self, run_id: str, *, cursor: str | None = None, limit: int = MOST_SHOWN) -> dict[str, Any]:
        """Return where a run stands: its status, its nodes, and each attempt with what it used.

        Args:
            run_id: The run.
            cursor: Asks for what follows the first node runs: ``next_cursor`` of the answer before.
            limit: Most node runs.

        Raises:
            NotFound: There is no such run.
            InvalidInput: The cursor is none.
            Unavailable: The engine was closed.
        """
        return self._with_given_id(await self._do(lambda host: running.status(host, run_id, cursor, limit)))

    async def state(self, run_id: str, at: int | None = None) -> dict[str, Any]:
        """Return a run's state by now, or that of checkpoint ``at``, with who set each key.

        Raises:
            NotFound: There is no such run, or checkpoint.
            Unavailable: The engine was closed.
        """
        return await self._do(lambda host: running.state(host, run_id, at))

    async def history(
        self,
        run_id: str,
        *,
        node: str | None = None,
        scope: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Return a page of a run's commits, first ones first: what each changed, and who made it.

        Args:
            run_id: The run.
            node: Commits of this node only.
            scope: Commits of this scope only; the empty one is the run's own graph.
            cursor: Asks for what follows: ``next_cursor`` of the page before.
            limit: Most commits.

        Raises:
            NotFound: There is no such run.
            InvalidInput: The cursor is none.
            Unavailable: The engine was closed.
        """
        return await self._do(
            lambda host: running.history(host, run_id, scope=scope, node=node, cursor=cursor, limit=limit)
        )

    async def send_event(
        self, run_id: str, name: str, payload: object = None, *, event_id: str | None = None
    ) -> dict[str, Any]:
        """Send a run an event, which the first node that waits for that name takes, now or later.

        Args:
            run_id: The run.
            name: What the node waits for.
            payload: Anything that JSON has.
            event_id: Unique in the run; the same one again is the same event.

        Returns:
            ``run_id``, ``name``, ``event_id`` and ``status``: ``accepted``, or ``duplicate``.

        Raises:
            NotFound: There is no such run.
            InvalidInput: The payload is not JSON, or over its bounds.
            Conflict: The run has ended, or the id is that of another event.
            Unavailable: The engine was closed.
        """
        event = checked_event(name, payload, event_id, self._settings)
        receipt = await self._do(lambda host: host.runs.send_event(run_id, event.name, event.payload, event.event_id))
        return event_view(receipt)

    async def pause(self, run_id: str) -> dict[str, Any]:
        """Let what runs come to its end, start nothing more until `unpause`, and return where the run stands.

        Raises:
            NotFound: There is no such run.
            Conflict: It has ended.
            Unavailable: The engine was closed.
        """
        return self._with_given_id(await self._do(lambda host: running.pause(host, run_id)))

    async def unpause(self, run_id: str) -> dict[str, Any]:
        """Let a paused run go on, and return where it stands; raises as `pause`."""
        return self._with_given_id(await self._do(lambda host: running.unpause(host, run_id)))

    async def fork(
        self,
        run_id: str,
        at: int,
        *,
        state: InitialState | None = None,
        delete: Iterable[str] = (),
        functions: str = "pinned",
    ) -> str:
        """Start a run that goes on where another one stood at a checkpoint, and return its id.

        Args:
            run_id: The other one, which stays as it is.
            at: Its checkpoint; 0 is the initial state.
            state: Keys to be set in the state there.
            delete: Keys to be removed from it.
            functions: ``pinned``, those of the other run, or ``latest``.

        Raises:
            NotFound: There is no such run, or checkpoint.
            InvalidInput: An argument is wrong.
            QueueFull: Too many runs wait.
            Conflict: The run cannot be forked there.
            Unavailable: The engine was closed.
        """
        asked = checked_fork(at, state, delete, functions, self._settings)
        run, _ = await self._do(
            lambda host: host.runs.fork(run_id, asked.at, asked.changes, latest=asked.latest, idempotency_key=None)
        )
        return run.run_id

    async def resume(self, run_id: str, *, functions: str = "pinned") -> str:
        """Start a run that goes on where one ended that did not complete, and return its id.

        Args:
            run_id: The run that ended.
            functions: ``pinned``, those of that run, or ``latest``, as after a repair.

        Raises:
            NotFound: There is no such run.
            InvalidInput: There are no such functions.
            QueueFull: Too many runs wait.
            Conflict: The run goes on, or is completed.
            Unavailable: The engine was closed.
        """
        latest = parse_resume({"functions": functions}, self._settings).latest
        run, _ = await self._do(lambda host: host.runs.resume(run_id, latest=latest, idempotency_key=None))
        return run.run_id

    async def replay(
        self, run_id: str, node: str, *, iteration: int = 1, attempt: int | None = None, scope: str = ""
    ) -> dict[str, Any]:
        """Run an attempt again over what it saw, and tell what is not the same; nothing of it is kept.

        Args:
            run_id: The run.
            node: The node.
            iteration: Which pass of it, or which item of a map.
            attempt: Which try; without it, the last that ended.
            scope: Of the node run, as `status` shows it.

        Raises:
            NotFound: There is no such run, node run or attempt.
            InvalidInput: An argument is wrong.
            Conflict: There is nothing that it could be held against.
            Unavailable: The engine was closed.
        """
        asked = {"node": node, "iteration": iteration, "attempt": attempt, "scope": scope}
        new = parse_replay(asked, self._settings)
        return replay_view(await self._do(lambda host: host.runs.replay(run_id, new.key, new.attempt)))

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
