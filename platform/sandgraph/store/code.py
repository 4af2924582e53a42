"""Functions and tools, by version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, insert, select

from sandgraph.store import cursors
from sandgraph.store.columns import now, storable
from sandgraph.store.records import CodeKind, CodeVersion, Page
from sandgraph.store.tables import code as table

T = TypeVar("T")

#: Names in one statement: databases bound the number of parameters.
_NAMES_AT_ONCE = 500


def save(
    connection: Connection, tenant: str, kind: CodeKind, name: str, code: str, description: str
) -> tuple[CodeVersion, bool]:
    """Return the version of this code, and whether it was made now."""
    code, description = storable(code), storable(description)
    digest = hashlib.sha256(code.encode()).hexdigest()
    latest = latest_of(connection, tenant, kind, [name]).get(name)
    if latest and latest.hash == digest and description in {"", latest.description}:
        return latest, False
    version = CodeVersion(name, latest.version + 1 if latest else 1, digest, code, description, now())
    connection.execute(
        insert(table),
        {
            "tenant": tenant,
            "kind": kind.value,
            "name": version.name,
            "version": version.version,
            "hash": version.hash,
            "code": version.code,
            "description": version.description,
            "created_at": version.created_at,
        },
    )
    return version, True


def has(connection: Connection, tenant: str, kind: CodeKind, name: str, code: str) -> bool:
    """Tell whether any version of the name has this very code."""
    digest = hashlib.sha256(storable(code).encode()).hexdigest()
    same = select(table.c.version).where(_of(tenant, kind), table.c.name == name, table.c.hash == digest)
    return connection.execute(same.limit(1)).first() is not None


def latest_of(connection: Connection, tenant: str, kind: CodeKind, names: Iterable[str]) -> dict[str, CodeVersion]:
    """Return the latest version of each name that is known."""
    found: dict[str, CodeVersion] = {}
    for some in _batches(dict.fromkeys(names)):
        for row in connection.execute(_latest(tenant, kind).where(table.c.name.in_(some))):
            found[row.name] = version_of(row)
    return found


def all_latest(connection: Connection, tenant: str, kind: CodeKind) -> dict[str, CodeVersion]:
    """Return the latest version of every name, in the order of names."""
    return {row.name: version_of(row) for row in connection.execute(_latest(tenant, kind).order_by(table.c.name))}


def latest_page(
    connection: Connection, tenant: str, kind: CodeKind, cursor: str | None, limit: int
) -> Page[CodeVersion]:
    """Return the latest version of each name, in the order of names."""
    after = cursors.decode(kind.value, cursor)
    # The names are limited before their versions are looked up: a page's cost is the page's.
    names = select(table.c.name).where(_of(tenant, kind)).distinct().order_by(table.c.name).limit(limit + 1)
    if after is not None:
        names = names.where(table.c.name > after)
    shown = connection.scalars(names).all()
    found = latest_of(connection, tenant, kind, shown)
    return cursors.page(kind.value, [found[name] for name in shown], limit, lambda version: version.name)


def version_of(row: Row[Any]) -> CodeVersion:
    """Make the version from its row."""
    return CodeVersion(row.name, row.version, row.hash, row.code, row.description, row.created_at)


def _of(tenant: str, kind: CodeKind) -> ColumnElement[bool]:
    return and_(table.c.tenant == tenant, table.c.kind == kind.value)


def _latest(tenant: str, kind: CodeKind) -> Select[Any]:
    other = table.alias()
    newest = (
        select(func.max(other.c.version))
        .where(other.c.tenant == table.c.tenant, other.c.kind == table.c.kind, other.c.name == table.c.name)
        .scalar_subquery()
    )
    return select(table).where(_of(tenant, kind), table.c.version == newest)


def _batches(names: Iterable[T]) -> Iterator[Sequence[T]]:
    iterator = iter(names)
    while some := list(islice(iterator, _NAMES_AT_ONCE)):
        yield some
