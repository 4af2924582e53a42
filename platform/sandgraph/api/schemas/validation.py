"""The base of all submitted documents, and pydantic's findings in our words: a path, a code, a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sandgraph.api.problems import PAGES
from sandgraph.api.schemas.tree import Container, Location, join, path, shown
from sandgraph.errors import InvalidInput, Problem
from sandgraph.settings import Settings


class Submitted(BaseModel):
    """A document from outside: every field is known, and each has exactly its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: object) -> object:
        """Take 3.0 for 3 where an integer is wanted, as JSON does not tell the two apart, and JSON Schema neither."""
        if not isinstance(given, dict) or not any(type(value) is float for value in given.values()):
            return given
        integers = {int, int | None}
        return {
            name: int(value)
            if type(value) is float and value.is_integer() and _annotation(cls, name) in integers
            else value
            for name, value in given.items()
        }


def _annotation(model: type[BaseModel], name: object) -> object:
    field = model.model_fields.get(name) if isinstance(name, str) else None
    return field.annotation if field else None


T = TypeVar("T", bound=BaseModel)

#: Tags of a union's members; they are no part of a field's path.
EXPRESSION_TAG, FUNCTION_TAG = "<expression>", "<function>"
WORD_TAG, NUMBER_TAG = "<word>", "<number>"
LIST_TAG, OBJECT_TAG = "<list>", "<object>"
_TAGS = {EXPRESSION_TAG, FUNCTION_TAG, WORD_TAG, NUMBER_TAG, LIST_TAG, OBJECT_TAG}

#: More fields than any submitted object has.
_MOST_FIELDS = 32

_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing_field",
    "literal_error": "unknown_value",
    "enum": "unknown_value",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_short": "too_short",
    "too_long": "too_long",
    "string_pattern_mismatch": "invalid_name",
    "timezone_aware": "invalid_value",
    "datetime_parsing": "invalid_value",
    "datetime_from_date_parsing": "invalid_value",
    "datetime_object_invalid": "invalid_value",
    "string_unicode": "invalid_text",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "int_parsing_size": "out_of_range",
    "model_type": "wrong_type",
    "model_attributes_type": "wrong_type",
}

_MESSAGES = {
    "model_type": "It must be a JSON object.",
    "model_attributes_type": "It must be a JSON object.",
    "dict_type": "It must be a JSON object.",
    "list_type": "It must be a JSON array.",
    "missing": "It is required.",
    "string_type": "It must be a string.",
    "int_type": "It must be an integer.",
    "int_parsing": "It must be an integer.",
    "float_type": "It must be a number.",
    "bool_type": "It must be true or false.",
    "bool_parsing": "It must be true or false.",
    "timezone_aware": "It must say its zone, as 2026-11-23T12:00:00Z.",
    "datetime_parsing": "It must be a time, as 2026-11-23T12:00:00Z.",
    "datetime_from_date_parsing": "It must be a time, as 2026-11-23T12:00:00Z.",
}


def parse(model: type[T], document: object) -> T:
    """Read a document.

    Raises:
        InvalidInput: Everything that is wrong with it.
    """
    if isinstance(document, dict):
        refuse_crowds(document)
    try:
        return model.model_validate(document)
    except ValidationError as invalid:
        raise InvalidInput(from_pydantic(invalid.errors(include_url=False, include_input=False))) from None


def refuse_crowds(container: Container, at: Location = None) -> None:
    """Refuse an object that has more fields than any of ours, before each of them is complained about."""
    if isinstance(container, dict) and len(container) > _MOST_FIELDS:
        message = f"There are {len(container)} fields; no object here has more than {_MOST_FIELDS}."
        raise InvalidInput.at(path(at), "too_many_fields", message)


def parser(model: type[T]) -> Callable[[object, Settings], T]:
    """Return `parse` for one model, in the form of a body's converter."""
    return lambda document, _settings: parse(model, document)


def from_pydantic(errors: Sequence[Mapping[str, object]], *, skip: int = 0) -> list[Problem]:
    """Return pydantic's errors as problems; ``skip`` leaves out the first parts of each location."""
    return [_problem(error, skip) for error in errors]


def _problem(error: Mapping[str, object], skip: int) -> Problem:
    kind, location, message = str(error["type"]), error["loc"], str(error["msg"])
    parts = list(location)[skip:] if isinstance(location, Sequence) else []
    if len(parts) > 1 and parts[-1] == "[key]":
        parts[-2:] = [str(parts[-2])]  # the key itself is wrong
    where = join(part for part in parts if part not in _TAGS)
    code = _CODES.get(kind) or ("wrong_type" if kind.endswith(("_type", "_parsing", "_from_float")) else kind)
    code = code if code in PAGES else "invalid_value"
    if where == "cursor" and code == "invalid_name":
        code = "invalid_cursor"
    if kind == "enum" and where.startswith("nodes[") and where.endswith("].type"):
        code = "unknown_node_type"
    if kind == "extra_forbidden":
        message = f"There is no field {shown(str(parts[-1]))!r} here."
    said = _MESSAGES.get(kind) or message.replace("Input should", "It must").replace("String should", "It must")
    return Problem(where, code, said if said.endswith(".") else said + ".")
