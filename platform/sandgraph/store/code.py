"""Functions and tools, by version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, func, insert, or_, select

from sandgraph.errors import NotFound
from sandgraph.store import cursors
from sandgraph.store.columns import now, storable
from sandgraph.store.filters import NameSort
from sandgraph.store.records import CodeKind, CodeSource, CodeVersion, Page
from sandgraph.store.scans import STATEMENTS, begins_with, collect
from sandgraph.store.tables import code as table

T = TypeVar("T")

#: Where an item is in a list: its name; its version and its time where the list is in the order of those.
_Key = tuple[str, int, datetime | None]

#: Names in one statement: databases bound the number of parameters.
_NAMES_AT_ONCE = 500


def save(
    connection: Connection, tenant: str, kind: CodeKind, name: str, code: str, description: str
) -> tuple[CodeVersion, bool]:
    """Return the version of this code, and whether it was made now."""
    code, description = storable(code), storable(description)
    digest = _hash(code)
    latest = latest_of(connection, tenant, kind, [name]).get(name)
    if latest and latest.hash == digest and description in {"", latest.description}:
        return latest, False
    version = CodeVersion(name, latest.version + 1 if latest else 1, digest, code, description, now())
    connection.execute(insert(table), _row(tenant, kind, version))
    return version, True


def add_missing(connection: Connection, tenant: str, sources: Sequence[CodeSource]) -> None:
    """Store what no version of its name says yet, be it the latest or not."""
    missing = {(each.kind.value, each.name, _hash(storable(each.code))): each for each in sources}
    c = table.c
    for some in _batches(dict.fromkeys(each.name for each in sources)):
        known = select(c.kind, c.name, c.hash).where(c.tenant == tenant, c.name.in_(some))
        for row in connection.execute(known):
            missing.pop((row.kind, row.name, row.hash), None)
    rows = []
    for kind in CodeKind:
        added = [(digest, each) for (_, _, digest), each in missing.items() if each.kind is kind]
        latest = _latest_versions(connection, tenant, kind, [each.name for _, each in added])
        for digest, each in added:
            latest[each.name] = number = latest.get(each.name, 0) + 1
            code, description = storable(each.code), storable(each.description)
            rows.append(_row(tenant, kind, CodeVersion(each.name, number, digest, code, description, now())))
    if rows:
        connection.execute(insert(table), rows)


def latest_of(connection: Connection, tenant: str, kind: CodeKind, names: Iterable[str]) -> dict[str, CodeVersion]:
    """Return the latest version of each name that is known."""
    found: dict[str, CodeVersion] = {}
    for some in _batches(dict.fromkeys(names)):
        for row in connection.execute(_latest_named(tenant, kind), {"names": some}):
            found[row.name] = version_of(row)
    return found


def all_latest(connection: Connection, tenant: str, kind: CodeKind) -> dict[str, CodeVersion]:
    """Return the latest version of every name, in the order of names."""
    return {row.name: version_of(row) for row in connection.execute(_latest(tenant, kind).order_by(table.c.name))}


def latest_page(
    connection: Connection, tenant: str, kind: CodeKind, prefix: str, sort: NameSort, cursor: str | None, limit: int
) -> Page[CodeVersion]:
    """Return the latest version of each name that begins with ``prefix``, in the order of ``sort``."""
    of_list = kind.value if sort is NameSort.NAME else f"{kind} {sort}"

    def load(keys: Sequence[_Key]) -> Mapping[_Key, CodeVersion]:
        return _load(connection, tenant, kind, prefix, keys)

    def fetch(behind: _Key | None, most: int) -> list[_Key]:
        return _fetch(connection, tenant, kind, prefix, sort, behind, most)

    found, last = collect(
        _key(of_list, cursor, sort),
        limit,
        fetch,
        load,
    )
    if last is None:
        return Page(tuple(found), None)
    name, version, at = last
    text = name if at is None else f"{version} {at.isoformat()} {name}"
    return Page(tuple(found), cursors.encode(of_list, text))


def versions_page(
    connection: Connection,
    tenant: str,
    kind: CodeKind,
    name: str,
    version: int | None,
    cursor: str | None,
    limit: int,
) -> Page[CodeVersion]:
    """Return the versions of a name, the latest first, or one of them.

    Raises:
        NotFound: There is none.
    """
    of_list = f"{kind} versions"
    text = cursors.decode(of_list, cursor)
    query = select(table).where(_of(tenant, kind), table.c.name == name).order_by(table.c.version.desc())
    if version is not None:
        query = query.where(table.c.version == version)
    if text is not None:
        query = query.where(table.c.version < cursors.number_of(text))
    found = [version_of(row) for row in connection.execute(query.limit(limit + 1))]
    if not found and text is None:
        raise NotFound(kind.value, name if version is None else f"{name} (version {version})")
    return cursors.page(of_list, found, limit, lambda each: str(each.version))


def _fetch(
    connection: Connection,
    tenant: str,
    kind: CodeKind,
    prefix: str,
    sort: NameSort,
    behind: _Key | None,
    most: int,
) -> list[_Key]:
    query = keys_query(tenant, kind, prefix, sort, behind, most)
    if sort is NameSort.NAME:
        return [(name, 0, None) for name in connection.scalars(query)]
    return [(row.name, row.version, row.created_at) for row in connection.execute(query)]


@lru_cache(STATEMENTS)
def keys_query(tenant: str, kind: CodeKind, prefix: str, sort: NameSort, behind: _Key | None, most: int) -> Select[Any]:
    """Return the statement that gives names, or all versions of all names, in the list's order."""
    c = table.c
    if sort is NameSort.NAME:
        names = select(c.name).where(_of(tenant, kind)).distinct().order_by(c.name).limit(most)
        if prefix:
            names = names.where(begins_with(c.name, prefix))
        return names if behind is None else names.where(c.name > behind[0])
    query = select(c.name, c.version, c.created_at).where(_of(tenant, kind)).limit(most)
    query = query.with_hint(table, "INDEXED BY ix_code_tenant_kind_created_at_name", "sqlite")
    if sort.is_descending:
        query = query.order_by(c.created_at.desc(), c.name.desc())
    else:
        query = query.order_by(c.created_at, c.name)
    if behind is not None:
        name, _, at = behind
        if sort.is_descending:
            query = query.where(c.created_at <= at, or_(c.created_at < at, c.name < name))
        else:
            query = query.where(c.created_at >= at, or_(c.created_at > at, c.name > name))
    return query


def _load(
    connection: Connection, tenant: str, kind: CodeKind, prefix: str, keys: Sequence[_Key]
) -> dict[_Key, CodeVersion]:
    # Of the keys that are versions, those that are no latest ones stay away.
    names = [name for name, version, _ in keys if version and name.startswith(prefix)]
    latest = _latest_versions(connection, tenant, kind, names)
    shown = {key: key[0] for key in keys if key[1] in {0, latest.get(key[0])} and key[0].startswith(prefix)}
    found = latest_of(connection, tenant, kind, shown.values())
    return {key: found[name] for key, name in shown.items() if name in found}


def _latest_versions(connection: Connection, tenant: str, kind: CodeKind, names: Iterable[str]) -> dict[str, int]:
    """Return the number of each name's latest version, without its code."""
    found: dict[str, int] = {}
    for some in _batches(dict.fromkeys(names)):
        query = select(table.c.name, func.max(table.c.version)).where(_of(tenant, kind), table.c.name.in_(some))
        found.update((row[0], row[1]) for row in connection.execute(query.group_by(table.c.name)))
    return found


def _key(of_list: str, cursor: str | None, sort: NameSort) -> _Key | None:
    text = cursors.decode(of_list, cursor)
    if text is None:
        return None
    if sort is NameSort.NAME:
        return text, 0, None
    version, _, rest = text.partition(" ")
    at, _, name = rest.partition(" ")
    return name, cursors.number_of(version), cursors.time_of(at)


def _row(tenant: str, kind: CodeKind, version: CodeVersion) -> dict[str, object]:
    return {
        "tenant": tenant,
        "kind": kind.value,
        "name": version.name,
        "version": version.version,
        "hash": version.hash,
        "code": version.code,
        "description": version.description,
        "created_at": version.created_at,
    }


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def version_of(row: Row[Any]) -> CodeVersion:
    """Make the version from its row."""
    return CodeVersion(row.name, row.version, row.hash, row.code, row.description, row.created_at)


def _of(tenant: str, kind: CodeKind) -> ColumnElement[bool]:
    return and_(table.c.tenant == tenant, table.c.kind == kind.value)


@lru_cache(STATEMENTS)
def _latest_named(tenant: str, kind: CodeKind) -> Select[Any]:
    return _latest(tenant, kind).where(table.c.name.in_(bindparam("names", expanding=True)))


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
