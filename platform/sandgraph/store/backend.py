"""What `Database` asks of the database that it works on; `sqlite` and `postgres` are the two that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError


class Backend(Protocol):
    """A database: its connections, how a process takes it, and what its errors mean.

    Attributes:
        writer: Makes connections whose transactions write; one is used at a time.
        reader: Makes connections whose transactions see one snapshot, and cannot write.
        error: What the driver raises.
        mistakes: Those of its kinds that speak of the statement, not of the database.
    """

    @property
    def writer(self) -> Engine: ...  # noqa: D102 - said above

    @property
    def reader(self) -> Engine: ...  # noqa: D102 - said above

    @property
    def error(self) -> type[Exception]: ...  # noqa: D102 - said above

    @property
    def mistakes(self) -> tuple[type[Exception], ...]: ...  # noqa: D102 - said above

    def is_ready(self) -> bool:
        """Tell whether the database is there, ours, and of the present schema; nothing is made or changed."""

    def take(self, takeover_after_s: float | None) -> None:
        """Make the tables or bring them up to date, and say that this process works on them.

        Raises:
            ConfigurationError: The database cannot be used, or another process works on it.
        """

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that writes, on a connection of `writer` that has none."""

    def commit(self, connection: Connection) -> None:
        """End it, once all that it wrote is durable; another one may begin then."""

    def check(self, connection: Connection) -> None:
        """Do nothing, unless another process took this one's place: the first statement of each write.

        Raises:
            Conflict: It did (``lease_lost``).
        """

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error means that the connection is of no use any more, but another one may be."""

    def after_write(self, let_go: Callable[[], None]) -> None:
        """Tidy up after a transaction; ``let_go`` closes the connection that writes."""

    def leave(self) -> None:
        """Say that this process works on the database no more, and close every connection; nobody uses one."""


def original(error: BaseException) -> BaseException:
    """Return what the driver raised, where SQLAlchemy raised it again."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def reason(error: BaseException) -> str:
    """Return what the driver says in one line: PostgreSQL's further lines show statements and values."""
    lines = str(original(error)).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(original(error)).__name__
