"""Gates for tests: a platform's application over keys of a store, and time that tests move."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from api_world import World
from fastapi import FastAPI

from sandgraph.api.app import create_app
from sandgraph.api.auth.gate import Gate
from sandgraph.settings import Settings, load_settings
from sandgraph.store.store import Store


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def gated(data_dir: Path, clock: Clock, **options: object) -> AsyncIterator[tuple[FastAPI, Gate, Store, World]]:
    """Yield an application with a gate over a store of its own, and services of dictionaries."""
    settings: Settings = load_settings(data_dir=data_dir, **options)
    store = await Store.open(data_dir)
    gate = Gate(store.keys, settings, clock)
    world = World.make(settings)
    try:
        yield create_app(world.services, gate=gate), gate, store, world
    finally:
        await gate.close()
        await store.close()


class _Quiet(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[int]:
    """Serve an application, as the platform is served; yields the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="websockets-sansio")
        server = _Quiet(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await task
