"""Keys of states, as graphs name them: which of them goes where, and how what branches do to one comes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from sandgraph.api.schemas.tree import Container, Location, path, shown
from sandgraph.api.schemas.validation import LIST_TAG, OBJECT_TAG, Submitted, refuse_crowds
from sandgraph.errors import InvalidInput
from sandgraph.model.reducers import Reducer

_LONGEST_KEY = 512

#: Most keys of a state that a node passes on, and that a graph has reducers for.
_MOST_PASSED, _MOST_REDUCED = 100, 1_000

StateKey = Annotated[str, Field(min_length=1, max_length=_LONGEST_KEY)]


def _with_keys(given: dict[str, Any]) -> dict[str, Any]:
    # Of the object itself, not of its keys: a key that is wrong makes no path.
    for key in given:
        if not key:
            raise PydanticCustomError("too_short", "A key of a state has at least one character.")
        if len(key) > _LONGEST_KEY:
            text = "The key {key} is longer than the {most} characters that it may have."
            raise PydanticCustomError("too_long", text, {"key": repr(shown(key)), "most": _LONGEST_KEY})
    return given


def _once(given: list[str]) -> list[str]:
    if len({*given}) < len(given):
        double = next(name for index, name in enumerate(given) if name in given[:index])
        raise PydanticCustomError("duplicate_name", "{key} is there more than once.", {"key": repr(shown(double))})
    return given


def _kind_of_passed(value: object) -> str | None:
    if isinstance(value, list):
        return LIST_TAG
    return OBJECT_TAG if isinstance(value, dict) else None


#: Keys of a subgraph and of the graph around it: each with its counterpart, or as a list where the names are the same.
Passed = Annotated[
    Annotated[list[StateKey], AfterValidator(_once), Tag(LIST_TAG)]
    | Annotated[dict[str, StateKey], AfterValidator(_with_keys), Tag(OBJECT_TAG)],
    Discriminator(
        _kind_of_passed,
        custom_error_type="wrong_type",
        custom_error_message='It must be an object of keys, as {"inside": "outside"}, or an array of keys.',
    ),
]


class KeyDocument(Submitted):
    """What is said of a key of the state."""

    reducer: Annotated[Reducer, Field(strict=False)] = Field(
        description="What a change of it is, so that those of parallel branches come together. `append`, `extend`: "
        "what a list grew by at its end. `union`: elements that a list did not have. `add`: what was added to a "
        "number. `min`, `max`: the least, the greatest number. `merge`: members of an object that were added or "
        "changed."
    )


Reducers = Annotated[dict[str, KeyDocument], AfterValidator(_with_keys)]


def pairs(passed: list[str] | dict[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    """Return keys with their counterparts, as the model has them."""
    if isinstance(passed, list):
        return tuple((key, key) for key in passed)
    return None if passed is None else tuple(passed.items())


def reducers(state: Mapping[str, KeyDocument]) -> tuple[tuple[str, Reducer], ...]:
    """Return each key with its reducer, as the model has them."""
    return tuple((key, said.reducer) for key, said in state.items())


def refuse_crowd(container: Container, place: Location) -> None:
    """Refuse a part of a graph's document that has more fields than it may, or more keys of a state.

    Raises:
        InvalidInput: It has too many.
    """
    match place:
        case (None, "state"):
            most = _MOST_REDUCED
        case (((None, "nodes"), int()), "inputs" | "outputs"):
            most = _MOST_PASSED
        case _:
            refuse_crowds(container, place)
            return
    if len(container) > most:
        message = f"There are {len(container)} keys; there may be {most}."
        raise InvalidInput.at(path(place), "too_many_keys", message)
