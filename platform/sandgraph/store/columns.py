"""Column types that hold whatever submitted code may produce, alike on every database."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime

from sqlalchemy import Connection, DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator

from sandgraph.model.json_text import encoder
from sandgraph.model.state import Json

_encode = encoder(ensure_ascii=True, allow_nan=False)


def storable(text: str) -> str:
    r"""Return a text that every database takes: NUL and lone surrogates as ``\x00`` and ``\udc80``."""
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def to_json(value: object) -> str:
    r"""Return compact JSON in ASCII: NUL and lone surrogates are escapes there, and come back as they were."""
    return _encode(value)


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


#: An option of connections: the driver's own one.
DRIVER = "sandgraph_driver"


def sqlite_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection."""
    # What the one that writes was told once; otherwise it is behind five layers.
    raw = connection.get_execution_options().get(DRIVER) or connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError(f"not a connection of sqlite3: {raw!r}")
    return raw


#: Text in the order of its bytes, whatever language a database was made for: on it, cursors go from page to page.
TEXT = String().with_variant(String(collation="C"), "postgresql")


class SafeText(TypeDecorator[str]):
    """Text from outside; see `storable`."""

    impl = TEXT
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Escape what a database refuses."""
        return self.stored(value)

    @staticmethod
    def stored(value: str | None) -> str | None:
        """Return what is stored, for who goes past SQLAlchemy."""
        if value is None or (value.isascii() and "\x00" not in value):
            return value
        return storable(value)


class Encoded(str):
    """JSON text that was made already, as `to_json` makes it: who has to know its length makes it once."""

    __slots__ = ()


class JsonText(TypeDecorator[Json]):
    """A JSON value as text; None is NULL.

    Not the databases' own JSON types: those refuse NUL, or change numbers and the order of keys.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Serialize."""
        return self.stored(value)

    @staticmethod
    def stored(value: Json) -> str | None:
        """Return what is stored, for who goes past SQLAlchemy."""
        if type(value) is Encoded:
            return str(value)
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Json:  # noqa: ARG002
        """Parse."""
        if value is None:
            return None
        parsed: Json = json.loads(value)
        return parsed


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite would give it back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
