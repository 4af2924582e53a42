"""What requests with an Idempotency-Key were answered; runs know their own keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from sqlalchemy import Connection, delete, insert, select

from sandgraph.store.columns import now
from sandgraph.store.database import Database
from sandgraph.store.records import KeptAnswer
from sandgraph.store.tables import kept_answer as table

#: For how long at least.
KEPT_FOR = timedelta(hours=48)

#: Answers that are forgotten with each one that is kept.
_FORGOTTEN = 20


class KeptAnswers:
    """The answers of all tenants, each by its route and key.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str, route: str, key: str) -> KeptAnswer | None:
        """Return what a request with this key was answered, if it is kept still."""
        return await self._database.read(find, tenant, route, key)

    async def keep(self, tenant: str, route: str, key: str, answer: KeptAnswer) -> None:
        """Keep an answer, and forget some that are old; one that is there already stays."""
        await self._database.write(keep, tenant, route, key, answer)


def find(connection: Connection, tenant: str, route: str, key: str) -> KeptAnswer | None:
    """Return an answer that is not too old."""
    c = table.c
    query = select(table).where(c.tenant == tenant, c.route == route, c.key == key)
    row = connection.execute(query).first()
    if row is None or row.created_at < now() - KEPT_FOR:
        return None
    return KeptAnswer(row.fingerprint, row.status, cast("Mapping[str, str]", row.headers), row.body)


def keep(connection: Connection, tenant: str, route: str, key: str, answer: KeptAnswer) -> None:
    """Store an answer in the place of one that is too old."""
    c = table.c
    if find(connection, tenant, route, key) is not None:
        return
    connection.execute(delete(table).where(c.tenant == tenant, c.route == route, c.key == key))
    old = select(c.tenant, c.route, c.key).where(c.created_at < now() - KEPT_FOR).order_by(c.created_at)
    for each in connection.execute(old.limit(_FORGOTTEN)).all():
        connection.execute(delete(table).where(c.tenant == each.tenant, c.route == each.route, c.key == each.key))
    connection.execute(
        insert(table),
        {
            "tenant": tenant,
            "route": route,
            "key": key,
            "fingerprint": answer.fingerprint,
            "status": answer.status,
            "headers": dict(answer.headers),
            "body": answer.body,
            "created_at": now(),
        },
    )
