"""Graphs, by version."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select

from sandgraph.errors import NotFound
from sandgraph.model.document import from_document, to_document
from sandgraph.model.graph import Graph
from sandgraph.store import cursors
from sandgraph.store.columns import now, to_json
from sandgraph.store.ids import new_id
from sandgraph.store.records import GraphVersion, Page
from sandgraph.store.tables import graph as table

_LIST = "graphs"


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


def page(connection: Connection, tenant: str, name: str | None, cursor: str | None, limit: int) -> Page[GraphVersion]:
    """Return versions, newest first."""
    before = cursors.decode(_LIST, cursor)
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.id.desc()).limit(limit + 1)
    if name is not None:
        query = query.where(table.c.name == name)
    if before is not None:
        query = query.where(table.c.id < before)
    found = [_version_of(row) for row in connection.execute(query)]
    return cursors.page(_LIST, found, limit, lambda version: version.graph_id)


def _version_of(row: Row[Any]) -> GraphVersion:
    graph = from_document(row.document)
    return GraphVersion(cast("str", row.id), row.name, row.version, graph, row.created_at, row.tenant)
