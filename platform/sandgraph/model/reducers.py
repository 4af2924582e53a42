"""Reducers: how what parallel branches do to one key comes together."""

from __future__ import annotations

from enum import StrEnum


class Reducer(StrEnum):
    """What a key's changes are, where they can be told as something other than a new value."""

    APPEND = "append"
    EXTEND = "extend"
    UNION = "union"
    ADD = "add"
    MIN = "min"
    MAX = "max"
    MERGE = "merge"
