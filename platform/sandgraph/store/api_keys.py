"""API keys: who may ask, and for which tenant."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Row, insert, or_, select, update

from sandgraph.errors import NotFound
from sandgraph.model.access import Scope
from sandgraph.model.api_key import SECRET_BYTES, ApiKey, digest_of, read_key, write_key
from sandgraph.store import cursors
from sandgraph.store.columns import now
from sandgraph.store.ids import new_id
from sandgraph.store.records import Page
from sandgraph.store.tables import api_key as table

P = ParamSpec("P")
T = TypeVar("T")

_LIST = "keys"


class Transactions(Protocol):
    """What does work on the database; see `Database`."""

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work over one snapshot."""

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work in one transaction that writes."""


class ApiKeys:
    """The keys of all tenants.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database

    async def create(
        self, tenant: str, name: str, scopes: Iterable[Scope], *, created_by: str, expires_in: timedelta | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; return what is kept of it, and its text, which nobody can ask for again."""
        created = now()
        text = write_key(new_id("key"), secrets.token_bytes(SECRET_BYTES))
        parts = read_key(text)
        if parts is None:
            raise RuntimeError("a key that was just made cannot be read")
        made = ApiKey(
            parts.key_id,
            tenant,
            name,
            frozenset(scopes),
            digest_of(parts.secret),
            created,
            created_by,
            expires_at=None if expires_in is None else created + expires_in,
        )
        await self._database.write(_save, made)
        return made, text

    async def get(self, key_id: str) -> ApiKey | None:
        """Return a key; None where there is none of that id."""
        return await self._database.read(_get, key_id)

    async def page(self, tenant: str | None, *, cursor: str | None = None, limit: int = 100) -> Page[ApiKey]:
        """Return the keys of a tenant, or of all, newest first; also those that open nothing any more."""
        return await self._database.read(_page, tenant, cursor, limit)

    async def revoke(self, key_id: str, tenant: str | None = None) -> ApiKey:
        """Let a key open nothing from now on, and return it; one that was revoked already, as it is.

        Args:
            key_id: Of the key.
            tenant: Whose key it has to be; None is anybody's.

        Raises:
            NotFound: There is no such key.
        """
        return await self._database.write(_revoke, key_id, tenant)

    async def used(self, key_id: str, at: datetime) -> None:
        """Note that a key was used."""
        await self._database.write(_use, key_id, at)

    async def exist(self) -> bool:
        """Tell whether any key was ever made, also if it opens nothing any more."""
        return await self._database.read(_exist)


def _save(connection: Connection, key: ApiKey) -> None:
    values = {
        "id": key.key_id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "digest": key.digest,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
    }
    connection.execute(insert(table), values)


def _get(connection: Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(select(table).where(table.c.id == key_id)).first()
    return None if row is None else _key_of(row)


def _page(connection: Connection, tenant: str | None, cursor: str | None, limit: int) -> Page[ApiKey]:
    before = cursors.decode(_LIST, cursor)
    query = select(table).order_by(table.c.id.desc()).limit(limit + 1)
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    if before is not None:
        query = query.where(table.c.id < before)
    return cursors.page(_LIST, [_key_of(row) for row in connection.execute(query)], limit, lambda key: key.key_id)


def _revoke(connection: Connection, key_id: str, tenant: str | None) -> ApiKey:
    found = _get(connection, key_id)
    if found is None or tenant not in {None, found.tenant}:
        raise NotFound("key", key_id)
    connection.execute(update(table).where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=now()))
    return _get(connection, key_id) or found


def _use(connection: Connection, key_id: str, at: datetime) -> None:
    last = table.c.last_used_at
    connection.execute(
        update(table).where(table.c.id == key_id, or_(last.is_(None), last < at)).values(last_used_at=at)
    )


def _exist(connection: Connection) -> bool:
    return connection.execute(select(table.c.id).limit(1)).first() is not None


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.tenant,
        row.name,
        frozenset(Scope(scope) for scope in row.scopes),
        row.digest,
        row.created_at,
        row.created_by,
        row.expires_at,
        row.last_used_at,
        row.revoked_at,
    )
