"""How a revision runs its statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alembic import op

#: One for every database, or one for each, by the name of its dialect; nothing is run where a database has none.
Statement = str | Mapping[str, str]


def execute(statements: Iterable[Statement]) -> None:
    """Run statements in the transaction of the migration, in their order."""
    connection = op.get_bind()
    for each in statements:
        statement = each if isinstance(each, str) else each.get(connection.dialect.name)
        if statement is not None:
            connection.exec_driver_sql(statement)
