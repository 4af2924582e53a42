"""A connection to the Docker engine that can be pulled out and put back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from missing import missing


class Cable:
    """Between a pool and the engine's socket, to be pulled out and put back."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()

    async def plug(self) -> None:
        self._server = await asyncio.start_unix_server(self._connect, self.path)

    async def pull(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for writer in self._writers:
            writer.transport.abort()
        if self._pipes:
            await asyncio.wait(self._pipes)
        self._writers.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._engine)
        self._writers |= {writer, far_writer}
        for pipe in (self._pipe(reader, far_writer), self._pipe(far_reader, writer)):
            task = asyncio.create_task(pipe)
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def plugged(directory: Path) -> AsyncIterator[Cable]:
    """A cable to the machine's engine, plugged in; its socket is in this directory.

    Where the engine has no socket file, the test is skipped, but in CI it fails.
    """
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        missing("this test cuts the engine's socket file, and DOCKER_HOST names none")
    cable = Cable(directory / "engine.sock", address.removeprefix("unix://"))
    await cable.plug()
    try:
        yield cable
    finally:
        await cable.pull()
