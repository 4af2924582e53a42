"""A Docker engine of a test's own, to be killed and started again without harm to the machine's.

It runs beside the machine's engine with folders, a socket and a containerd of its own, and touches neither the
network nor the firewall.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 30.0
_STOP_S = 15.0
_COPY_S = 60


class NoOwnEngine(Exception):
    """None can be had here."""


class OwnEngine:
    """One engine: two daemons, and the shims that containerd starts.

    Args:
        folder: Everything of it is in there; short, because paths of sockets are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self.address = f"unix://{folder}/d.sock"

    def start(self) -> None:
        """Start what does not run, and wait until it answers."""
        if self._containerd is None:
            with suppress(FileNotFoundError):
                (self.folder / "c.sock").unlink()
            self._containerd = self._daemon(
                "containerd",
                f"--address={self.folder}/c.sock",
                f"--root={self.folder}/c",
                f"--state={self.folder}/cs",
                f"--config={self.folder}/c.toml",
            )
            self._await((self.folder / "c.sock").exists, self._containerd)
        if self._dockerd is None:
            # Left by an engine that was killed; its number may be another process's by now.
            (self.folder / "d.pid").unlink(missing_ok=True)
            self._dockerd = self._daemon(
                "dockerd",
                f"--host={self.address}",
                f"--containerd={self.folder}/c.sock",
                f"--data-root={self.folder}/d",
                f"--exec-root={self.folder}/ds",
                f"--pidfile={self.folder}/d.pid",
                f"--config-file={self.folder}/d.json",
                # Its containers are its own also in containerd, and in the kernel's groups.
                "--containerd-namespace=own",
                "--containerd-plugins-namespace=own-plugins",
                f"--cgroup-parent=/{self.folder.name}",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
                "--ip-masq=false",
                "--userland-proxy=false",
            )
            self._await(self._answers, self._dockerd)

    def kill(self, *, containerd: bool = False) -> None:
        """Kill it with SIGKILL, with or without its containerd; what runs in containers is not asked."""
        self._end(containerd=containerd, how=signal.SIGKILL)

    def docker(self, *arguments: str, timeout_s: float = 20) -> str:
        """Run the client and return what it says."""
        done = subprocess.run(
            ["docker", f"--host={self.address}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def copy_image(self, name: str) -> None:
        """Give it an image of the machine's engine."""
        with tempfile.TemporaryFile() as err:
            saving = subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE, stderr=err)
            try:
                loading = ["docker", f"--host={self.address}", "load", "--quiet"]
                subprocess.run(loading, stdin=saving.stdout, stdout=err, stderr=err, check=True, timeout=_COPY_S)
                assert saving.wait(_COPY_S) == 0
            finally:
                saving.kill()
                saving.wait()
                assert saving.stdout is not None
                saving.stdout.close()

    def close(self) -> None:
        """End it and everything that it started; nothing is left."""
        try:
            if self._dockerd is not None:
                with suppress(AssertionError, subprocess.TimeoutExpired):
                    if ids := self.docker("ps", "-aq").split():
                        self.docker("rm", "-f", *ids, timeout_s=_STOP_S)
        finally:
            self._end(containerd=True, how=signal.SIGTERM)
            # Shims outlive their containerd, and containers their shims.
            until = time.monotonic() + _STOP_S
            while (left := self._processes()) and time.monotonic() < until:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            for mount in sorted(self._mounts(), reverse=True):
                subprocess.run(["umount", "--lazy", mount], check=False, timeout=_STOP_S, capture_output=True)
            for group in self._groups():
                with suppress(OSError):
                    group.rmdir()
            shutil.rmtree(self.folder, ignore_errors=True)
        assert not self._processes(), "processes of the engine are left"
        assert not self._mounts(), "mounts of the engine are left"
        assert not self.folder.exists(), f"{self.folder} is left"

    def log(self) -> str:
        """Return the last of what its daemons said."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))

    def _end(self, *, containerd: bool, how: signal.Signals) -> None:
        _signal(self._dockerd, how)
        self._dockerd = None
        if containerd:
            _signal(self._containerd, how)
            self._containerd = None

    def _daemon(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                # In a network of its own: with `--bridge=none` it would delete the docker0 of the machine's engine.
                ["unshare", "--net", "--", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _await(self, is_ready: Callable[[], bool], daemon: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_S
        while not is_ready():
            if daemon.poll() is not None or time.monotonic() > until:
                raise NoOwnEngine(f"No engine of its own starts here: {self.log()[-1000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        asked = ["docker", f"--host={self.address}", "version"]
        return subprocess.run(asked, check=False, capture_output=True, timeout=20).returncode == 0

    def _processes(self) -> list[int]:
        """Return what names the folder in its command, and what is in one of the engine's groups of the kernel."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    command, groups = (entry / "cmdline").read_bytes(), (entry / "cgroup").read_bytes()
                    named = f"{self.folder}/".encode() in command.replace(b"\0", b" ")
                    if (named and _is_of_engine(command)) or f"/{self.folder.name}/".encode() in groups:
                        found.add(int(entry.name))
        return sorted(found)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        points = (line.split()[4] for line in lines)
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def _groups(self) -> Iterator[Path]:
        root = Path("/sys/fs/cgroup")
        for top in [*root.glob(self.folder.name), *root.glob(f"*/{self.folder.name}")]:
            for folder, _, _ in os.walk(top, topdown=False):
                yield Path(folder)


def _is_of_engine(command: bytes) -> bool:
    return any(name in command.partition(b"\0")[0] for name in (b"dockerd", b"containerd", b"runc"))


def _signal(daemon: subprocess.Popen[bytes] | None, how: signal.Signals) -> None:
    if daemon is not None:
        daemon.send_signal(how)
        try:
            daemon.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextmanager
def own_engine(*images: str) -> Iterator[OwnEngine]:
    """Have an engine with these images of the machine's for the length of the block.

    Raises:
        NoOwnEngine: None can be had here; the message says why.
    """
    if os.geteuid() != 0:
        raise NoOwnEngine("Only root can start a Docker engine of its own.")
    missing = [program for program in ("dockerd", "containerd", "docker") if shutil.which(program) is None]
    if missing:
        raise NoOwnEngine(f"There is no {' and no '.join(missing)} to start.")
    engine = OwnEngine(Path(tempfile.mkdtemp(prefix="sandgraph-engine-")))
    (engine.folder / "d.json").write_text("{}")
    # Of containerd's own parts those alone that Docker uses.
    (engine.folder / "c.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    try:
        engine.start()
        for image in images:
            engine.copy_image(image)
        yield engine
    finally:
        engine.close()
