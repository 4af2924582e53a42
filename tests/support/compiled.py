"""Statements that are compiled once: tests open thousands of stores, and each engine would compile all it says anew."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from sandgraph.store import sqlite


def share_compiled_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all engines of SQLite have one dialect, by which statements are kept, and keep them in one place."""
    first = create_engine("sqlite://")
    with first.connect():
        # The dialect knows its database now.
        pass
    first.dispose()

    def create(*args: Any, **options: Any) -> Engine:  # noqa: ANN401 - as SQLAlchemy has them
        engine = create_engine(*args, **options)
        engine.dialect = first.dialect
        engine._compiled_cache = first._compiled_cache
        return engine

    monkeypatch.setattr(sqlite, "create_engine", create)
