"""Where a store can be in a test, and what another program finds there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from sandgraph.store.sqlite import FILE
from sandgraph.store.store import Store

#: For a test that is about one of them alone.
on_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("place", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and the URL of a PostgreSQL database where that is meant."""

    folder: Path
    url: str | None

    async def open(self, process_id: str | None = None, takeover_after_s: float | None = None) -> Store:
        return await Store.open(
            self.folder, database_url=self.url, process_id=process_id, takeover_after_s=takeover_after_s
        )

    @property
    def arguments(self) -> list[str]:
        """For a program that opens it: the folder, and the URL or nothing."""
        return [str(self.folder), self.url or ""]

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements in a transaction as another program would, and return the rows of the last one."""
        if self.url is None:
            with closing(sqlite3.connect(self.folder / FILE)) as connection, connection:
                return [connection.execute(statement).fetchall() for statement in statements][-1]
        with psycopg.connect(self.url) as server:
            found: list[tuple[object, ...]] = []
            for statement in statements:
                cursor = server.execute(statement)
                found = cursor.fetchall() if cursor.description else []
            return found
