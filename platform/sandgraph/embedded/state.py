"""States and parts of them, as a program hands them over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sandgraph.api.schemas.control import NewEvent, NewFork, parse_event, parse_fork
from sandgraph.api.schemas.run import parse_run
from sandgraph.errors import InvalidInput
from sandgraph.model.state import Json
from sandgraph.settings import Settings
from sandgraph_runner.state import WorkflowState

_PATH = "initial_state"


def checked_state(state: object, graph_id: str, settings: Settings) -> Mapping[str, Json]:
    """Return a copy made of plain JSON types.

    Args:
        state: A dict, a `WorkflowState`, or None for an empty one.
        graph_id: The graph it is for.
        settings: Its bounds.

    Raises:
        InvalidInput: It is none of these, holds something that JSON does not have, or is over its bounds.
    """
    given = {} if state is None else state.to_dict() if isinstance(state, WorkflowState) else state
    if not isinstance(given, dict):
        raise InvalidInput.at(_PATH, "wrong_type", f"It must be a dict, not a {type(given).__name__}.")
    copy = _plain(given, _PATH, settings.max_state_depth)
    return parse_run({"graph_id": graph_id, _PATH: copy}, settings).initial_state


def checked_event(name: object, payload: object, event_id: object, settings: Settings) -> NewEvent:
    """Return an event whose payload is a copy made of plain JSON types.

    Raises:
        InvalidInput: At ``name``, ``payload`` or ``event_id``.
    """
    copy = _plain(payload, "payload", settings.max_state_depth)
    return parse_event({"name": name, "payload": copy, "event_id": event_id}, settings)


def checked_fork(at: object, state: object, delete: object, functions: object, settings: Settings) -> NewFork:
    """Return from where a run is forked, with what it changes as a copy made of plain JSON types.

    Raises:
        InvalidInput: At ``at``, ``state``, ``delete`` or ``functions``.
    """
    given = {} if state is None else state.to_dict() if isinstance(state, WorkflowState) else state
    copy = _plain(given, "state", settings.max_state_depth)
    # A word by itself would be taken for its letters.
    keys = [*delete] if isinstance(delete, Iterable) and not isinstance(delete, str) else delete
    return parse_fork({"at": at, "state": copy, "delete": keys, "functions": functions}, settings)


def _plain(value: object, path: str, depth: int) -> object:
    """Return a copy of exact JSON types; tuples become lists, and what is derived from a JSON type becomes that."""
    if isinstance(value, str):
        return _text(value, path)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if not isinstance(value, dict | list | tuple):
        message = (
            f"A {type(value).__name__} is not JSON; a state holds dicts, lists, strings, numbers, booleans and None."
        )
        raise InvalidInput.at(path, "not_json", message)
    if depth < 0:
        raise InvalidInput.at(path, "state_too_deep", "The state is nested too deeply, or contains itself.")
    if isinstance(value, dict):
        copy: dict[str, object] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidInput.at(path, "not_json", f"The key {key!r} is a {type(key).__name__}; keys are strings.")
            copy[_text(key, path)] = _plain(item, f"{path}.{key}", depth - 1)
        return copy
    items: list[object] = []
    for index, item in enumerate(value):
        items.append(_plain(item, f"{path}[{index}]", depth - 1))
    return items


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput.at(
            path, "invalid_text", "This is not valid Unicode text: it holds half a character."
        ) from None
    return str.__str__(value)
