"""The command line as a whole: its subcommands, their settings, and what becomes of an error."""

from __future__ import annotations

import argparse

import pytest

from sandgraph.cli import common, main
from sandgraph.settings import Settings


@pytest.mark.parametrize("command", main._COMMANDS)
def test_each_subcommand_says_what_it_is_for(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(getattr(command, "__name__", "")).rpartition(".")[2]
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code == 0
    assert f"sandgraph {name}" in capsys.readouterr().out


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 2
    assert "serve" in capsys.readouterr().err


def test_a_command_may_offer_a_few_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDGRAPH_POOL_MIN", "3")
    parser = argparse.ArgumentParser()
    common.add_settings(parser, "data_dir")
    settings = common.settings_of(parser.parse_args(["--data-dir", "elsewhere"]))
    assert (str(settings.data_dir), settings.pool_min) == ("elsewhere", 3)
    with pytest.raises(SystemExit):
        parser.parse_args(["--port", "1"])


def test_every_setting_is_an_option_of_serve() -> None:
    options = vars(main._parser().parse_args(["serve"]))
    assert set(Settings.model_fields) <= set(options)
