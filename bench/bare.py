"""What one pays without Sandgraph: the command line, the SDK, and an exec into a container that runs already."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import docker

from sandgraph.model.limits import Limits
from sandgraph.sandbox.profile import Image, container_config, load_seccomp

_NOTHING = ["python3", "-I", "-S", "-c", "pass"]
#: The flags of `docker run` that come nearest to our profile.
_HARDENED = (
    "--network=none",
    "--ipc=private",
    "--read-only",
    "--tmpfs=/tmp:size=16m,noexec",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--user=65534:65534",
    "--memory=256m",
    "--memory-swap=256m",
    "--cpus=1",
    "--pids-limit=64",
    "--log-driver=none",
)

Config = Mapping[str, object]


class Bare:
    """The engine without us.

    Args:
        image: The image to run; the runner's, so that both sides start the same.
    """

    def __init__(self, image: str) -> None:
        self._client = docker.APIClient(max_pool_size=32, timeout=30)
        self._image = str(self._client.inspect_image(image)["Id"])  # type: ignore[no-untyped-call]
        self._runtime = str(self._client.info()["DefaultRuntime"])

    def plain(self) -> Config:
        """Return a container that ends at once, with nothing asked for but no network."""
        return {"Image": self._image, "Entrypoint": _NOTHING, "Cmd": [], "HostConfig": {"NetworkMode": "none"}}

    def hardened(self) -> Config:
        """Return the same in our whole profile."""
        ours = container_config(Image(self._image, self._runtime, load_seccomp()), Limits(), {})
        changed = {"Entrypoint": _NOTHING, "Cmd": [], "OpenStdin": False, "AttachStdin": False, "StdinOnce": False}
        return {**ours, **changed}

    def whole(self, config: Config) -> float:
        """Return the seconds of create, start, wait and remove."""
        began = time.perf_counter()
        made = self._client.create_container_from_config(dict(config))  # type: ignore[no-untyped-call]
        container = str(made["Id"])
        try:
            self._client.start(container)
            self._client.wait(container)
        finally:
            self._client.remove_container(container, force=True)
        return time.perf_counter() - began

    def rate(self, config: Config, parallelism: int, count: int) -> float:
        """Return how many of those a second so many threads reach."""
        with ThreadPoolExecutor(parallelism) as threads:
            began = time.perf_counter()
            for _ in threads.map(self.whole, [config] * count):
                pass
            return count / (time.perf_counter() - began)

    def command(self, *, hardened: bool) -> float:
        """Return the seconds of a `docker run` of the command line."""
        flags = _HARDENED if hardened else ()
        began = time.perf_counter()
        subprocess.run(  # noqa: S603 - the flags are ours
            ["docker", "run", "--rm", "--entrypoint=python3", *flags, self._image, *_NOTHING[1:]],  # noqa: S607
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
        return time.perf_counter() - began

    @contextmanager
    def running(self) -> Iterator[str]:
        """Keep a container running for the length of the block."""
        config = {**self.plain(), "Entrypoint": ["python3", "-c", "import time; time.sleep(600)"]}
        made = self._client.create_container_from_config(config)  # type: ignore[no-untyped-call]
        container = str(made["Id"])
        try:
            self._client.start(container)
            yield container
        finally:
            self._client.remove_container(container, force=True)

    def execute(self, container: str) -> float:
        """Return the seconds of an exec in it."""
        began = time.perf_counter()
        self._client.exec_start(self._client.exec_create(container, _NOTHING)["Id"])
        return time.perf_counter() - began

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()
