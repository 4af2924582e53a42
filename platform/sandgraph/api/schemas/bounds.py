"""States and parts of them as clients hand them in: within their bounds, and of numbers that can be kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

from sandgraph.api.schemas.tree import containers, items, path
from sandgraph.errors import InvalidInput, Problem
from sandgraph.model.state import Json, has_more_values
from sandgraph.settings import Settings

_LEAST, _GREATEST = -(2**63), 2**63 - 1


def check_state(state: Mapping[str, object], field: str, settings: Settings) -> None:
    """Refuse a state that is over its bounds; its size in bytes is for who stores it to judge.

    Raises:
        InvalidInput: At the path of the first value that is wrong, below that of the field.
    """
    if len(state) > settings.max_state_keys:
        message = f"The state has {len(state)} keys; it may have {settings.max_state_keys}."
        raise InvalidInput.at(field, "too_many_keys", message)
    _check({field: state}, field, settings, inside=1)


def check_value(value: object, field: str, settings: Settings) -> None:
    """Refuse a value that no key of a state may have; as `check_state`."""
    _check({field: value}, field, settings)


def _check(around: Mapping[str, object], field: str, settings: Settings, *, inside: int = 0) -> None:
    """Check what is in an object, which is a state by itself, or has one so deep inside."""
    if has_more_values(cast("Mapping[str, Json]", around), settings.max_state_values + inside):
        message = f"The state has more than the {settings.max_state_values} values that it may have."
        raise InvalidInput.at(field, "too_many_values", message)
    problem = next(_wrong(around, settings.max_state_depth, inside), None)
    if problem is not None:
        raise InvalidInput([problem])


def _wrong(around: Mapping[str, object], max_depth: int, inside: int) -> Iterator[Problem]:
    for place, depth, container in containers(around):
        if depth > max_depth + inside:
            yield Problem(path(place), "state_too_deep", f"A value of the state may be nested {max_depth} deep.")
        for key, value in items(container):
            if type(value) is int and not _LEAST <= value <= _GREATEST:
                message = "An integer of a state lies within ±2^63; send a larger one as a string."
                yield Problem(path((place, key)), "integer_out_of_range", message)
            elif type(value) is float and not math.isfinite(value):
                yield Problem(path((place, key)), "number_not_finite", "A number of a state is finite.")
