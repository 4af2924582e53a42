"""A Docker engine for unit tests: its containers are socket pairs with a scripted supervisor at the other end."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from sandgraph.errors import SandboxLost
from sandgraph.sandbox.engine import Engine
from sandgraph.sandbox.observed import ContainerState, ContainerUsage, EngineFacts, Labelled
from sandgraph.settings import load_settings
from sandgraph_runner.protocol import VERSION, Decoder, Frame, Kind, Report, encode


def an_outcome(**changed: object) -> bytes:
    """Return an outcome in which these fields are other than in one that changes nothing."""
    nothing = {
        "ops": [],
        "entered": True,
        "again": None,
        "after": [],
        "value": None,
        "reads": [],
        "reads_cut": False,
    }
    return json.dumps({**nothing, **changed}).encode()


NOTHING = an_outcome()


class Peer:
    """The supervisor's end of a container's socket, for scripts to play it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._decoder = Decoder(1 << 27)

    async def raw(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    async def stdout(self, data: bytes) -> None:
        await self.raw(struct.pack(">BxxxI", 1, len(data)) + data)

    async def stderr(self, data: bytes) -> None:
        await self.raw(struct.pack(">BxxxI", 2, len(data)) + data)

    async def say(self, kind: Kind, meta: Mapping[str, object] | None = None, body: bytes = b"") -> None:
        await self.stdout(encode(kind, dict(meta or {}), body))

    async def lines(self, *texts: str) -> None:
        await self.say(Kind.LOG, {"lines": [["stdout", 0.1, text, False] for text in texts]})

    async def result(self, body: bytes = NOTHING, **report: Any) -> None:  # noqa: ANN401
        await self.say(Kind.RESULT, Report(**report).to_meta(), body)

    async def hello(self) -> None:
        await self.say(Kind.HELLO, {"version": VERSION, "python": "3"})

    async def request(self) -> Frame:
        """Wait for what the host asks; the end of stdin ends the script, as it does the supervisor."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._end, 65536)
            if not data:
                raise asyncio.CancelledError
            for frame in self._decoder.feed(data):
                return frame

    def close(self) -> None:
        """Break the connection."""
        self._end.close()

    async def hang(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


Script = Callable[[Peer], Awaitable[None]]


async def obliging(peer: Peer) -> None:
    """Say hello, and answer any job with an empty diff."""
    await peer.hello()
    await peer.request()
    await peer.result()
    await peer.hang()


class FakeContainer:
    """One container and the supervisor's script in it."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self.config = config
        self.state = ContainerState(is_running=False, was_oom_killed=False, exit_code=0)
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(0)
        self.theirs.settimeout(0)
        self.task: asyncio.Task[None] | None = None

    def die(self, exit_code: int = 137, *, oom: bool = False) -> None:
        """End it as the engine would."""
        if self.state.is_running:
            self.state = ContainerState(is_running=False, was_oom_killed=oom, exit_code=exit_code)
        if self.task is not None:
            self.task.cancel()
        self.theirs.close()


class FakeEngine(Engine):
    """Plays the engine.

    Args:
        script: What each container's supervisor does; when it returns, the container exits with code 1.

    Attributes:
        containers: Those that exist, by name.
        calls: What was asked of it, as ``(method, name)``.
        faults: What the next calls of a method raise, one each.
        used: What it says that any container has used.
    """

    def __init__(self, script: Script = obliging) -> None:
        super().__init__(load_settings())
        self.script = script
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.facts = EngineFacts("1.0", "sha256:0", "runc", 2)
        self.used: ContainerUsage | None = None
        self.kill_gate: asyncio.Event | None = None
        self.is_closed = False
        self.ids = itertools.count()

    async def connect(self) -> EngineFacts:
        self._note("connect", "")
        return self.facts

    async def check(self, image_id: str) -> None:
        self._note("check", image_id)

    async def create(self, name: str, config: Mapping[str, object]) -> str:
        self._note("create", name)
        self.containers[name] = FakeContainer(name, config)
        return name

    async def attach(self, container_id: str) -> socket.socket:
        self._note("attach", container_id)
        return self._get(container_id).ours

    async def start(self, container_id: str) -> None:
        await asyncio.sleep(0)
        self._note("start", container_id)
        container = self._get(container_id)
        container.state = ContainerState(is_running=True, was_oom_killed=False, exit_code=0)
        container.task = asyncio.create_task(self._play(container))

    async def update(self, container_id: str, resources: Mapping[str, object]) -> None:
        self._note("update", container_id)
        self._get(container_id).config["HostConfig"].update(resources)

    async def inspect(self, container_id: str) -> ContainerState | None:
        self._note("inspect", container_id)
        container = self.containers.get(container_id)
        return None if container is None else container.state

    async def usage(self, container_id: str) -> ContainerUsage | None:
        self._note("usage", container_id)
        return self.used

    async def kill(self, container_id: str) -> None:
        if self.kill_gate is not None:
            await self.kill_gate.wait()
        self._note("kill", container_id)
        if container_id in self.containers:
            self.containers[container_id].die()

    async def remove(self, name: str) -> None:
        self._note("remove", name)
        container = self.containers.pop(name, None)
        if container is not None:
            container.die()
            if container.task is None:
                container.ours.close()
            else:
                await asyncio.wait([container.task])

    async def labelled(self, label: str, value: str) -> list[Labelled]:
        self._note("labelled", value)
        return [
            Labelled(each.name, each.name, each.config["Labels"], is_running=each.state.is_running)
            for each in self.containers.values()
            if each.config["Labels"].get(label) == value
        ]

    async def close(self) -> None:
        await super().close()
        self.is_closed = True

    def _note(self, method: str, name: str) -> None:
        self.calls.append((method, name))
        if self.faults[method]:
            raise self.faults[method].popleft()

    def _get(self, container_id: str) -> FakeContainer:
        if container_id not in self.containers:
            raise SandboxLost(f"There is no {container_id}.")
        return self.containers[container_id]

    async def _play(self, container: FakeContainer) -> None:
        with suppress(OSError):
            await self.script(Peer(container.theirs))
        container.die(exit_code=1)
