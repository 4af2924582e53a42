"""Graphs, by version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, bindparam, exists, insert, or_, select

from sandgraph.errors import NotFound
from sandgraph.model.document import from_document, to_document
from sandgraph.model.graph import Graph
from sandgraph.store import cursors
from sandgraph.store.columns import now, to_json
from sandgraph.store.filters import GraphFilter, NameSort
from sandgraph.store.ids import new_id
from sandgraph.store.records import GraphVersion, Page
from sandgraph.store.scans import STATEMENTS, begins_with, collect
from sandgraph.store.tables import graph as table

#: Where a version is in a list: its id, and its name where the list is in the order of those.
_Key = tuple[str, ...]


def save(connection: Connection, tenant: str, graph: Graph) -> tuple[GraphVersion, bool]:
    """Return the version of this document, and whether it was made now."""
    document = to_document(graph)
    latest = connection.execute(
        select(table)
        .where(table.c.tenant == tenant, table.c.name == graph.name)
        .order_by(table.c.version.desc())
        .limit(1)
    ).first()
    # As text: Python would call 1, 1.0 and True the same. As this release writes it: one before it had fewer fields.
    if latest and to_json(to_document(from_document(latest.document))) == to_json(document):
        return _version_of(latest), False
    number = latest.version + 1 if latest else 1
    version = GraphVersion(new_id("graph"), graph.name, number, graph, now(), tenant)
    connection.execute(
        insert(table),
        {
            "id": version.graph_id,
            "tenant": tenant,
            "name": version.name,
            "version": version.version,
            "document": document,
            "created_at": version.created_at,
        },
    )
    return version, True


def get(connection: Connection, graph_id: str) -> GraphVersion:
    """Return a version.

    Raises:
        NotFound: There is none of that id.
    """
    row = connection.execute(select(table).where(table.c.id == graph_id)).first()
    if row is None:
        raise NotFound("graph", graph_id)
    return _version_of(row)


def page(
    connection: Connection,
    tenant: str,
    where: GraphFilter,
    sort: NameSort,
    cursor: str | None,
    limit: int,
) -> Page[GraphVersion]:
    """Return versions in the order of ``sort``."""
    kind = f"graphs {sort}"

    def load(keys: Sequence[_Key]) -> Mapping[_Key, GraphVersion]:
        return _load(connection, where, keys)

    def fetch(behind: _Key | None, most: int) -> list[_Key]:
        return _fetch(connection, tenant, where, sort, behind, most)

    found, last = collect(
        _key(kind, cursor, sort),
        limit,
        fetch,
        load,
    )
    return Page(tuple(found), None if last is None else cursors.encode(kind, " ".join(last)))


def _fetch(
    connection: Connection, tenant: str, where: GraphFilter, sort: NameSort, behind: _Key | None, most: int
) -> list[_Key]:
    query = keys_query(tenant, where, sort, behind, most)
    return [(row.id, row.name) if sort is NameSort.NAME else (row.id,) for row in connection.execute(query)]


@lru_cache(STATEMENTS)
def keys_query(tenant: str, where: GraphFilter, sort: NameSort, behind: _Key | None, most: int) -> Select[Any]:
    """Return the statement that gives ids, and names, in the list's order."""
    c = table.c
    query = select(c.id, c.name).where(c.tenant == tenant).limit(most)
    if where.name is not None:
        query = query.where(c.name == where.name)
    if where.prefix and sort is NameSort.NAME:
        query = query.where(begins_with(c.name, where.prefix))
    by_name = where.name is not None or sort is NameSort.NAME
    index = "ix_graph_tenant_name_id" if by_name else "ix_graph_tenant_id"
    query = query.with_hint(table, f"INDEXED BY {index}", "sqlite")
    if sort is NameSort.NAME:
        query = query.order_by(c.name, c.id)
        if behind is not None:
            last_id, name = behind
            is_behind = (c.name >= name, or_(c.name > name, c.id > last_id))
            query = query.where(*is_behind) if where.name is None else query.where(c.id > last_id)
        return query
    query = query.order_by(c.id.desc() if sort.is_descending else c.id.asc())
    if behind is not None:
        query = query.where(c.id < behind[0] if sort.is_descending else c.id > behind[0])
    return query


@lru_cache(STATEMENTS)
def rows_query(where: GraphFilter) -> Select[Any]:
    """Return the statement that reads those of some ids that are to be shown."""
    query = select(table).where(table.c.id.in_(bindparam("ids", expanding=True)))
    if where.prefix:
        query = query.where(begins_with(table.c.name, where.prefix))
    if where.latest:
        newer = table.alias()
        is_old = exists().where(
            newer.c.tenant == table.c.tenant, newer.c.name == table.c.name, newer.c.version > table.c.version
        )
        query = query.where(~is_old.correlate(table))
    return query


def _load(connection: Connection, where: GraphFilter, keys: Sequence[_Key]) -> Mapping[_Key, GraphVersion]:
    by_id = {key[0]: key for key in keys}
    found = connection.execute(rows_query(where), {"ids": list(by_id)})
    return {by_id[row.id]: _version_of(row) for row in found}


def _key(kind: str, cursor: str | None, sort: NameSort) -> _Key | None:
    text = cursors.decode(kind, cursor)
    if text is None:
        return None
    graph_id, _, name = text.partition(" ")
    return (graph_id, name) if sort is NameSort.NAME else (graph_id,)


def _version_of(row: Row[Any]) -> GraphVersion:
    graph = from_document(row.document)
    return GraphVersion(cast("str", row.id), row.name, row.version, graph, row.created_at, row.tenant)
