"""The command ``sandgraph``: one subcommand a module, each with ``add_parser`` and ``run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from sandgraph.cli import db, demo, doctor, keys, serve
from sandgraph.errors import SandgraphError

_FAILED = 1
_INTERRUPTED = 130

#: In the order in which ``sandgraph --help`` lists them.
_COMMANDS = (serve, keys, db, doctor, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit code: 0, or 1 with the error on stderr."""
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except SandgraphError as error:
        print(f"sandgraph: {error.message}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandgraph", description="Runs graphs of functions that nobody has to trust.")
    parser.add_argument("--version", action="version", version=version("sandgraph"))
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands.add_parser).set_defaults(run=command.run)
    return parser
