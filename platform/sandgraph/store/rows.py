"""The rows that steps insert into a table, and those that they change there."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import BindParameter, Connection, Table, bindparam, func, insert, update

from sandgraph.store import tables
from sandgraph.store.prepared import Prepared

Values = dict[str, object]


class Statements:
    """Statements of a table.

    Args:
        table: The table.
        key: Columns that tell its rows apart in a run.
        changes: Columns that an update sets.
        fills: Columns that an update sets, but to null.
    """

    def __init__(
        self, table: Table, key: tuple[str, ...], changes: tuple[str, ...], fills: tuple[str, ...] = ()
    ) -> None:
        self.name = table.name
        self.key = key
        self.insert = Prepared(insert(table))
        self.update = Prepared(
            update(table)
            .where(*(table.c[name] == bindparam(f"key_{name}") for name in ("run_id", *key)))
            .values({name: bindparam(f"new_{name}") for name in changes})
            .values({name: func.coalesce(_parameter(table, name), table.c[name]) for name in fills})
        )


def _parameter(table: Table, name: str) -> BindParameter[object]:
    return bindparam(f"new_{name}", type_=table.c[name].type)


NODE_RUNS = Statements(tables.node_run, ("scope", "node", "iteration"), ("status", "message", "failure", "finished_at"))
ATTEMPTS = Statements(
    tables.attempt,
    ("scope", "node", "iteration", "attempt"),
    ("status", "failure", "finished_at"),
    fills=("usage", "reads"),
)


@dataclass(slots=True)
class Rows:
    """What is inserted into a table, and what is changed there; a row begun and ended in one go is written once."""

    statements: Statements
    inserts: dict[tuple[object, ...], Values] = field(default_factory=dict)
    updates: dict[tuple[object, ...], Values] = field(default_factory=dict)

    def begin(self, values: Values) -> None:
        """Take in a row that is new."""
        self.inserts[tuple(values[name] for name in self.statements.key)] = values

    def change(self, key: tuple[object, ...], values: Values) -> None:
        """Take in what changes in a row, new or not."""
        if key in self.inserts:
            self.inserts[key].update(values)
        else:
            self.updates[key] = values

    def write(self, connection: Connection, run_id: str) -> None:
        """Write them all.

        Raises:
            LookupError: One that is to be changed is not there.
        """
        if self.inserts:
            rows = [{"run_id": run_id, **values} for values in self.inserts.values()]
            self.statements.insert.run(connection, rows)
        if self.updates:
            names = self.statements.key
            rows = [
                {"run_id": run_id, **dict(zip(names, key, strict=True)), **values}
                for key, values in self.updates.items()
            ]
            if self.statements.update.run(connection, rows) != len(rows):
                missing = ", ".join(map(str, self.updates))
                raise LookupError(f"the run {run_id} has no {self.statements.name} of one of these: {missing}")
