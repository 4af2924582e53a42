"""Alembic, told where the revisions are and which database is meant: no file of its own is needed."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

_FOLDER = Path(__file__).parent


def upgrade(connection: Connection, revision: str) -> None:
    """Run the revisions that lack up to one and with it, in the connection's transaction."""
    config = Config()
    # Its values are formatted with %.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
