"""Settings: read from one place, wrong ones named all at once, none undocumented."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sandgraph.cli.main import main
from sandgraph.errors import ConfigurationError
from sandgraph.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[2]


def test_every_setting_is_documented_with_its_default() -> None:
    page = (REPOSITORY / "docs/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        option = f"--{name.replace('_', '-')}"
        row = f"| `{option}` | `SANDGRAPH_{name.upper()}` | {default} | {field.description} |"
        assert row in page, f"docs/settings.md lacks this row: {row}"
    assert page.count("`SANDGRAPH_") == len(Settings.model_fields)


def test_every_setting_is_used() -> None:
    sources = "\n".join(file.read_text() for file in (REPOSITORY / "platform").rglob("*.py"))
    assert [name for name in Settings.model_fields if f".{name}" not in sources] == []


def test_the_environment_is_read_by_settings_alone() -> None:
    for file in (REPOSITORY / "platform").rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"environ", "getenv"} or file.stem == "settings", file


def test_an_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDGRAPH_PORT", "9000")
    monkeypatch.setenv("SANDGRAPH_POOL_MIN", "3")
    settings = load_settings(port="9001")
    assert (settings.port, settings.pool_min) == (9001, 3)


@pytest.mark.parametrize(
    ("given", "read"),
    [("", ()), ("runsc", ("runsc",)), ("runsc, kata , runsc", ("runsc", "kata")), (",runsc", ("runsc",))],
)
def test_the_further_runtimes_are_a_list_each_once(given: str, read: tuple[str, ...]) -> None:
    assert load_settings(runtimes=given).further_runtimes == read


def test_everything_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SANDGRAPH_POOL_MIN", "many")
    with pytest.raises(ConfigurationError, match=r"(?s)port = 70000: .*pool_min = many: "):
        load_settings(port="70000")
    assert main(["serve", "--port=70000"]) == 1
    said = capsys.readouterr().err
    assert "port" in said
    assert "pool_min" in said
    assert "Traceback" not in said


def test_a_taken_port_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken_port: int
) -> None:
    assert main(["serve", f"--port={taken_port}", f"--data-dir={tmp_path}/data"]) == 1
    assert "cannot be bound" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
