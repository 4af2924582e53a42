"""The command ``sandgraph``: one subcommand a module."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sandgraph.cli.demo import demo
from sandgraph.cli.serve import serve
from sandgraph.errors import SandgraphError
from sandgraph.settings import Settings, load_settings, read_settings

_FAILED = 1
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit code: 0, or 1 with the error on stderr."""
    options = vars(_parser().parse_args(argv))
    command = options.pop("command")
    file = options.pop("file", None)
    threshold = options.pop("threshold", None)
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        settings, wrong = read_settings(**chosen)
        level = "warning" if command == "demo" else settings.log_level
        logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        if command == "serve":
            asyncio.run(serve(settings, wrong))
        else:
            return asyncio.run(demo(load_settings(**chosen), file, threshold))
    except SandgraphError as error:
        print(f"sandgraph: {error.message}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandgraph", description="Runs graphs of functions that nobody has to trust.")
    parser.add_argument("--version", action="version", version=version("sandgraph"))
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser(
        "serve", help="run the platform: API, dispatcher and worker in one process, SQLite in the data folder"
    )
    showing = commands.add_parser("demo", help="run the code review workflow on a file and show what happens")
    showing.add_argument("file", nargs="?", type=Path, help="Python file to review; without it, a sample")
    showing.add_argument("--threshold", type=float, default=8.0, help="quality score to reach, 0 to 10 (default: 8)")
    for command in (serving, showing):
        _add_settings(command)
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Offer every setting as an option; its value is checked together with those from the environment."""
    group = command.add_argument_group("settings", "each is also an environment variable, SANDGRAPH_<NAME>")
    for name, field in Settings.model_fields.items():
        # argparse formats help texts with %, the descriptions are plain text.
        text = f"{field.description} (default: {field.default})".replace("%", "%%")
        group.add_argument(f"--{name.replace('_', '-')}", help=text, metavar="VALUE")
