"""Setup's decisions, each against files and programs of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import base_image, console, debian, dotenv, engine, gvisor, images, postgres
from scripts.engine import Engine

ENGINE = Engine("unix:///nowhere", "1.0", configured=True)


def program(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
    file.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("DOCKER_HOST", "SANDGRAPH_DOCKER_HOST", "SANDGRAPH_BASE_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def _bookworm(monkeypatch: pytest.MonkeyPatch) -> None:
    found = debian.Release("Debian 12", frozenset({"debian"}), "bookworm")
    monkeypatch.setattr(debian, "release", lambda: found)


class TestMirror:
    def test_is_read_from_one_line_sources(self, apt: Path) -> None:
        (apt / "sources.list").write_text(
            "# deb http://old.invalid/debian bookworm main\n"
            "deb-src http://source.invalid/debian bookworm main\n"
            "deb http://security.invalid/debian-security bookworm-security main\n"
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.invalid/debian bookworm main\n",
            encoding="utf-8",
        )
        assert debian.mirror(apt) == "http://mirror.invalid/debian"

    def test_is_read_from_stanzas(self, apt: Path) -> None:
        (apt / "sources.list.d" / "debian.sources").write_text(
            "Types: deb\nURIs: http://off.invalid/debian\nSuites: bookworm\nEnabled: no\n\n"
            "Types: deb deb-src\n# http://comment.invalid\nURIs: http://mirror.invalid/debian http://two.invalid\n"
            "Suites: bookworm bookworm-updates\nComponents: main\n",
            encoding="utf-8",
        )
        assert debian.mirror(apt) == "http://mirror.invalid/debian"

    def test_that_is_not_there_is_said(self, apt: Path) -> None:
        (apt / "sources.list.d" / "other.list.disabled").write_text("deb http://x.invalid/d bookworm main\n")
        with pytest.raises(console.SetupError, match="no Debian mirror"):
            debian.mirror(apt)


def test_the_distribution_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    file = tmp_path / "os-release"
    file.write_text('PRETTY_NAME="Mint 22"\nID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\n')
    assert debian.release(file) == debian.Release("Mint 22", frozenset({"linuxmint", "ubuntu", "debian"}), "wilma")
    assert debian.release(tmp_path / "none").family == frozenset()


class TestFind:
    def test_without_the_command_there_is_none(self, bin_folder: Path) -> None:
        assert bin_folder.is_dir()
        assert engine.find() is None

    def test_the_command_s_own_choice_comes_first(self, bin_folder: Path) -> None:
        program(
            bin_folder,
            "docker",
            'case "$1" in context) echo unix:///chosen.sock;; version) [ -z "$DOCKER_HOST" ] && echo 9.9;; esac',
        )
        assert engine.find() == Engine("unix:///chosen.sock", "9.9", configured=True)

    def test_a_known_socket_comes_next(self, bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # A socket's address has room for about a hundred characters.
        monkeypatch.chdir(tmp_path)
        home = tmp_path / "home"
        known = home / ".docker" / "run" / "docker.sock"
        known.parent.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr(engine, "SYSTEM_SOCKET", tmp_path / "absent.sock")
        program(
            bin_folder,
            "docker",
            f'[ "$1" = version ] && [ "$DOCKER_HOST" = "unix://{known}" ] && echo 9.9',
        )
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(known))
            found = engine.find()
        assert found == Engine(f"unix://{known}", "9.9", configured=False)
        assert found.env == {"DOCKER_HOST": f"unix://{known}"}

    @pytest.mark.parametrize("setting", ["DOCKER_HOST", "SANDGRAPH_DOCKER_HOST"])
    def test_a_choice_that_does_not_answer_is_not_passed_over(
        self, bin_folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str
    ) -> None:
        program(bin_folder, "docker", '[ -z "$DOCKER_HOST" ] && echo 9.9')
        monkeypatch.setenv(setting, "tcp://127.0.0.1:9")
        with pytest.raises(console.SetupError, match=setting):
            engine.find()

    def test_nothing_is_installed_where_that_is_not_ours_to_do(
        self, bin_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(bin_folder, "docker", "exit 1")
        program(bin_folder, "apt-get", f": > {bin_folder}/called")
        monkeypatch.setattr(engine, "SYSTEM_SOCKET", bin_folder / "absent.sock")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(console.SetupError, match=r"no engine answers.*sudo apt-get install docker\.io"):
            engine.ensure()
        assert not (bin_folder / "called").exists()


class TestLeftovers:
    def test_of_a_dead_engine_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        # The number is alive, but it is this test's, as after a reboot.
        pid = Path("docker.pid")
        pid.write_text(str(os.getpid()), encoding="ascii")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("containerd.sock")
        monkeypatch.setattr(engine, "PID_FILES", ((pid, "dockerd"),))
        monkeypatch.setattr(engine, "CONTAINERD_SOCKETS", (Path("containerd.sock"),))
        engine.forget_dead_processes()
        assert list(tmp_path.iterdir()) == []

    def test_of_a_living_one_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        pid = Path("docker.pid")
        pid.write_text(str(os.getpid()), encoding="ascii")
        own = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        monkeypatch.setattr(engine, "PID_FILES", ((pid, own),))
        monkeypatch.setattr(engine, "CONTAINERD_SOCKETS", (Path("containerd.sock"),))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("containerd.sock")
            listener.listen()
            engine.forget_dead_processes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["containerd.sock", "docker.pid"]


class TestDotenv:
    def test_missing_lines_are_added_and_others_left(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / ".env"
        file.write_text("# mine\nA=1\nB='two'", encoding="utf-8")
        dotenv.write(file, {"A": "2", "B": "two", "C": "3"})
        assert dotenv.read(file) == {"A": "1", "B": "two", "C": "3"}
        assert file.read_text(encoding="utf-8").startswith("# mine\nA=1\nB='two'\n")
        assert "keeps its own A=1" in capsys.readouterr().out

    def test_a_second_time_changes_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        dotenv.write(file, {"A": "1"})
        before = file.read_bytes()
        dotenv.write(file, {"A": "1"})
        assert file.read_bytes() == before

    def test_with_nothing_to_say_there_is_no_file(self, tmp_path: Path) -> None:
        dotenv.write(tmp_path / ".env", {})
        assert not (tmp_path / ".env").exists()


class TestImages:
    @pytest.fixture
    def context(self, tmp_path: Path) -> Path:
        package = tmp_path / "sandgraph_runner"
        package.mkdir()
        (tmp_path / "Dockerfile").write_text("FROM x\n", encoding="utf-8")
        (package / "child.py").write_text("a = 1\n", encoding="utf-8")
        return tmp_path

    def test_the_hash_is_of_contents_names_and_base(self, context: Path) -> None:
        seen = {images.inputs(context, "base")}
        seen.add(images.inputs(context, "another base"))
        (context / "sandgraph_runner" / "child.py").write_text("a = 2\n", encoding="utf-8")
        seen.add(images.inputs(context, "base"))
        (context / "sandgraph_runner" / "child.py").rename(context / "sandgraph_runner" / "kid.py")
        seen.add(images.inputs(context, "base"))
        (context / "Dockerfile").write_text("FROM y\n", encoding="utf-8")
        seen.add(images.inputs(context, "base"))
        assert len(seen) == 5

    def test_the_hash_is_not_of_caches(self, context: Path) -> None:
        before = images.inputs(context, "base")
        cache = context / "sandgraph_runner" / "__pycache__"
        cache.mkdir()
        (cache / "child.cpython-311.pyc").write_bytes(b"x")
        assert images.inputs(context, "base") == before

    def test_a_silent_registry_costs_seconds(
        self, bin_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        program(bin_folder, "docker", "exec /bin/sleep 60")
        monkeypatch.setattr(images, "FIRST_WORD_S", 0.2)
        assert not images.pull(ENGINE, "python:3.13-slim")
        assert "no answer" in capsys.readouterr().out

    def test_a_registry_s_refusal_is_told(self, bin_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        program(bin_folder, "docker", "echo pulling; echo 'x509: unknown authority' >&2; exit 1")
        assert not images.pull(ENGINE, "python:3.13-slim")
        assert "x509: unknown authority" in capsys.readouterr().out

    def test_a_pull_that_works_is_taken(self, bin_folder: Path) -> None:
        program(bin_folder, "docker", "echo pulling; exit 0")
        assert images.pull(ENGINE, "python:3.13-slim")

    def test_the_user_s_base_wins_and_must_exist(self, bin_folder: Path, tmp_path: Path) -> None:
        program(bin_folder, "docker", '[ "$1" = image ] && [ "$5" = mine:1 ] && echo sha256:1')
        file = tmp_path / ".env"
        file.write_text("SANDGRAPH_BASE_IMAGE=mine:1\n", encoding="utf-8")
        assert images.ensure_base(ENGINE, file) == "mine:1"
        file.write_text("SANDGRAPH_BASE_IMAGE=gone:1\n", encoding="utf-8")
        with pytest.raises(console.SetupError, match="gone:1"):
            images.ensure_base(ENGINE, file)

    @pytest.mark.parametrize(("label", "expected"), [("", True), ("of-yesterday", False), (base_image.recipe(), True)])
    def test_a_base_of_an_old_recipe_is_made_again(self, bin_folder: Path, label: str, *, expected: bool) -> None:
        program(bin_folder, "docker", f"echo {label}")
        assert base_image.present(ENGINE) is expected

    def test_where_no_base_can_be_made_it_says_what_to_do(
        self, bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(bin_folder, "docker", "exit 1")
        monkeypatch.setattr(debian, "may_install", lambda: False)
        with pytest.raises(console.SetupError, match="SANDGRAPH_BASE_IMAGE"):
            images.ensure_base(ENGINE, tmp_path / ".env")
        assert not base_image.present(ENGINE)


class TestGvisor:
    @pytest.fixture
    def machine(self, bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A Debian machine whose engine takes up what its configuration names once it is told to read it."""
        program(bin_folder, "docker", f"exec /bin/cat {tmp_path}/known")
        program(bin_folder, "apt-cache", "echo 'Candidate: 1'")
        program(
            bin_folder,
            "apt-get",
            f'echo "$@" >> {tmp_path}/apt',
            f"printf '#!/bin/sh\\n' > {bin_folder}/runsc; /bin/chmod 755 {bin_folder}/runsc",
        )
        monkeypatch.setattr(debian, "may_install", lambda: True)
        monkeypatch.setattr(gvisor, "DAEMON_JSON", tmp_path / "etc" / "daemon.json")
        monkeypatch.setattr(gvisor, "ENGINE_PID", tmp_path / "docker.pid")
        monkeypatch.setattr(gvisor, "RELOAD_S", 0.3)
        (tmp_path / "docker.pid").write_text("4711\n", encoding="ascii")
        (tmp_path / "known").write_text("runc ", encoding="ascii")

        def reload(pid: int, number: int) -> None:
            assert (pid, number) == (4711, signal.SIGHUP)
            names = json.loads((tmp_path / "etc" / "daemon.json").read_text(encoding="utf-8"))["runtimes"]
            (tmp_path / "known").write_text(f"runc {' '.join(names)}", encoding="ascii")

        monkeypatch.setattr(os, "kill", reload)
        return tmp_path

    def test_from_nothing_is_installed_registered_and_taken_up(self, machine: Path, bin_folder: Path) -> None:
        gvisor.ensure(ENGINE)
        assert "install runsc" in (machine / "apt").read_text(encoding="utf-8")
        settings = json.loads((machine / "etc" / "daemon.json").read_text(encoding="utf-8"))
        entry = {"path": f"{bin_folder}/runsc", "runtimeArgs": list(gvisor.ARGUMENTS)}
        assert settings == {"runtimes": {"runsc": entry}}
        before = (machine / "apt").read_bytes()
        gvisor.ensure(ENGINE)
        assert (machine / "apt").read_bytes() == before

    def test_the_engine_s_other_settings_stay(self, machine: Path) -> None:
        file = machine / "etc" / "daemon.json"
        file.parent.mkdir()
        mine = {"log-driver": "local", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}
        file.write_text(json.dumps(mine), encoding="utf-8")
        file.chmod(0o640)
        gvisor.ensure(ENGINE)
        settings = json.loads(file.read_text(encoding="utf-8"))
        assert settings["runtimes"].pop("runsc")["path"].endswith("/runsc")
        assert settings == mine
        assert file.stat().st_mode & 0o777 == 0o640
        assert [each.name for each in file.parent.iterdir()] == ["daemon.json"]

    def test_an_entry_of_the_operator_s_own_stays(self, tmp_path: Path) -> None:
        file = tmp_path / "daemon.json"
        file.write_text('{"runtimes": {"runsc": {"path": "/opt/runsc"}}}', encoding="utf-8")
        before = file.read_bytes()
        gvisor.register(file, "/usr/bin/runsc", [])
        assert file.read_bytes() == before

    @pytest.mark.parametrize("text", ["{", "[]", '{"runtimes": []}'])
    def test_a_configuration_that_cannot_be_read_is_left_as_it_is(self, machine: Path, text: str) -> None:
        file = machine / "etc" / "daemon.json"
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        with pytest.raises(console.SetupError, match=r"daemon\.json"):
            gvisor.ensure(ENGINE)
        assert file.read_text(encoding="utf-8") == text

    def test_an_engine_that_does_not_take_it_up_is_an_error(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "kill", lambda *_: None)
        with pytest.raises(console.SetupError, match="restart the engine"):
            gvisor.ensure(ENGINE)
        assert (machine / "etc" / "daemon.json").exists()

    def test_where_it_may_not_be_installed_it_says_what_to_do(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(debian, "may_install", lambda: False)
        with pytest.raises(console.SetupError, match=r"gvisor\.dev"):
            gvisor.ensure(ENGINE)
        assert not (machine / "apt").exists()


class TestConsole:
    def test_a_failure_shows_the_output(self) -> None:
        with pytest.raises(console.SetupError, match="the reason"):
            console.work(
                "x", "failing", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], timeout_s=30
            )

    def test_a_command_that_hangs_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(console, "TICK_S", 0.1)
        with pytest.raises(console.SetupError, match="gave up"):
            console.work("x", "hanging", ["/bin/sleep", "60"], timeout_s=0.3)


def test_an_old_python_is_refused_in_words() -> None:
    root = Path(__file__).resolve().parents[2]
    code = "from scripts import packages, setup; packages.OLDEST = (99, 0); raise SystemExit(setup.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "newer is needed" in done.stderr


class TestPostgres:
    def server(self, folder: Path, release: str) -> None:
        program(folder, "postgres", f'echo "postgres (PostgreSQL) {release}"')
        program(folder, "initdb", "exit 1")

    def test_the_newest_server_is_taken(self, tmp_path: Path, bin_folder: Path) -> None:
        assert postgres.find(tmp_path) is None
        for release in ("9.6", "14.2", "15.4", "17beta1", "16.0"):
            (tmp_path / release).mkdir()
            self.server(tmp_path / release / "bin", release)
        assert postgres.find(tmp_path) == (tmp_path / "17beta1" / "bin", 17)
        self.server(bin_folder, "18.1")
        assert postgres.find(tmp_path) == (bin_folder, 18)

    @pytest.mark.usefixtures("bin_folder")
    def test_one_that_is_too_old_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "14").mkdir()
        self.server(tmp_path / "14" / "bin", "14.9")
        monkeypatch.setattr(debian, "may_install", lambda: False)
        assert not postgres.ensure(tmp_path)
        assert "apt-get install postgresql" in capsys.readouterr().out

    @pytest.mark.usefixtures("bin_folder")
    def test_as_root_on_debian_it_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []

        def install(_: str, packages: list[str]) -> None:
            done.extend(packages)
            (tmp_path / "15").mkdir()
            self.server(tmp_path / "15" / "bin", "15.8")

        monkeypatch.setattr(debian, "may_install", lambda: True)
        monkeypatch.setattr(debian, "available", lambda _: bool(done))
        monkeypatch.setattr(debian, "update", lambda _: done.append("update"))
        monkeypatch.setattr(debian, "install", install)
        assert postgres.ensure(tmp_path)
        assert done == ["update", "postgresql"]
        assert postgres.ensure(tmp_path)
        assert done == ["update", "postgresql"]
