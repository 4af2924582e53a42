"""What the subcommands share: how one is offered, and its settings."""

from __future__ import annotations

import argparse
from typing import Protocol

from sandgraph.settings import Settings, WrongSetting, load_settings, read_settings
from sandgraph.telemetry import logs


class AddParser(Protocol):
    """Offers a subcommand, and returns the parser of what follows its name."""

    def __call__(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - the library's name
        """Offer a subcommand under a name."""


def add_settings(command: argparse.ArgumentParser, *only: str) -> None:
    """Offer settings as options, all of them or those named; their values are checked with the environment's."""
    group = command.add_argument_group("settings", "each is also an environment variable, SANDGRAPH_<NAME>")
    for name, field in Settings.model_fields.items():
        if not only or name in only:
            # argparse formats help texts with %, the descriptions are plain text.
            text = f"{field.description} (default: {field.default})".replace("%", "%%")
            group.add_argument(f"--{name.replace('_', '-')}", help=text, metavar="VALUE")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that the options and the environment say.

    Raises:
        ConfigurationError: Names every setting that is wrong, at once.
    """
    return load_settings(**_said(options))


def all_settings_of(options: argparse.Namespace) -> tuple[Settings, tuple[WrongSetting, ...]]:
    """Return the settings that the options and the environment say, and what is wrong with those that have defaults."""
    return read_settings(**_said(options))


def _said(options: argparse.Namespace) -> dict[str, object]:
    said = vars(options)
    return {name: said[name] for name in Settings.model_fields if said.get(name) is not None}


def log_to_stderr(level: str, log_format: str = "auto") -> None:
    """Log what is of this level or above it to stderr, for programs or for people."""
    logs.configure(level, log_format)
