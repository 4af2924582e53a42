"""``sandgraph db``: copies of the database, and its schema."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from sandgraph.cli.common import AddParser, add_settings, settings_of
from sandgraph.errors import ConfigurationError
from sandgraph.settings import Settings
from sandgraph.store import backup, examine
from sandgraph.store.store import Store
from sandgraph.store.tables import SCHEMA_VERSION

_ELSEWHERE = (
    "database_url: PostgreSQL has tools of its own for this, pg_dump and pg_restore: docs/operations.md has the "
    "commands."
)


def add_parser(add: AddParser) -> argparse.ArgumentParser:
    """Offer the subcommand."""
    command = add("db", help="back up, restore or migrate the database")
    actions = command.add_subparsers(dest="action", required=True)
    for name, text in (
        ("backup", "copy the SQLite database to a file, also while a platform works on it"),
        ("restore", "put such a copy in its place, while no platform works on it; the old one is kept aside"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("file", type=Path, help="the copy")
        add_settings(action, "data_dir", "database_url")
    migrate = actions.add_parser("migrate", help="bring the schema up to date, which `serve` does too; make it if new")
    version = actions.add_parser("version", help="say of which schema the database is")
    for action in (migrate, version):
        add_settings(action, "data_dir", "database_url")
    return command


def run(options: argparse.Namespace) -> int:
    """Do what is asked."""
    settings = settings_of(options)
    match options.action:
        case "backup":
            _demand_sqlite(settings)
            size = backup.backup(settings.data_dir, options.file)
            print(f"{options.file} is a copy of the database, checked: {size} bytes.")
        case "restore":
            _demand_sqlite(settings)
            aside = backup.restore(settings.data_dir, options.file)
            print(f"The database of {settings.data_dir} is that of {options.file}, checked.")
            if aside is not None:
                print(f"The one that was there is kept as {aside}.")
        case "migrate":
            before = examine.version(settings.data_dir, settings.database_url)
            asyncio.run(_open(settings))
            print(_migrated(before))
        case _:
            print(_version(examine.version(settings.data_dir, settings.database_url)))
    return 0


async def _open(settings: Settings) -> None:
    store = await Store.open(settings.data_dir, database_url=settings.database_url)
    await store.close()


def _demand_sqlite(settings: Settings) -> None:
    if settings.database_url:
        raise ConfigurationError(_ELSEWHERE)


def _migrated(before: int) -> str:
    if before == SCHEMA_VERSION:
        return f"The database is of schema {SCHEMA_VERSION} already: nothing was to be done."
    if not before:
        return f"The database was made, of schema {SCHEMA_VERSION}."
    return f"The database was of schema {before}, and is of schema {SCHEMA_VERSION} now."


def _version(found: int) -> str:
    release = f"this release works with {SCHEMA_VERSION}"
    if not found:
        return f"There is no database yet; {release}."
    if found < SCHEMA_VERSION:
        return f"The database is of schema {found}; {release}: `sandgraph db migrate`, or the next start, changes it."
    return f"The database is of schema {found}; {release}."
