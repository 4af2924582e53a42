"""``sandgraph doctor``: looks at a deployment and says what to mend, whether or not a platform runs."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandgraph.checks import Finding, Level
from sandgraph.cli.common import AddParser, add_settings, all_settings_of, log_to_stderr
from sandgraph.doctor import examine_deployment

#: Of the process, by the worst that was found.
EXIT_CODES = {Level.OK: 0, Level.WARN: 1, Level.FAIL: 2}

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def add_parser(add: AddParser) -> argparse.ArgumentParser:
    """Offer the subcommand."""
    command = add(
        "doctor", help="look at a deployment and say what to mend; exits with 0, 1 (warnings) or 2 (failures)"
    )
    command.add_argument("--json", action="store_true", help="say it for programs")
    command.add_argument("--quick", action="store_true", help="start no sandbox, and do not look through the database")
    add_settings(command)
    return command


def run(options: argparse.Namespace) -> int:
    """Say what was found; 0 where all is well, 1 with warnings, 2 with failures."""
    settings, wrong = all_settings_of(options)
    log_to_stderr("error")
    found = asyncio.run(examine_deployment(settings, wrong, is_quick=options.quick))
    worst = worst_of(found)
    if options.json:
        findings = [{**asdict(each), "level": each.level.value} for each in found]
        print(json.dumps({"status": worst.value, "findings": findings}, indent=2))
    else:
        show(found, Console())
    return EXIT_CODES[worst]


def worst_of(found: Sequence[Finding]) -> Level:
    """Return the gravest level of all."""
    return max((each.level for each in found), key=lambda level: EXIT_CODES[level], default=Level.OK)


def show(found: Sequence[Finding], console: Console) -> None:
    """Print a table, the gravest first, and below each what to do."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("Check", no_wrap=True)
    table.add_column("Found, and what to do")
    for each in sorted(found, key=lambda finding: -EXIT_CODES[finding.level]):
        about = f"{each.setting} = {each.value}: " if each.setting else ""
        text = Text(f"{about}{each.message}")
        if each.advice:
            text.append(f"\n→ {each.advice}", style="bold" if each.level is not Level.OK else "dim")
        table.add_row(Text(each.level.value.upper(), style=_STYLES[each.level]), each.check, text)
    console.print(table)
    counts = {level: sum(each.level is level for each in found) for level in Level}
    console.print(f"{counts[Level.FAIL]} failures, {counts[Level.WARN]} warnings, {counts[Level.OK]} fine.")
