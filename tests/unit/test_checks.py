"""What a deployment needs is checked before anything starts, and all that is wrong is said at once."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from sandgraph import checks
from sandgraph.checks import Finding, Level
from sandgraph.errors import ConfigurationError
from sandgraph.model.access import ALL_SCOPES
from sandgraph.sandbox.engine import Engine
from sandgraph.settings import Settings, load_settings, read_settings, shown_value, unknown_variables
from sandgraph.store import examine
from sandgraph.store.lock import FolderLock
from sandgraph.store.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a deployment that could start, but that no engine answers."""
    return load_settings(data_dir=tmp_path / "data", port=0, docker_host=f"unix://{tmp_path}/none.sock")


async def found(settings: Settings, only: str, *, is_live: bool = False) -> Sequence[Finding]:
    return await checks.check(settings, only=[only], is_live=is_live)


async def failure(settings: Settings, only: str) -> str:
    (finding,) = await found(settings, only)
    assert finding.level is Level.FAIL
    return finding.line


async def test_all_that_is_wrong_is_said_at_once(settings: Settings, taken_port: int, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    _, wrong = read_settings(worker_slots="some")
    bad = settings.model_copy(update={"port": taken_port, "pool_min": 9, "pool_max": 8})
    with pytest.raises(ConfigurationError) as refused:
        await checks.demand(bad, wrong)
    first, *lines = refused.value.message.split("\n  - ")
    assert first == "These settings cannot work. 5 things are wrong:"
    starts = [
        "worker_slots = some: ",
        "pool_min = 9: ",
        "data_dir = ",
        "docker_host = unix://",
        f"port = {taken_port}: ",
    ]
    assert [any(line.startswith(start) for line in lines) for start in starts] == [True] * 5
    assert not any("\n" in line for line in lines)


async def test_a_deployment_that_can_start_is_let_and_nothing_of_it_is_made(settings: Settings) -> None:
    findings = await checks.check(settings)
    assert [each.check for each in findings if each.level is Level.FAIL] == ["engine"]
    assert not settings.data_dir.exists()


async def test_what_depends_on_a_wrong_setting_is_not_checked() -> None:
    settings, wrong = read_settings(port="many", docker_host="unix:///nothing.sock")
    findings = await checks.check(settings, wrong, only=["port"])
    assert [(each.check, each.setting) for each in findings] == [("settings", "port")]


async def test_a_folder_that_is_a_file_or_cannot_be_made_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        assert "data_dir = " in await failure(settings.model_copy(update={"data_dir": folder}), "data_folder")


async def test_a_folder_without_room_is_refused_and_with_little_warned_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = []
    for free in (1, 500 * 2**20, 2**40):
        monkeypatch.setattr(examine, "free_bytes", lambda _, free=free: free)
        levels += [each.level for each in await found(settings, "data_folder")]
    assert levels == [Level.FAIL, Level.WARN, Level.OK]


async def test_a_folder_in_use_is_refused_unless_its_platform_is_looked_at(settings: Settings) -> None:
    settings.data_dir.mkdir()
    assert [each.level for each in await found(settings, "holder")] == [Level.OK]
    lock = FolderLock(settings.data_dir)
    try:
        assert lock.is_held
        assert "in use by another Sandgraph process" in await failure(settings, "holder")
        assert await found(settings, "holder", is_live=True) == []
    finally:
        lock.release()
    # To look is not to hold.
    assert [each.level for each in await found(settings, "holder")] == [Level.OK]
    again = FolderLock(settings.data_dir)
    assert again.is_held
    again.release()


async def test_who_hangs_for_too_long_does_not_hold_the_folder(settings: Settings) -> None:
    store = await Store.open(settings.data_dir, takeover_after_s=15)
    try:
        assert "in use" in await failure(settings, "holder")
        await asyncio.sleep(0.05)
        frozen = settings.model_copy(update={"lease_s": 0.01})
        assert [each.level for each in await found(frozen, "holder")] == [Level.OK]
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["CREATE TABLE other (id)"], "is not a database of Sandgraph"),
        (["PRAGMA application_id = 1397190760", "PRAGMA user_version = 99"], "is of a newer Sandgraph"),
        ([], None),
    ],
)
async def test_a_database_of_something_else_or_of_a_newer_release_is_refused(
    settings: Settings, statements: list[str], said: str | None
) -> None:
    settings.data_dir.mkdir()
    with closing(sqlite3.connect(settings.data_dir / "sandgraph.db")) as database, database:
        for statement in statements:
            database.execute(statement)
    if said is None:
        assert [each.level for each in await found(settings, "database")] == [Level.OK]
    else:
        assert said in await failure(settings, "database")


async def test_a_damaged_database_is_refused_and_a_good_one_is_not(settings: Settings) -> None:
    store = await Store.open(settings.data_dir)
    await store.close()
    assert [each.level for each in await found(settings, "database")] == [Level.OK]
    (settings.data_dir / "sandgraph.db").write_bytes(b"no database " * 1_000)
    assert "cannot be used" in await failure(settings, "database")


async def test_an_engine_that_does_not_answer_is_told_by_its_setting(settings: Settings) -> None:
    line = await failure(settings, "engine")
    assert line.startswith("docker_host = unix://")
    assert "No Docker engine answers" in line


async def test_every_setting_that_the_engine_cannot_fulfil_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lacks(_: object) -> dict[str, str]:
        return {"runtime": "It has no runtime 'kata'.", "runner_image": "It has no image 'other'."}

    monkeypatch.setattr(Engine, "lacks", lacks)
    findings = await found(settings, "engine")
    assert [each.setting for each in findings] == ["runtime", "runner_image"]


async def test_ceilings_below_what_nodes_have_by_default_are_warned_of(settings: Settings) -> None:
    low = settings.model_copy(update={"ceiling_memory_mb": 128, "max_code_kb": 4_000})
    told = [(each.setting, each.level) for each in await found(low, "settings") if each.setting]
    assert told == [("max_code_kb", Level.WARN), ("ceiling_memory_mb", Level.WARN)]


def test_a_variable_that_is_no_setting_is_found() -> None:
    environment = {"SANDGRAPH_PORT": "1", "SANDGRAPH_PROT": "1", "SANDGRAPH_BASE_IMAGE": "x", "HOME": "/"}
    assert unknown_variables(environment) == ["SANDGRAPH_PROT"]


def test_a_password_is_never_shown() -> None:
    assert shown_value("jwt_secret", "hush") == "(not shown)"
    assert shown_value("docker_host", "tcp://who:hush@host:1/?key=hush") == "tcp://…@host:1/"


def test_the_lock_of_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert examine.holder(tmp_path / "none", 1) is None
    file = tmp_path / "sandgraph.lock"
    file.write_text("")
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert examine.holder(tmp_path, 1) == "?"


@pytest.mark.parametrize(
    ("host", "level"),
    [
        ("127.0.0.1", Level.OK),
        ("::1", Level.OK),
        ("localhost", Level.OK),
        ("0.0.0.0", Level.FAIL),
        ("::", Level.FAIL),
        ("192.0.2.1", Level.FAIL),
        ("localhost.evil.example", Level.FAIL),
    ],
)
async def test_without_keys_it_starts_on_loopback_alone(settings: Settings, host: str, level: Level) -> None:
    (finding,) = await found(settings.model_copy(update={"host": host}), "access")
    assert finding.level is level
    if level is Level.FAIL:
        assert finding.line.startswith(f"host = {host}: ")
        assert "sandgraph keys create" in finding.line


async def test_with_a_key_it_starts_anywhere(settings: Settings) -> None:
    exposed = settings.model_copy(update={"host": "0.0.0.0"})
    store = await Store.open(settings.data_dir)
    assert "sandgraph keys create" in await failure(exposed, "access")
    key, _ = await store.keys.create("a", "mine", ALL_SCOPES, created_by="test")
    (finding,) = await found(exposed, "access")
    assert finding.level is Level.OK
    # That the key opens nothing any more is no reason to let everybody in.
    await store.keys.revoke(key.key_id)
    (finding,) = await found(exposed, "access")
    assert finding.level is Level.OK
    await store.close()


@pytest.mark.parametrize(("access", "level"), [("closed", Level.OK), ("open", Level.WARN)])
async def test_whoever_says_so_gets_it_closed_or_open(settings: Settings, access: str, level: Level) -> None:
    (finding,) = await found(load_settings(data_dir=settings.data_dir, host="0.0.0.0", access=access), "access")
    assert finding.level is level


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, []),
        ({"oidc_audience": ""}, ["oidc_audience"]),
        ({"oidc_issuer": "http://issuer.example"}, ["oidc_issuer"]),
        ({"oidc_issuer": "issuer.example", "oidc_jwks_url": "http://keys.example"}, ["oidc_issuer", "oidc_jwks_url"]),
        ({"oidc_issuer": "http://127.0.0.1:1"}, []),
    ],
)
async def test_an_issuer_must_be_one_that_can_be_trusted(
    settings: Settings, options: dict[str, object], wrong: list[str]
) -> None:
    chosen = {"oidc_issuer": "https://issuer.example", "oidc_audience": "sandgraph", **options}
    findings = await found(settings.model_copy(update={"host": "0.0.0.0", **chosen}), "access")
    assert [each.setting for each in findings if each.level is Level.FAIL] == wrong
