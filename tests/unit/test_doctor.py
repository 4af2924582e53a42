"""What `sandgraph doctor` finds, what it advises, and how it says so to people and to programs."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from sandgraph import doctor
from sandgraph.checks import Finding, Level
from sandgraph.cli.doctor import EXIT_CODES, show, worst_of
from sandgraph.cli.main import main
from sandgraph.errors import ConfigurationError, EngineUnavailable
from sandgraph.model.access import ALL_SCOPES, DEFAULT_TENANT
from sandgraph.model.limits import Limits
from sandgraph.sandbox import diagnosis as engines
from sandgraph.sandbox.diagnosis import EngineDescription, weaknesses
from sandgraph.settings import Settings, load_settings
from sandgraph.store import diagnosis
from sandgraph.store.beside import keys_of
from sandgraph.store.sqlite import FILE
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio

ENGINE = EngineDescription(
    version="26.1",
    system="Debian",
    cgroup="2",
    storage="overlay2",
    security=frozenset({"seccomp", "rootless"}),
    runtimes=("runc",),
    keeps_running=True,
    at=None,
    warnings=(),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path / "data", port=0, docker_host=f"unix://{tmp_path}/none.sock")


async def findings(settings: Settings, check: str) -> dict[Level, list[str]]:
    """Return what the looks find under the name of a check, by level."""
    out: dict[Level, list[str]] = {}
    for name, (look, _, _) in doctor._LOOKS.items():
        if name in {"sandbox", "engine_set_up"} and name != check:
            continue
        for each in await doctor._patient(name, look, settings):
            if each.check == check:
                out.setdefault(each.level, []).append(each.line)
    return out


async def test_nothing_is_made_where_there_was_nothing(settings: Settings) -> None:
    found = await doctor.examine_deployment(settings, is_quick=True)
    assert not settings.data_dir.exists()
    # The engine is not there; one line says so, and not each look that needs it.
    assert [each.check for each in found if each.level is Level.FAIL] == ["engine"]


async def test_a_data_folder_that_others_can_read_is_said(settings: Settings) -> None:
    settings.data_dir.mkdir(mode=0o700)
    assert Level.WARN not in await findings(settings, "data_folder")
    settings.data_dir.chmod(0o755)
    assert "chmod 700" in (await findings(settings, "data_folder"))[Level.WARN][0]


@pytest.mark.parametrize(("kind", "level"), [("nfs4", Level.FAIL), ("tmpfs", Level.WARN), ("ext4", Level.OK)])
async def test_the_file_system_decides(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level
) -> None:
    monkeypatch.setattr(diagnosis, "_kind_of", lambda _: kind)
    assert list(await findings(settings, "file_system")) == [level]


def test_the_kind_of_a_file_system_is_the_kernels() -> None:
    assert diagnosis.place(Path("/proc/self")).kind == "proc"
    assert diagnosis.place(Path("/no/such/folder")).kind != "proc"


async def test_a_folder_without_write_ahead_logs_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.data_dir.mkdir(mode=0o700)
    assert diagnosis.log_trouble(settings.data_dir) is None
    assert list(settings.data_dir.iterdir()) == []

    def broken(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("locking protocol")

    monkeypatch.setattr(sqlite3, "connect", broken)
    assert "locking protocol" in (await findings(settings, "file_system"))[Level.FAIL][0]


async def test_a_whole_database_is_called_whole_and_a_damaged_one_damaged(settings: Settings) -> None:
    store = await Store.open(settings.data_dir)
    await store.close()
    assert "It is whole" in (await findings(settings, "integrity"))[Level.OK][0]
    file = settings.data_dir / FILE
    data = bytearray(file.read_bytes())
    data[4_096:-4_096] = bytes(len(data) - 8_192)
    file.write_bytes(data)
    (said,) = (await findings(settings, "integrity"))[Level.FAIL]
    assert "damaged" in said
    assert "bring a backup back" in said


async def test_rows_that_refer_to_none_are_damage(settings: Settings) -> None:
    store = await Store.open(settings.data_dir)
    await store.close()
    with closing(sqlite3.connect(settings.data_dir / FILE)) as database, database:
        database.execute("INSERT INTO run_state VALUES ('run_x', 'initial', '{}')")
    assert "run_state" in (await findings(settings, "integrity"))[Level.FAIL][0]


def test_a_look_that_takes_too_long_says_how_far_it_came(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("CREATE TABLE t (x)")
        database.execute(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) "
            "INSERT INTO t SELECT x FROM n"
        )
    found = diagnosis.contents(tmp_path, 0.0)
    assert found is not None
    assert (found.damage, found.is_all) == (None, False)


async def test_a_key_that_ends_soon_is_named_and_its_secret_is_not(settings: Settings) -> None:
    secrets = []
    async with keys_of(settings.data_dir) as keys:
        for name, days in (("soon", 3), ("later", 300)):
            made = {"name": name, "scopes": ALL_SCOPES, "expires_in": timedelta(days=days)}
            secrets.append((await keys.create(DEFAULT_TENANT, created_by="test", **made))[1])  # type: ignore[arg-type]
    (said,) = (await findings(settings, "keys"))[Level.WARN]
    assert "'soon'" in said
    assert not [secret for secret in secrets if secret in said]


async def engine_findings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, check: str = "engine_set_up", **what: object
) -> dict[Level, list[str]]:
    async def describe(_: Settings) -> EngineDescription:
        return replace(ENGINE, **what)  # type: ignore[arg-type]

    monkeypatch.setattr(engines, "describe_engine", describe)
    out: dict[Level, list[str]] = {}
    for each in await doctor._engine(settings):
        if each.check == check:
            out.setdefault(each.level, []).append(each.line)
    return out


async def test_an_engine_that_is_set_up_well_is_fine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(await engine_findings(settings, monkeypatch)) == {Level.OK}


@pytest.mark.parametrize(
    ("what", "level"),
    [({"security": frozenset({"apparmor"})}, Level.FAIL), ({"storage": "vfs"}, Level.WARN)],
)
async def test_an_engine_without_what_matters_is_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, what: Mapping[str, object], level: Level
) -> None:
    (said,) = (await engine_findings(settings, monkeypatch, **what))[level]  # type: ignore[arg-type]
    assert "Use" in said


@pytest.mark.parametrize(("skew_s", "level"), [(0, Level.OK), (-40, Level.WARN), (40, Level.WARN)])
async def test_clocks_that_differ_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, skew_s: int, level: Level
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=skew_s)
    assert list(await engine_findings(settings, monkeypatch, "clock", at=at)) == [level]


@pytest.mark.parametrize("text", ["2026-11-23T12:00:00.123456789Z", "2026-11-23T13:00:00.5+01:00"])
def test_the_engines_time_is_read_with_its_nanoseconds(text: str) -> None:
    assert engines._time(text) == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert engines._time("noon") is None


FINE: dict[str, object] = {
    "interfaces": ["lo"],
    "uid": 65534,
    "CapEff": "0000000000000000",
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "writable_root": False,
    "memory": str(Limits().memory_mb * 2**20),
    "pids": str(Limits().pids),
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"interfaces": ["eth0", "lo"]}, "network: eth0"),
        ({"uid": 0}, "user 0"),
        ({"CapEff": "00000000a80425fb"}, "capabilities"),
        ({"writable_root": True}, "root can be written"),
        ({"NoNewPrivs": "0"}, "privileges"),
        ({"Seccomp": "0"}, "seccomp"),
        ({"memory": "max"}, "limit of memory"),
        ({"memory": "9223372036854771712"}, "limit of memory"),
        ({"pids": "max"}, "limit of pids"),
    ],
)
def test_a_wall_that_is_missing_is_named(changed: Mapping[str, object], said: str) -> None:
    assert weaknesses(FINE, Limits(), is_gvisor=False) == []
    (found,) = weaknesses({**FINE, **changed}, Limits(), is_gvisor=False)
    assert said in found


def test_gvisor_is_not_asked_for_what_it_does_not_tell() -> None:
    told = {**FINE, "NoNewPrivs": "", "Seccomp": "", "memory": "", "pids": ""}
    assert weaknesses(told, Limits(), is_gvisor=True) == []
    assert weaknesses({**told, "uid": 0}, Limits(), is_gvisor=True) != []


async def test_a_sandbox_with_a_hole_is_a_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(_: Settings) -> Sequence[str]:
        return ["it has a network: eth0"]

    monkeypatch.setattr(engines, "probe_sandbox", probe)
    (said,) = (await findings(settings, "sandbox"))[Level.FAIL]
    assert "it has a network: eth0" in said


async def test_what_is_left_of_a_dead_platform_is_said_with_how_to_remove_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leftovers(asked: Settings) -> Sequence[str]:
        return ["sandgraph-abc-1"] if asked.deployment == "abc" else []

    monkeypatch.setattr(engines, "leftovers", leftovers)
    assert [each.level for each in await doctor._leftovers(settings)] == [Level.OK]
    settings.data_dir.mkdir()
    (settings.data_dir / "deployment").write_text("abc\n")
    (found,) = await doctor._leftovers(settings)
    assert found.level is Level.WARN
    assert "label=sandgraph.deployment=abc" in found.advice


async def test_trouble_of_one_look_is_a_finding_and_no_crash(settings: Settings) -> None:
    for error in (EngineUnavailable("gone"), ConfigurationError("gone"), OSError(5, "gone")):

        async def look(_: Settings, error: Exception = error) -> Sequence[Finding]:
            raise error

        (found,) = await doctor._patient("x", look, settings)
        assert found.level is Level.FAIL
        assert "gone" in found.message
        assert found.advice


async def test_a_collector_that_is_not_there_is_a_warning(settings: Settings, taken_port: int) -> None:
    there = settings.model_copy(update={"otel_endpoint": f"http://127.0.0.1:{taken_port}"})
    gone = settings.model_copy(update={"otel_endpoint": "http://127.0.0.1:1"})
    assert [each.level for each in await doctor._traces(settings)] == []
    assert [each.level for each in await doctor._traces(there)] == [Level.OK]
    assert [each.level for each in await doctor._traces(gone)] == [Level.WARN]


class Answering(BaseHTTPRequestHandler):
    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "body", "level", "said"),
    [
        (200, {"status": "ready"}, Level.OK, "is ready"),
        (503, {"errors": [{"path": "disk", "message": "5 MiB are left"}]}, Level.FAIL, "disk: 5 MiB are left"),
        (503, {"errors": "?"}, Level.FAIL, "not ready"),
    ],
)
async def test_a_platform_that_runs_is_asked_itself(
    settings: Settings, status: int, body: object, level: Level, said: str
) -> None:
    handler = type("Handler", (Answering,), {"status": status, "body": json.dumps(body).encode()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        (found,) = await doctor._platform(settings.model_copy(update={"port": server.server_port}))
        server.shutdown()
        thread.join()
    assert (found.level, said in found.message) == (level, True)
    (silent,) = await doctor._platform(settings.model_copy(update={"port": 1}))
    assert silent.level is Level.WARN


def test_the_exit_code_is_that_of_the_gravest() -> None:
    fine, warn, fail = (Finding("x", level, "said") for level in (Level.OK, Level.WARN, Level.FAIL))
    assert [EXIT_CODES[worst_of(each)] for each in ([], [fine], [fine, warn], [warn, fail, fine])] == [0, 0, 1, 2]


def test_people_see_the_gravest_first_with_what_to_do() -> None:
    out = io.StringIO()
    found = [Finding("a", Level.OK, "fine"), Finding("b", Level.FAIL, "broken [red]", "Mend it.", "port", "1")]
    show(found, Console(file=out, width=100))
    text = out.getvalue()
    assert text.index("FAIL") < text.index("OK")
    assert "port = 1: broken [red]" in text
    assert "→ Mend it." in text
    assert "1 failures, 0 warnings, 1 fine." in text


def test_programs_get_json_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--data-dir={tmp_path}/data", f"--docker-host=unix://{tmp_path}/none.sock", "--worker-slots=some"]
    assert main(["doctor", "--json", "--quick", *options]) == 2
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["status"] == "fail"
    failed = {each["check"]: each for each in said["findings"] if each["level"] == "fail"}
    assert set(failed) == {"settings", "engine"}
    assert failed["settings"]["setting"] == "worker_slots"
    assert failed["engine"]["message"]
