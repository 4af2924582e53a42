"""``sandgraph keys``: makes, lists and revokes API keys, also while a platform works on the data folder."""

from __future__ import annotations

import argparse
import asyncio
import re
from datetime import UTC, datetime, timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sandgraph.api.schemas.access import LEAST_LIFE_S, LONGEST_LIFE_S
from sandgraph.cli.common import AddParser, add_settings, settings_of
from sandgraph.errors import InvalidInput
from sandgraph.model.access import DEFAULT_TENANT, TENANT_PATTERN, Scope
from sandgraph.model.api_key import ApiKey
from sandgraph.settings import Settings
from sandgraph.store.api_keys import ApiKeys
from sandgraph.store.beside import keys_of

_SETTINGS = ("data_dir", "database_url")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PAGE = 500

#: Who made a key, where the command line did.
_MAKER = "cli"

_EVERYDAY = (Scope.SUBMIT, Scope.READ, Scope.OPERATE)


def add_parser(add: AddParser) -> argparse.ArgumentParser:
    """Offer the subcommand."""
    command = add("keys", help="make, list and revoke API keys; whoever has the data folder may")
    actions = command.add_subparsers(dest="action", required=True)
    making = actions.add_parser("create", help="make a key, and print it this once")
    making.add_argument("--name", required=True, help="what people call it")
    making.add_argument("--tenant", default=DEFAULT_TENANT, help=f"whose it is (default: {DEFAULT_TENANT})")
    making.add_argument(
        "--scope",
        action="append",
        choices=[str(scope) for scope in Scope],
        metavar="SCOPE",
        help=f"what it lets do, one of {', '.join(Scope)}; may be there several times "
        f"(default: {', '.join(_EVERYDAY)})",
    )
    making.add_argument(
        "--expires-in", metavar="TIME", help="how long it is good for, as 12h or 90d (default: for good)"
    )
    listing = actions.add_parser("list", help="list keys, newest first")
    listing.add_argument("--tenant", help="of this tenant only")
    revoking = actions.add_parser("revoke", help="let a key open nothing any more")
    revoking.add_argument("key_id", help="as the list has it; not the key")
    for action in (making, listing, revoking):
        add_settings(action, *_SETTINGS)
    return command


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    return asyncio.run(_run(settings_of(options), options))


async def _run(settings: Settings, options: argparse.Namespace) -> int:
    lasts = _duration(options.expires_in) if options.action == "create" else None
    if options.action == "create":
        _check(options.name, options.tenant)
    async with keys_of(settings.data_dir, settings.database_url) as keys:
        if options.action == "create":
            scopes = [Scope(scope) for scope in options.scope or _EVERYDAY]
            made, text = await keys.create(options.tenant, options.name, scopes, created_by=_MAKER, expires_in=lasts)
            _say(f"{made.key_id} of the tenant {made.tenant}, for {', '.join(sorted(made.scopes))}.")
            _say("This is the key. It is shown this once; send it as the header Authorization: Bearer …")
            print(text)
        elif options.action == "list":
            _show(await _all(keys, options.tenant))
        else:
            revoked = await keys.revoke(options.key_id)
            _say(f"{revoked.key_id} opens nothing any more; a platform that runs knows it within seconds.")
    return 0


async def _all(keys: ApiKeys, tenant: str | None) -> list[ApiKey]:
    found: list[ApiKey] = []
    cursor = None
    while True:
        page = await keys.page(tenant, cursor=cursor, limit=_PAGE)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def _show(keys: list[ApiKey]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for title in ("id", "tenant", "name", "scopes", "made", "by", "last used", "state"):
        table.add_column(title, overflow="fold")
    for key in keys:
        scopes = " ".join(sorted(key.scopes))
        times = (_time(key.created_at), key.created_by, _time(key.last_used_at))
        table.add_row(key.key_id, key.tenant, key.name, scopes, *times, _state(key))
    # A pipe gets whole lines: programs take them apart.
    console = Console()
    console = console if console.is_terminal else Console(width=250)
    console.print(table, markup=False) if keys else _say("There are no keys.")


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_time(key.revoked_at)}"
    if key.expires_at is None:
        return "good"
    return f"{'expired' if key.expires_at <= datetime.now(UTC) else 'good until'} {_time(key.expires_at)}"


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def _check(name: str, tenant: str) -> None:
    if not name.strip() or not name.isprintable():
        raise InvalidInput.at("name", "invalid_name", "It must be a text that can be printed.")
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise InvalidInput.at("tenant", "invalid_name", f"It must be as {TENANT_PATTERN}.")


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not LEAST_LIFE_S <= seconds <= LONGEST_LIFE_S:
        message = "It must be a number and s, m, h or d, as 12h or 90d; from a minute to ten years."
        raise InvalidInput.at("expires-in", "out_of_range", message)
    return timedelta(seconds=seconds)


def _say(text: str) -> None:
    """Tell people; what programs want is on the other stream."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)
