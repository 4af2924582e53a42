"""A platform to be fuzzed: over HTTP on loopback, with sandboxes in the process, and no way out."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from sandgraph.api.app import create_app
from sandgraph.bootstrap import open_platform, services_of
from sandgraph.model.access import ALL_SCOPES, DEFAULT_TENANT
from sandgraph.sandbox.inprocess import InProcessSandboxes
from sandgraph.settings import load_settings


class Server(uvicorn.Server):
    """A server in a thread, which has no signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def fuzzed(data_dir: Path, *, keys: bool) -> Iterator[tuple[str, str | None]]:
    """Yield the URL of a platform, and a key for it where it has any."""
    found: list[tuple[str, str | None]] = []
    servers: list[Server] = []
    begun = threading.Event()

    async def serve() -> None:
        settings = load_settings(data_dir=data_dir, deployment="fuzzed", sync_wait_s=1, max_queued_runs=100_000)
        async with open_platform(settings, sandboxes=InProcessSandboxes()) as platform:
            key = None
            if keys:
                _, key = await platform.store.keys.create(
                    DEFAULT_TENANT, "fuzz", ALL_SCOPES, created_by="test", expires_in=None
                )
            app = create_app(services_of(platform), gate=platform.gate)
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            server = Server(uvicorn.Config(app, log_config=None, lifespan="off"))
            servers.append(server)
            found.append((f"http://127.0.0.1:{listener.getsockname()[1]}", key))
            begun.set()
            await server.serve([listener])

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            begun.set()

    thread = threading.Thread(target=run)
    with _no_way_out():
        thread.start()
        try:
            assert begun.wait(30)
            assert found, "the platform did not start"
            yield found[0]
        finally:
            for server in servers:
                server.should_exit = server.force_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def _no_way_out() -> Iterator[None]:
    """Let no name be found but this machine's: webhooks are made up to lead anywhere."""
    real = socket.getaddrinfo

    def find(host: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as it is
        if host not in {"127.0.0.1", "localhost", None}:
            raise socket.gaierror(f"{host} is not looked up in tests")
        return real(host, *arguments, **more)

    socket.getaddrinfo = find
    try:
        yield
    finally:
        socket.getaddrinfo = real
