"""The engine's own module over a client that fails on purpose."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from sandgraph.errors import ConfigurationError, EngineUnavailable, SandboxLost
from sandgraph.sandbox.engine import Client, Engine, find_engine
from sandgraph.sandbox.observed import ContainerState, ContainerUsage
from sandgraph.settings import load_settings

pytestmark = pytest.mark.anyio


def refusal(status: int, said: str = "said no") -> APIError:
    response = requests.Response()
    response.status_code = status
    kind = NotFound if status == 404 else APIError
    return kind("refused", response=response, explanation=said)


def stats(**said: object) -> Mapping[str, Any]:
    return {"cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}}, "pids_stats": {"current": 3}, **said}


class _Stream:
    """What the SDK returns of an attach, and the response that it hangs on to it."""

    def __init__(self, end: socket.socket) -> None:
        self.fileno = end.fileno
        self._response = end


class FaultyClient:
    """Does next to nothing, and that not before it has failed as told."""

    def __init__(self) -> None:
        self.faults: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self.calls: list[str] = []
        self.existing: dict[str, str] = {}
        self.made_before_failing = False
        self.info_says: dict[str, Any] = {
            "ServerVersion": "26.1",
            "DefaultRuntime": "runc",
            "Runtimes": {"runc": {}},
            "NCPU": 2,
            "MemoryLimit": True,
        }
        self.stats: Mapping[str, Any] = stats(memory_stats={"usage": 5, "max_usage": 7})
        self.volumes: dict[str, Any] | None = None
        self.pause_s = 0.0
        self.threads: set[str] = set()
        self.sockets: list[socket.socket] = []

    def _called(self, what: str) -> None:
        self.calls.append(what)
        self.threads.add(threading.current_thread().name)
        time.sleep(self.pause_s)
        if self.faults[what]:
            raise self.faults[what].popleft()

    def info(self) -> dict[str, Any]:
        self._called("info")
        return self.info_says

    def inspect_image(self, name: str) -> dict[str, Any]:
        self._called("inspect_image")
        return {"Id": f"sha256:{name}", "Config": {"Volumes": self.volumes}}

    def create_container_from_config(self, config: Mapping[str, object], name: str) -> dict[str, str]:
        del config
        if name in self.existing:
            self.calls.append("create")
            raise refusal(409, "the name is in use")
        if self.made_before_failing:
            self.existing[name] = f"id-of-{name}"
        self._called("create")
        self.existing[name] = f"id-of-{name}"
        return {"Id": self.existing[name]}

    def inspect_container(self, name: str) -> dict[str, Any]:
        self._called("inspect")
        found = self.existing.get(name, name)
        return {"Id": found, "State": {"Running": False, "OOMKilled": True, "ExitCode": 137}}

    def attach_socket(self, container: str, params: Mapping[str, int]) -> _Stream:
        del container, params
        self._called("attach")
        ours, theirs = socket.socketpair()
        self.sockets.append(theirs)
        return _Stream(ours)

    def start(self, container: str) -> None:
        del container
        self._called("start")

    def kill(self, container: str) -> None:
        del container
        self._called("kill")

    def update_resources(self, container: str, resources: Mapping[str, object]) -> None:
        del container, resources
        self._called("update")

    def remove_container(self, name: str, *, v: bool, force: bool) -> None:
        assert v
        assert force
        self.existing.pop(name, None)
        self._called("remove")

    def containers(self, **filters: object) -> list[dict[str, Any]]:
        assert filters == {"all": True, "filters": {"label": "l=v"}}
        self._called("containers")
        states = ("running", "exited", "created", "dead", "paused")
        return [{"Id": "1", "Names": ["/box"], "Labels": {"l": "v"}, "State": state} for state in states]

    def usage(self, container: str) -> Mapping[str, Any]:
        del container
        self._called("usage")
        return self.stats

    def close(self) -> None:
        for each in self.sockets:
            each.close()


@pytest.fixture
def client() -> FaultyClient:
    return FaultyClient()


@pytest.fixture
async def engine(client: FaultyClient) -> AsyncIterator[Engine]:
    engine = Engine(load_settings(), client=lambda _: cast("Client", client))
    await engine.connect()
    client.calls.clear()
    yield engine
    await engine.close()


TRANSIENT = [
    requests.ConnectionError("refused"),
    requests.ReadTimeout("slow"),
    requests.exceptions.ChunkedEncodingError("cut"),
    refusal(500, "500"),
    refusal(503, "503"),
]


@pytest.mark.parametrize("fault", TRANSIENT, ids=["refused", "slow", "cut", "500", "503"])
async def test_what_may_pass_is_tried_again(engine: Engine, client: FaultyClient, fault: Exception) -> None:
    client.faults["start"].extend([fault, fault])
    await engine.start("box")
    assert client.calls == ["start"] * 3


async def test_trying_again_has_an_end(engine: Engine, client: FaultyClient) -> None:
    client.faults["start"].extend([requests.ConnectionError("refused")] * 100)
    with pytest.raises(EngineUnavailable, match="did not answer when asked to start a sandbox: refused"):
        await engine.start("box")
    assert len(client.calls) == 5


async def test_a_plain_refusal_is_not_tried_again(engine: Engine, client: FaultyClient) -> None:
    client.faults["start"].append(refusal(400, "bad parameter"))
    with pytest.raises(EngineUnavailable, match="refused to start a sandbox: bad parameter"):
        await engine.start("box")
    assert client.calls == ["start"]


async def test_a_create_whose_answer_was_lost_is_adopted(engine: Engine, client: FaultyClient) -> None:
    client.made_before_failing = True
    client.faults["create"].append(requests.ConnectionError("reset"))
    assert await engine.create("box", {}) == "id-of-box"
    assert client.calls == ["create", "create", "inspect"]
    assert list(client.existing) == ["box"]


@pytest.mark.parametrize("status", [404, 409])
async def test_removing_and_killing_what_is_gone_is_fine(engine: Engine, client: FaultyClient, status: int) -> None:
    client.faults["remove"].append(refusal(status, "removal is already in progress"))
    client.faults["kill"].append(refusal(status, "is not running"))
    await engine.remove("box")
    await engine.kill("box")
    assert client.calls == ["remove", "kill"]


@pytest.mark.parametrize("status", [404, 409])
async def test_what_needs_a_container_says_that_it_is_lost(engine: Engine, client: FaultyClient, status: int) -> None:
    for what in ("start", "update", "attach"):
        client.faults[what].append(refusal(status, "no such container"))
    with pytest.raises(SandboxLost, match="no such container"):
        await engine.start("box")
    with pytest.raises(SandboxLost):
        await engine.update("box", {})
    with pytest.raises(SandboxLost):
        await engine.attach("box")


async def test_inspect(engine: Engine, client: FaultyClient) -> None:
    assert await engine.inspect("box") == ContainerState(is_running=False, was_oom_killed=True, exit_code=137)
    client.faults["inspect"].append(refusal(404))
    assert await engine.inspect("box") is None


async def test_the_list_of_labelled_containers(engine: Engine) -> None:
    found = await engine.labelled("l", "v")
    assert {(each.container_id, each.name, each.labels["l"]) for each in found} == {("1", "box", "v")}
    assert [each.is_running for each in found] == [True, False, False, False, True]


async def test_usage_is_the_peak_where_the_kernel_keeps_it(engine: Engine, client: FaultyClient) -> None:
    assert await engine.usage("box") == ContainerUsage(cpu_s=1.5, peak_memory_bytes=7, pids=3)
    client.stats = stats(memory_stats={"usage": 5})
    assert await engine.usage("box") == ContainerUsage(cpu_s=1.5, peak_memory_bytes=5, pids=3)


async def test_usage_that_the_engine_does_not_know_is_none(engine: Engine, client: FaultyClient) -> None:
    client.stats = stats(memory_stats={}, cpu_stats={"cpu_usage": {}})
    assert await engine.usage("box") == ContainerUsage(cpu_s=None, peak_memory_bytes=None, pids=3)


@pytest.mark.parametrize(
    "said", [stats(memory_stats={}, pids_stats={}), {}, {"memory_stats": None, "pids_stats": 1, "cpu_stats": None}]
)
async def test_usage_of_what_does_not_run_or_says_nonsense_is_none(
    engine: Engine, client: FaultyClient, said: Mapping[str, Any]
) -> None:
    client.stats = said
    assert await engine.usage("box") is None


@pytest.mark.parametrize("fault", [requests.ReadTimeout("slow"), refusal(404), refusal(500), requests.HTTPError("404")])
async def test_usage_is_asked_once_and_never_raises(engine: Engine, client: FaultyClient, fault: Exception) -> None:
    client.faults["usage"].append(fault)
    assert await engine.usage("box") is None
    assert client.calls == ["usage"]


async def test_usage_is_waited_for_a_second(engine: Engine, client: FaultyClient) -> None:
    client.pause_s = 1.3
    began = time.monotonic()
    assert await engine.usage("box") is None
    assert time.monotonic() - began < 1.25


async def test_the_attached_socket_outlives_the_response(engine: Engine, client: FaultyClient) -> None:
    ours = await engine.attach("box")
    client.sockets[0].send(b"hello")
    assert ours.recv(10) == b"hello"
    assert ours.gettimeout() == 0
    ours.close()


async def test_calls_run_on_threads_of_their_own(engine: Engine, client: FaultyClient) -> None:
    await engine.start("box")
    assert all(name.startswith("sandgraph-engine") for name in client.threads)


async def test_a_cancelled_call_ends_after_the_engine_has_answered(engine: Engine, client: FaultyClient) -> None:
    client.pause_s = 0.2
    task = asyncio.create_task(engine.create("box", {}))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "box" in client.existing, "whoever cleans up would have come too early"


async def test_a_cancelled_attach_leaves_no_socket(engine: Engine, client: FaultyClient) -> None:
    client.pause_s = 0.2
    task = asyncio.create_task(engine.attach("box"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.sockets[0].recv(1) == b"", "our end is still open"


async def test_after_closing_nothing_is_asked(engine: Engine, client: FaultyClient) -> None:
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await engine.start("box")
    assert client.calls == []


async def test_facts(client: FaultyClient) -> None:
    engine = Engine(load_settings(runner_image="image:1"), client=lambda _: cast("Client", client))
    facts = await engine.connect()
    assert (facts.version, facts.image_id, facts.runtime, facts.cpus) == ("26.1", "sha256:image:1", "runc", 2)
    await engine.close()


async def test_the_runtimes_that_a_lease_may_name_begin_with_the_deployment_s_own(client: FaultyClient) -> None:
    client.info_says["Runtimes"] = {"runc": {}, "runsc": {}, "kata": {}}
    engine = Engine(load_settings(runtimes="runsc, runc"), client=lambda _: cast("Client", client))
    assert (await engine.connect()).runtimes == ("runc", "runsc")
    await engine.close()
    engine = Engine(load_settings(runtime="kata", runtimes="runc"), client=lambda _: cast("Client", client))
    assert (await engine.connect()).runtimes == ("kata", "runc")
    await engine.close()


async def test_before_connecting_nothing_is_asked() -> None:
    engine = Engine(load_settings())
    with pytest.raises(EngineUnavailable):
        await engine.start("box")
    await engine.close()


@pytest.mark.parametrize(
    ("settings", "lacks", "said"),
    [
        ({"runtime": "runsc"}, {}, "has no runtime 'runsc'.* change SANDGRAPH_RUNTIME\\."),
        ({"runtimes": "runc,kata"}, {}, "has no runtime 'kata'.* change SANDGRAPH_RUNTIMES\\."),
        ({"runtime": "kata", "runtimes": "kata"}, {}, "has no runtime 'kata'.* change SANDGRAPH_RUNTIME\\."),
        ({}, {"MemoryLimit": False}, "cannot enforce MemoryLimit"),
        ({}, {"PidsLimit": False}, "cannot enforce PidsLimit"),
    ],
)
async def test_an_engine_that_will_not_do(
    client: FaultyClient, settings: dict[str, object], lacks: dict[str, object], said: str
) -> None:
    client.info_says |= lacks
    engine = Engine(load_settings(**settings), client=lambda _: cast("Client", client))
    with pytest.raises(EngineUnavailable, match=said):
        await engine.connect()
    await engine.close()


async def test_an_engine_without_the_image(client: FaultyClient) -> None:
    response = requests.Response()
    response.status_code = 404
    client.faults["inspect_image"].append(ImageNotFound("no", response=response, explanation="No such image"))
    engine = Engine(load_settings(runner_image="image:1"), client=lambda _: cast("Client", client))
    with pytest.raises(EngineUnavailable, match=r"has no image 'image:1'.*make setup"):
        await engine.connect()
    await engine.close()


async def test_an_image_with_volumes_is_refused(client: FaultyClient) -> None:
    client.volumes = {"/data": {}}
    engine = Engine(load_settings(), client=lambda _: cast("Client", client))
    with pytest.raises(EngineUnavailable, match=r"declares volumes \(/data\)"):
        await engine.connect()
    await engine.close()


def test_no_engine_at_all(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable) as raised:
        find_engine(load_settings(docker_host=f"unix://{tmp_path}/none.sock"))
    assert f"{tmp_path}/none.sock" in raised.value.message
    assert "SANDGRAPH_DOCKER_HOST" in raised.value.message


def test_an_environment_without_an_engine_lists_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/env.sock")
    with pytest.raises(EngineUnavailable, match=r"env\.sock"):
        find_engine(load_settings(docker_host=None))


@pytest.mark.parametrize("address", ["https://127.0.0.1:2376", "ssh://host.invalid"])
def test_an_engine_behind_tls_or_ssh_is_refused_in_so_many_words(address: str) -> None:
    with pytest.raises(ConfigurationError, match="Forward its socket"):
        find_engine(load_settings(docker_host=address))
