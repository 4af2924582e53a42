"""``sandgraph serve``: the whole platform in one process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import uvicorn

from sandgraph import checks
from sandgraph.api.app import create_app
from sandgraph.api.limits.connections import protocol_for
from sandgraph.api.limits.middleware import Limits
from sandgraph.bootstrap import Platform, open_platform, services_of
from sandgraph.cli.common import AddParser, add_settings, all_settings_of, log_to_stderr
from sandgraph.cli.priority import precedence
from sandgraph.errors import ConfigurationError, Conflict
from sandgraph.settings import Settings, WrongSetting

logger = logging.getLogger(__name__)

#: Largest message that a WebSocket client may send; `ping` is all that the API reads.
_MESSAGE_BYTES = 4 * 1024

#: Seconds that requests in flight get to finish once the platform was told to stop.
_GRACE_S = 5

_OPEN = "open to everybody who reaches it, as there is no key yet: sandgraph keys create"


def add_parser(add: AddParser) -> argparse.ArgumentParser:
    """Offer the subcommand."""
    command = add(
        "serve", help="run the platform: API, dispatcher and worker in one process, SQLite in the data folder"
    )
    add_settings(command)
    return command


def run(options: argparse.Namespace) -> int:
    """Serve until a signal says to stop."""
    settings, wrong = all_settings_of(options)
    log_to_stderr(settings.log_level, settings.log_format)
    with precedence(settings.niceness):
        asyncio.run(serve(settings, wrong))
    return 0


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn's own handling ends the process before containers are removed.

    Args:
        config: Of the server.
        lost: Is set once another process took this one's place.
        is_open: Whether it began with everybody let in.
    """

    def __init__(self, config: uvicorn.Config, lost: asyncio.Event, *, is_open: bool) -> None:
        super().__init__(config)
        self.lost = lost
        self.is_open = is_open

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Serving:
    """A platform that is being served.

    Attributes:
        url: Its base URL.
        platform: What is served.
        server: Of HTTP.
    """

    url: str
    platform: Platform
    server: _Server

    async def stop(self, hurry: asyncio.Event) -> None:
        """Take no more work, let what runs end for a while, and hand the rest back; streams are told to come again.

        Args:
            hurry: Ends the while.
        """
        platform = self.platform
        within_s = platform.settings.drain_s
        logger.info("draining", extra={"action": "drain", **platform.runs.facts()})
        draining = asyncio.create_task(platform.drain(within_s), name="drain")
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurried):
            task.cancel()
        await asyncio.gather(draining, hurried, return_exceptions=True)
        # Answered and closed while the server still is there for them.
        await platform.runs.close()
        logger.info("drained", extra={"action": "drained"})


@asynccontextmanager
async def running(settings: Settings, wrong: Sequence[WrongSetting] = ()) -> AsyncIterator[Serving]:
    """Serve for the length of the block.

    Args:
        settings: Of the deployment.
        wrong: What is wrong with them already.

    Raises:
        ConfigurationError: Something that the platform needs is not there: all that is wrong, before anything starts.
        EngineUnavailable: The Docker engine does not answer any more.
    """
    for finding in await checks.demand(settings, wrong):
        if finding.level is not checks.Level.OK:
            logger.warning("%s", finding.line, extra={"action": "checked", "check": finding.check})
    with _listen(settings) as listener:
        async with open_platform(settings) as platform:
            config = uvicorn.Config(
                create_app(
                    services_of(platform),
                    metrics=platform.metrics,
                    spans=platform.spans,
                    limits=Limits(settings, platform.quotas.requests_per_minute),
                    gate=platform.gate,
                ),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http=protocol_for(settings),
                h11_max_incomplete_event_size=settings.max_header_kb * 1024,
                ws="websockets-sansio",
                # Compression would take some 300 KB a connection, and do the same work for each that follows a run.
                ws_per_message_deflate=False,
                ws_ping_interval=settings.ws_ping_s,
                ws_max_size=_MESSAGE_BYTES,
                timeout_graceful_shutdown=_GRACE_S,
            )
            is_open = await platform.gate.is_open()
            server = _Server(config, platform.heart.lost, is_open=is_open)
            if is_open:
                logger.warning("%s", _OPEN, extra={"action": "open"})
            task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            try:
                while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells nobody
                    await asyncio.sleep(0.01)
                host, port = listener.getsockname()[:2]
                yield Serving(f"http://{f'[{host}]' if ':' in host else host}:{port}", platform, server)
            finally:
                server.should_exit = True
                await task


async def serve(settings: Settings, wrong: Sequence[WrongSetting] = ()) -> None:
    """Serve until SIGTERM or SIGINT, and then until what runs has ended, for a while; a second signal ends that.

    Raises:
        Conflict: Another process took this one's place on its data folder.
    """
    # Reading a state of a million values, which are no cycles, took four times as long with the collector looking at
    # them over and over.
    gc.set_threshold(10_000, 100, 50)
    async with running(settings, wrong) as serving:
        # What was imported and made so far stays; to look through it would hold up everything for a tenth of a second.
        gc.collect()
        gc.freeze()
        url, server = serving.url, serving.server
        stop, hurry = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                hurry.set()
                server.force_exit = True
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        said = f" - {_OPEN}" if server.is_open else ""
        print(f"Sandgraph serves {url} - its API is described at {url}/docs{said}", flush=True)
        ends = [asyncio.create_task(event.wait()) for event in (stop, server.lost)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        logger.info("stopping", extra={"action": "stop"})
        if server.lost.is_set():
            message = "Another process took this one's place on its data folder, as it was not heard of for too long."
            raise Conflict(message, code="lease_lost")
        await serving.stop(hurry)


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """Bind before anything is started, so that a taken port costs nothing else."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigurationError(
                f"{settings.host}:{settings.port} cannot be bound ({error.strerror}); choose another --host or --port."
            ) from None
        with suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener
