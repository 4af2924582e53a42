"""`sandgraph db` beside a platform that works, and the commands of docs/operations.md as they are written there."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import small_platform
from places import Place
from postgres_server import Server

from sandgraph.cli.main import main
from sandgraph.store.sqlite import FILE
from sandgraph.store.tables import SCHEMA_VERSION

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
_PROGRAM = Path(small_platform.__file__)


def sandgraph(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process, for its start takes seconds; return its code and what it said."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
        code = main(arguments)
    return code, out.getvalue(), errors.getvalue()


@contextmanager
def platform(place: Place, runs: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_PROGRAM), *place.arguments, "15", str(runs), "stays"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def test_a_backup_is_made_beside_a_platform_and_its_runs_go_on_where_it_is_brought_back(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "backup.db"
    at = ("--data-dir", str(data))
    assert "no database yet" in sandgraph("db", "version", *at)[1]
    assert not data.exists()
    with platform(Place(data, None), runs=5) as process:
        assert process.stdout is not None
        run_ids = [process.stdout.readline().strip() for _ in range(5)]
        assert sandgraph("db", "backup", str(copy), *at)[::2] == (0, "")
        for refused in (("restore", str(copy)), ("migrate",)):
            code, _, said = sandgraph("db", *refused, *at)
            assert code == 1
            assert "in use by another Sandgraph process" in said
        assert f"of schema {SCHEMA_VERSION}" in sandgraph("db", "version", *at)[1]
        assert sandgraph("db", "backup", str(copy), *at) == (
            1,
            "",
            f"sandgraph: file: {copy} is there already; choose another name.\n",
        )
        assert process.stdout.readline() == "done\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    code, said, _ = sandgraph("db", "restore", str(copy), *at)
    assert code == 0
    assert "before-restore" in said
    assert "nothing was to be done" in sandgraph("db", "migrate", *at)[1]
    with platform(Place(data, None), runs=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
    with closing(sqlite3.connect(data / FILE)) as database:
        assert dict(database.execute("SELECT id, status FROM run")) == dict.fromkeys(run_ids, "completed")


@pytest.mark.postgres
def test_the_commands_for_postgresql_bring_a_database_back(tmp_path: Path, postgres_server: Server) -> None:
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.create(name)
    url, restored = (postgres_server.url(each, by_network=True) for each in (name, f"{name}_restored"))
    environment = {
        "SANDGRAPH_DATABASE_URL": url,
        "SANDGRAPH_DATA_DIR": str(tmp_path / "data"),
        "RESTORED_DATABASE_URL": restored,
        "PATH": f"{postgres_server.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    try:
        with platform(Place(tmp_path / "data", url), runs=3) as process:
            assert process.stdout is not None
            run_ids = [process.stdout.readline().strip() for _ in range(3)]
            dump, restore = blocks("Back up and restore", "pg_")
            shell(dump, tmp_path, environment)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        said = shell(restore.replace("sandgraph_restored", f"{name}_restored"), tmp_path, environment)
        assert f"of schema {SCHEMA_VERSION}" in said
        with platform(Place(tmp_path / "data", restored), runs=0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
        found = Place(tmp_path, restored).sql("SELECT id, status FROM run ORDER BY id")
        assert found == [(run_id, "completed") for run_id in run_ids]
        # SQLite's commands say where to look.
        for arguments in (("backup", "x"), ("restore", "x")):
            code, _, refusal = sandgraph("db", *arguments, "--database-url", url)
            assert (code, "pg_dump" in refusal) == (1, True)
            assert postgres_server.password not in refusal
    finally:
        for each in (name, f"{name}_restored"):
            postgres_server.drop(each)


def test_the_commands_for_sqlite_bring_a_database_back_and_upgrade_it(tmp_path: Path) -> None:
    assert sandgraph("db", "migrate", "--data-dir", str(tmp_path / "data"))[0] == 0
    backup, restore = blocks("Back up and restore", "sandgraph db")[:2]
    typed(backup, tmp_path)
    said = typed("\n".join(line for line in restore.splitlines() if " serve" not in line), tmp_path)
    assert "before-restore" in said
    before, after = blocks("Upgrade", "sandgraph db")
    assert f"of schema {SCHEMA_VERSION}" in typed(before, tmp_path)
    assert (tmp_path / "before-upgrade.db").exists()
    assert "nothing was to be done" in typed(after.replace("sandgraph serve", ""), tmp_path)


def blocks(section: str, word: str) -> list[str]:
    """Return the commands of a section of the page that have a word in them, a block each."""
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if word in block]


def typed(commands: str, folder: Path) -> str:
    """Run commands of ours as a shell would, but in this process; return what they said."""
    said = ""
    with chdir(folder):
        for line in filter(None, commands.splitlines()):
            program, *arguments = shlex.split(line)
            assert program == "sandgraph"
            code, out, errors = sandgraph(*arguments)
            assert code == 0, errors
            said += out
    return said


def shell(commands: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=os.environ | dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
