"""A PostgreSQL server of the tests' own: in a folder of its own, on loopback, and gone when they are done."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

_OLDEST = 15

#: Nothing of it has to outlive the machine, and two cores are shared.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "jit": "off",
    "listen_addresses": "127.0.0.1",
}


def programs() -> Path | None:
    """Return the folder of the newest server's programs that is new enough; None if there is none."""
    on_path = shutil.which("initdb")
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *([Path(on_path).parent] if on_path else [])]
    found = {folder: _version(folder) for folder in folders}
    usable = {folder: version for folder, version in found.items() if version >= _OLDEST}
    return max(usable, key=lambda folder: usable[folder]) if usable else None


def _version(folder: Path) -> int:
    if not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return 0
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"(\d+)", said)
    return int(number[1]) if number else 0


class Server:
    """A server that runs; make it with `running`."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self.programs = programs
        self.folder = folder
        self.password = secrets.token_hex(8)
        self.port = _free_port()
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, *, by_network: bool = False) -> str:
        """Return the URL of a database, over a socket in the folder or with a password over the network."""
        if by_network:
            return f"postgresql://sandgraph:{self.password}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://sandgraph@/{database}?host={self.folder}&port={self.port}"

    @contextmanager
    def asked(self, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Yield a connection that commits each statement."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def create(self, name: str, template: str = "template0") -> str:
        """Make a database, and return its URL."""
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.asked() as connection:
            connection.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.asked() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs, as the user that the server runs as."""
        return subprocess.run(
            [self.programs / program, *arguments],
            user=self._user,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=self.folder,
        )

    def make(self) -> None:
        """Make its folder of data."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self._user:
            shutil.chown(secret, self._user)
        auth = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        data = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        self.run("initdb", "-D", str(self.folder / "data"), "-U", "sandgraph", *auth, *data)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", str(self.folder / "data"), *options],
                user=self._user,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.asked():
                    return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``fast`` ends what is connected, ``immediate`` is a crash."""
        if self._process is not None:
            self.run("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", how, "-t", "30")
            self._process.wait(30)
            self._process = None

    def restart(self, how: str = "fast") -> None:
        """Stop it, and start it on the same port."""
        self.stop(how)
        self.start()


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    """Yield a server; it is stopped and removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="sandgraph-pg-") as name:
        folder = Path(name)
        # It refuses to run as root.
        user = _other_user() if os.geteuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        server = Server(programs, folder, user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
