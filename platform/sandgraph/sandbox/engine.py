"""The Docker engine: the only module that talks to it.

The SDK blocks, so each call runs on a thread of this module's own. Trouble that may pass (the engine restarts, a
connection breaks, a 5xx) is retried for a bounded time; whatever is retried can be repeated without harm.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, create_api_error_from_http_exception
from docker.utils import kwargs_from_env

from sandgraph.errors import ConfigurationError, EngineUnavailable, SandboxLost
from sandgraph.sandbox.observed import ContainerState, ContainerUsage, EngineFacts, Labelled
from sandgraph.sandbox.profile import REQUIRED_OF_ENGINE
from sandgraph.sandbox.tasks import persistently, settled
from sandgraph.settings import Settings
from sandgraph.telemetry.metrics import Metrics

T = TypeVar("T")

#: Seconds one request may take; a start on a loaded machine takes a few.
_REQUEST_S = 20
_THREADS = 16
#: How often a call is tried, and the seconds after which it is not tried again.
_TRIES, _RETRIES_S = 5, 10.0
#: Seconds a look at a container's usage may take: nobody waits longer for a number that is only nice to have.
_USAGE_S = 1.0
_CONFLICT = 409
#: No such container; or it does not run, or is being removed.
_GONE = (404, _CONFLICT)
#: States of a container in the engine's list in which there may be processes in it.
_HOLDS_PROCESSES = ("running", "paused", "restarting", "removing")


class Client(docker.APIClient):
    """The SDK's client, with a deadline on every request and the one call that it lacks."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - the SDK's own signature
        """Send one request; ``attach_socket`` alone comes without a timeout."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        return super().request(*args, **kwargs)

    def update_resources(self, container: str, resources: Mapping[str, object]) -> None:
        """Change limits of a container that runs; the SDK's own update knows neither pids nor nano CPUs."""
        url = f"{self.base_url}/v{self.api_version}/containers/{container}/update"
        try:
            self.post(url, json=dict(resources)).raise_for_status()
        except requests.HTTPError as refused:
            raise create_api_error_from_http_exception(refused) from refused

    def usage(self, container: str) -> Mapping[str, Any]:
        """Return what a container uses at this moment; the SDK's own call waits a second for a second sample."""
        url = f"{self.base_url}/v{self.api_version}/containers/{container}/stats"
        answer = self.get(url, params={"stream": "false", "one-shot": "true"}, timeout=_USAGE_S)
        answer.raise_for_status()
        found: Mapping[str, Any] = answer.json()
        return found


class Engine:
    """One Docker engine. Calls may be made concurrently, from one event loop.

    A call that is cancelled returns only after the engine has answered, so that whoever cleans up comes after it. Every
    call raises `EngineUnavailable` when the engine refuses or, after retries, does not answer, and those that need a
    container `SandboxLost` when there is none of that id, or it no longer runs.

    Args:
        settings: ``docker_host``, ``runner_image``, ``runtime`` and ``runtimes`` are read.
        client: Makes the client; tests put in one that fails on purpose.
        metrics: Take how long its calls take.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client: Callable[[Settings], Client] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._make_client = client or find_engine
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sandgraph-engine")
        self._client: Client | None = None
        self._is_closed = False

    async def connect(self) -> EngineFacts:
        """Find the engine, and in it the image and every runtime that sandboxes may get.

        Raises:
            EngineUnavailable: There is none, it lacks one of them, or it cannot enforce the limits.
        """
        facts, lacks = await self._look()
        if lacks:
            raise EngineUnavailable(" ".join(lacks.values()))
        return facts

    async def info(self) -> Mapping[str, object]:
        """Return all that the engine says of itself.

        Raises:
            EngineUnavailable: There is none.
            ConfigurationError: It is reached in a way that sandboxes cannot use.
        """
        if self._client is None:
            self._client = await self._in_thread(lambda: self._make_client(self._settings))
        found: Mapping[str, object] = await self._call("tell what it is", lambda client: client.info())
        return found

    async def lacks(self) -> Mapping[str, str]:
        """Return all that `connect` would refuse the engine for, by the setting that each is about.

        Raises:
            EngineUnavailable: There is none.
            ConfigurationError: It is reached in a way that sandboxes cannot use.
        """
        return (await self._look())[1]

    async def check(self, image_id: str) -> None:
        """Do nothing, if the engine answers at once and has an image; nothing is tried again.

        Raises:
            EngineUnavailable: It does not.
        """
        client = self._client
        if client is None:
            raise EngineUnavailable("No Docker engine is connected.")
        began, failed = time.monotonic(), True
        try:
            await self._in_thread(lambda: client.inspect_image(image_id))  # type: ignore[no-untyped-call]
            failed = False
        except APIError as refused:
            gone = refused.status_code in _GONE
            what = f"has the runner image {image_id} no more" if gone else f"refuses to look: {refused.explanation}"
            raise EngineUnavailable(f"The Docker engine {what}.") from refused
        except (requests.RequestException, DockerException) as broken:
            raise EngineUnavailable(f"The Docker engine does not answer: {broken}") from broken
        finally:
            if self._metrics is not None:
                self._metrics.engine_called("check", time.monotonic() - began, failed=failed)

    async def create(self, name: str, config: Mapping[str, object]) -> str:
        """Create a container and return its id.

        An attempt whose answer was lost may have made it all the same: the next one finds the name taken, which only
        that container can have, and adopts it.
        """

        def create(client: Client) -> str:
            try:
                made = client.create_container_from_config(dict(config), name)  # type: ignore[no-untyped-call]
            except APIError as refused:
                if refused.status_code != _CONFLICT:
                    raise
                made = client.inspect_container(name)
            return str(made["Id"])

        return await self._call("create a sandbox", create)

    async def attach(self, container_id: str) -> socket.socket:
        """Connect to a container's stdin, stdout and stderr; before its start, or its first words are lost.

        Returns:
            A non-blocking socket that belongs to the caller.
        """

        def attach(client: Client) -> socket.socket:
            stream = client.attach_socket(container_id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            # A descriptor of our own: the HTTP connection can then go back to its pool.
            own = socket.socket(fileno=os.dup(stream.fileno()))
            stream._response.close()  # noqa: SLF001 - put there by the SDK, for want of another way
            own.settimeout(0)
            return own

        return await self._call("attach to a sandbox", attach, undo=lambda own: own.close())

    async def start(self, container_id: str) -> None:
        """Start a container; one that runs already is fine."""
        await self._call("start a sandbox", lambda client: client.start(container_id))

    async def update(self, container_id: str, resources: Mapping[str, object]) -> None:
        """Change a running container's limits."""
        await self._call("change a sandbox's limits", lambda client: client.update_resources(container_id, resources))

    async def inspect(self, container_id: str) -> ContainerState | None:
        """Return what the engine knows of a container; None if it has none of that id."""
        try:
            found = await self._call("inspect a sandbox", lambda client: client.inspect_container(container_id))
        except SandboxLost:
            return None
        state = found["State"]
        return ContainerState(bool(state["Running"]), bool(state["OOMKilled"]), int(state["ExitCode"]))

    async def usage(self, container_id: str) -> ContainerUsage | None:
        """Return what a container has used so far; None where it does not run, or the engine fails or takes long."""
        client = self._client
        if client is None or self._is_closed:
            return None
        future = asyncio.get_running_loop().run_in_executor(self._threads, client.usage, container_id)
        try:
            async with asyncio.timeout(_USAGE_S):
                return _read_usage(await future)
        except (
            TimeoutError,
            requests.RequestException,
            DockerException,
            LookupError,
            TypeError,
            AttributeError,
            ValueError,
        ):
            return None

    async def last_state(self, container_id: str) -> ContainerState | None:
        """Return the state of a container whose connection ended, once the engine has noticed that it ended too.

        After two seconds it is taken to run on.
        """
        state = None
        for pause in (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 0.0):
            state = await self.inspect(container_id)
            if state is None or not state.is_running:
                break
            await asyncio.sleep(pause)
        return state

    async def kill(self, container_id: str) -> None:
        """Kill everything in a container; one that is gone or does not run is fine."""
        with suppress(SandboxLost):
            await self._call("kill a sandbox", lambda client: client.kill(container_id))

    async def remove(self, name: str) -> None:
        """Kill and remove a container, by name or id; one that is gone, or going, is fine."""
        with suppress(SandboxLost):
            await self._call("remove a sandbox", lambda client: client.remove_container(name, v=True, force=True))

    async def labelled(self, label: str, value: str) -> list[Labelled]:
        """List the containers, running or not, that carry this label."""
        found = await self._call(
            "list sandboxes", lambda client: client.containers(all=True, filters={"label": f"{label}={value}"})
        )
        return [
            Labelled(
                str(each["Id"]),
                str(each["Names"][0]).lstrip("/"),
                each["Labels"],
                is_running=each.get("State", "running") in _HOLDS_PROCESSES,
            )
            for each in found
        ]

    async def close(self) -> None:
        """Let the threads and connections go; call it after everything else has ended."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _look(self) -> tuple[EngineFacts, dict[str, str]]:
        """Return what the engine is, and what it lacks by the setting that names it."""
        if self._client is None:
            self._client = await self._in_thread(lambda: self._make_client(self._settings))
        info = await self._call("tell what it is", lambda client: client.info())
        lacks: dict[str, str] = {}
        lacking = [what for what in REQUIRED_OF_ENGINE if info.get(what) is False]
        if lacking:
            lacks["docker_host"] = (
                f"The Docker engine cannot enforce {', '.join(lacking)}: its kernel or its cgroup set-up lacks the "
                "controller (a rootless engine needs cgroup v2 with delegation)."
            )
        runtimes = self._runtimes(info, lacks)
        image_id = await self._image_id(lacks)
        facts = EngineFacts(str(info["ServerVersion"]), image_id, runtimes[0], int(info["NCPU"]), tuple(runtimes))
        return facts, lacks

    def _runtimes(self, info: Mapping[str, Any], lacks: dict[str, str]) -> list[str]:
        known = info["Runtimes"]
        own = self._settings.runtime or str(info["DefaultRuntime"])
        wanted = {own: "SANDGRAPH_RUNTIME"}
        for further in self._settings.further_runtimes:
            wanted.setdefault(further, "SANDGRAPH_RUNTIMES")
        for runtime, setting in wanted.items():
            if runtime not in known:
                name = setting.removeprefix("SANDGRAPH_").lower()
                before = f"{lacks[name]} " if name in lacks else ""
                lacks[name] = (
                    f"{before}The Docker engine has no runtime {runtime!r} (it has {', '.join(sorted(known))}). "
                    f"Register it in the engine's daemon.json, or change {setting}."
                )
        return list(wanted)

    async def _image_id(self, lacks: dict[str, str]) -> str:
        name = self._settings.runner_image
        try:
            image = await self._call(
                "look at the runner image",
                lambda client: client.inspect_image(name),  # type: ignore[no-untyped-call]
            )
        except SandboxLost:
            lacks["runner_image"] = (
                f"The Docker engine has no image {name!r}: `make setup` builds it; SANDGRAPH_RUNNER_IMAGE chooses."
            )
            return ""
        volumes = (image.get("Config") or {}).get("Volumes")
        if volumes:
            lacks["runner_image"] = (
                f"The runner image {name!r} declares volumes ({', '.join(sorted(volumes))}): each would be a folder on "
                "the engine's disk that a sandbox may fill. Build it without VOLUME."
            )
        return str(image["Id"])

    async def _call(self, what: str, action: Callable[[Client], T], *, undo: Callable[[T], None] | None = None) -> T:
        client = self._client
        if client is None:
            raise EngineUnavailable(f"No Docker engine is connected, so it cannot {what}.")
        began, failed = time.monotonic(), True
        try:
            done = await persistently(
                lambda: self._in_thread(lambda: action(client), undo), _may_pass, within_s=_RETRIES_S, attempts=_TRIES
            )
            failed = False
        except APIError as refused:
            reason = refused.explanation or str(refused)
            if refused.status_code in _GONE:
                # Whoever kills and removes expects this.
                failed = False
                raise SandboxLost(f"The Docker engine could not {what}: {reason}") from refused
            raise EngineUnavailable(f"The Docker engine refused to {what}: {reason}") from refused
        except (requests.RequestException, DockerException) as broken:
            raise EngineUnavailable(f"The Docker engine did not answer when asked to {what}: {broken}") from broken
        else:
            return done
        finally:
            if self._metrics is not None:
                # Its first word: create, attach, start, change, inspect, kill, remove, list, look, tell.
                self._metrics.engine_called(what.partition(" ")[0], time.monotonic() - began, failed=failed)

    async def _in_thread(self, action: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        if self._is_closed:
            raise EngineUnavailable("The connection to the Docker engine was closed.")
        future = asyncio.get_running_loop().run_in_executor(self._threads, action)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await settled(future)
            if undo is not None and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise


def find_engine(settings: Settings) -> Client:
    """Connect to the engine that the settings, the environment, the CLI's context or a known socket names.

    Raises:
        EngineUnavailable: None answers; the message lists what was tried, and why each failed.
        ConfigurationError: It is reached by TLS or SSH, over which sandboxes cannot be attached to.
    """
    tried: list[str] = []
    for options in _addresses(settings):
        address = str(options["base_url"])
        if "tls" in options or address.startswith(("https://", "ssh://")):
            raise ConfigurationError(
                f"The Docker engine at {address} is reached by TLS or SSH, which sandboxes cannot use. Forward its "
                "socket to this machine and set SANDGRAPH_DOCKER_HOST to it."
            )
        try:
            _knock(address)
            return Client(**options, version="auto", timeout=_REQUEST_S, max_pool_size=_THREADS)
        except (DockerException, requests.RequestException, OSError) as broken:
            tried.append(f"{address} ({broken})")
    raise EngineUnavailable(
        f"No Docker engine answers. Tried: {'; '.join(tried)}. Start Docker, or point SANDGRAPH_DOCKER_HOST at it "
        "(for example unix:///var/run/docker.sock); `make setup` finds or installs one."
    )


def _knock(address: str) -> None:
    """Connect to a socket file and hang up: the SDK says less of why it cannot, and leaves its own socket open."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(_REQUEST_S)
            knock.connect(address.removeprefix("unix://"))


def _addresses(settings: Settings) -> Iterable[dict[str, Any]]:
    """Yield the SDK's connection options, the most explicit first; what was chosen explicitly stands alone."""
    if settings.docker_host:
        yield {"base_url": settings.docker_host}
        return
    chosen = kwargs_from_env()
    if "base_url" in chosen:
        yield dict(chosen)
        return
    home = Path.home()
    known = [
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        Path(f"/run/user/{os.getuid()}/docker.sock"),
        home / ".colima/default/docker.sock",
    ]
    options: dict[str, Any] = {}
    # A context file that it cannot read makes the SDK raise a bare Exception.
    with suppress(Exception):
        options = dict(ContextAPI.kwargs_from_context())
    if options.get("base_url"):
        yield options
    for address in (f"unix://{path}" for path in known):
        if address != options.get("base_url"):
            yield {"base_url": address}


def _read_usage(stats: Mapping[str, Any]) -> ContainerUsage | None:
    # Of a container that does not run the engine answers all the same, with nothing in it.
    memory, pids = stats["memory_stats"], stats["pids_stats"]
    if not pids and not memory:
        return None
    cpu_ns = stats["cpu_stats"]["cpu_usage"].get("total_usage")
    # Only cgroup v1 has the peak.
    peak = memory.get("max_usage", memory.get("usage"))
    return ContainerUsage(
        cpu_s=None if cpu_ns is None else cpu_ns / 1e9,
        peak_memory_bytes=None if peak is None else int(peak),
        pids=pids.get("current"),
    )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, APIError):
        return error.is_server_error()
    return isinstance(error, requests.RequestException)
