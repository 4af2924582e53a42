"""Statements that every step runs: SQLAlchemy compiles each once, and the driver gets its text.

SQLAlchemy's part of a short statement takes several times as long as SQLite's. SQLite's connection is spoken to as it
is, every other database through the cursors that all drivers have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from sandgraph.store.columns import Encoded, JsonText, SafeText, UtcTime, sqlite_of, storable, to_json

_Bind = Callable[[Any], object]
_Bound = Callable[[Mapping[str, object]], list[object]]


class Prepared:
    """A statement of Core that is run many times; values pass through the types of their columns.

    Args:
        statement: Each of its parameters needs a value each time; an insert has one for each column. The values of
            ``key_`` and ``new_`` parameters go by the names behind that.
    """

    def __init__(self, statement: Insert | Update | Delete | Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, _Bound]] = {}

    def run(self, connection: Connection, rows: Iterable[Mapping[str, object]]) -> int:
        """Run it for each row of values, and return how many rows of the table it changed."""
        dialect = connection.dialect
        text, bound = self._compiled.get(dialect.name) or self._compile(dialect)
        values = [bound(row) for row in rows]
        if dialect.name != "sqlite":
            return _run(connection, text, values)
        try:
            return sqlite_of(connection).executemany(text, values).rowcount
        except sqlite3.IntegrityError as error:
            raise IntegrityError(text, None, error) from error

    def scalar(self, connection: Connection, values: Mapping[str, object]) -> Any:  # noqa: ANN401 - as the driver has it
        """Run it, and return the first value of its first row, as the database has it; None where there is no row."""
        dialect = connection.dialect
        text, bound = self._compiled.get(dialect.name) or self._compile(dialect)
        if dialect.name != "sqlite":
            return _scalar(connection, text, bound(values))
        # All of them: a statement that changes something is done only once it has said all it has to say.
        found = sqlite_of(connection).execute(text, bound(values)).fetchall()
        return found[0][0] if found else None

    def _compile(self, dialect: Dialect) -> tuple[str, _Bound]:
        compiled = self._statement.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"no statement of SQL: {compiled}")
        # Values go by their places: the dialects of both databases are told so.
        types = [(_column(name), compiled.binds[name].type) for name in compiled.positiontup or ()]
        self._compiled[dialect.name] = ready = str(compiled), _bound(types, dialect)
        return ready


def _column(name: str) -> str:
    """Return the name by which a parameter's value is given: SQLAlchemy keeps those of columns for itself."""
    return name.removeprefix("key_").removeprefix("new_")


def _run(connection: Connection, text: str, values: Sequence[list[object]]) -> int:
    if not values:
        return 0
    with closing(connection.connection.cursor()) as cursor:
        try:
            if len(values) == 1:
                cursor.execute(text, values[0])
            else:
                cursor.executemany(text, values)
        except connection.dialect.loaded_dbapi.IntegrityError as error:
            raise IntegrityError(text, None, error) from error
        return cursor.rowcount


def _scalar(connection: Connection, text: str, values: list[object]) -> Any:  # noqa: ANN401 - as the driver has it
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(text, values)
        found = cursor.fetchall()
    return found[0][0] if found else None


def _bound(types: Sequence[tuple[str, TypeEngine[Any]]], dialect: Dialect) -> _Bound:
    """Return what makes the driver's parameters of a row of values."""
    names = [name for name, _ in types]
    # Of one name alone it would return no tuple.
    pick = itemgetter(*names) if len(names) > 1 else lambda row: tuple(row[name] for name in names)
    # Text is text on every database.
    texts = [index for index, (_, type_) in enumerate(types) if isinstance(type_, SafeText)]
    documents = [index for index, (_, type_) in enumerate(types) if isinstance(type_, JsonText)]
    binds = [(index, _bind(type_, dialect)) for index, (_, type_) in enumerate(types)]
    others = [(index, bind) for index, bind in binds if bind is not None and index not in {*texts, *documents}]

    def bound(row: Mapping[str, object]) -> list[object]:
        values = list(pick(row))
        # As the types do it, but for the calls: there are dozens of values in a step.
        for index in texts:
            text = values[index]
            if text is not None and (not text.isascii() or "\x00" in text):
                values[index] = storable(text)
        for index in documents:
            document = values[index]
            if document is not None:
                values[index] = str(document) if type(document) is Encoded else to_json(document)
        for index, bind in others:
            values[index] = bind(values[index])
        return values

    return bound


def _bind(type_: TypeEngine[Any], dialect: Dialect) -> _Bind | None:
    if isinstance(type_, UtcTime):
        return _time_bind(dialect)
    return type_.dialect_impl(dialect).bind_processor(dialect)


@cache
def _time_bind(dialect: Dialect) -> _Bind | None:
    bind = UtcTime().dialect_impl(dialect).bind_processor(dialect)
    # All rows of a step have one time.
    return None if bind is None else lru_cache(64)(bind)
