"""One container with a supervisor in it that waits for its job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from sandgraph.errors import EngineUnavailable, SandboxLost
from sandgraph.sandbox.channel import Channel
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.payload import read_version
from sandgraph_runner.protocol import VERSION, ProtocolError

#: Seconds a started container has to say that it is ready; a tenth of one is usual.
_READY_S = 20.0
_REMEDY = "`make setup` builds it anew."


@dataclass(frozen=True, slots=True)
class Container:
    """A started container, its supervisor ready.

    Attributes:
        name: Its name on the engine, which was chosen before it was created.
        container_id: Its id on the engine.
        channel: To its supervisor.
    """

    name: str
    container_id: str
    channel: Channel


async def start_container(engine: Engine, name: str, config: Mapping[str, object]) -> Container:
    """Create and start a container and wait until its supervisor is ready.

    Whatever this raises, and also when it is cancelled, there may be a container of that name, which is the caller's
    to remove.

    Raises:
        EngineUnavailable: The engine fails, or its image speaks another version of the protocol.
        SandboxLost: The container ended, or was removed, before it was ready.
    """
    container_id = await engine.create(name, config)
    channel = Channel(await engine.attach(container_id))
    try:
        await engine.start(container_id)
        await greet(engine, container_id, channel, within_s=_READY_S)
    except BaseException:
        channel.close()
        raise
    return Container(name, container_id, channel)


async def greet(engine: Engine, container_id: str, channel: Channel, *, within_s: float) -> None:
    """Wait until a container's supervisor says that it is ready for an order.

    Raises:
        EngineUnavailable: It speaks another version of the protocol, or something else.
        SandboxLost: It ended before, or took longer.
    """
    try:
        async with asyncio.timeout(within_s):
            hello = await channel.receive()
        version = read_version(hello) if hello is not None else None
    except TimeoutError:
        raise SandboxLost(f"A sandbox was not ready within {within_s:g} s. {channel.diagnostics}".strip()) from None
    except ProtocolError as broken:
        raise EngineUnavailable(f"The runner image does not speak the protocol ({broken}). {_REMEDY}") from None
    if version is None:
        how = await _how_it_ended(engine, container_id)
        raise SandboxLost(f"A sandbox ended before it was ready ({how}). {channel.diagnostics}".strip())
    if version != VERSION:
        raise EngineUnavailable(
            f"The runner image speaks version {version} of the protocol, this program version {VERSION}. {_REMEDY}"
        )


async def _how_it_ended(engine: Engine, container_id: str) -> str:
    state = await engine.last_state(container_id)
    if state is None:
        return "it was removed"
    if state.is_running:
        return "its connection broke"
    return f"exit code {state.exit_code}{', out of memory' if state.was_oom_killed else ''}"
