"""The bounds of the state that a run begins with."""

from __future__ import annotations

from sandgraph.errors import InvalidInput
from sandgraph.execution.worker import encode_state
from sandgraph.model.state import State, has_more_values
from sandgraph.settings import Settings


def checked_state(state: State, settings: Settings, path: str) -> bytes:
    """Return the JSON text of a state that is within its bounds.

    Args:
        state: What a run is to begin or to go on with.
        settings: Of the deployment.
        path: Of the state in what was submitted.

    Raises:
        InvalidInput: It has too many values, bytes or keys.
    """
    # Counted first: to encode millions of values would hold everything else up.
    if has_more_values(state, settings.max_state_values):
        message = f"The state has more than the {settings.max_state_values} values that it may have."
        raise InvalidInput.at(path, "too_many_values", message)
    text, limit = encode_state(state), settings.max_state_kb * 1024
    if len(text) > limit:
        message = f"The state has {len(text)} bytes as JSON; it may have {limit}."
        raise InvalidInput.at(path, "state_too_large", message)
    if len(state) > settings.max_state_keys:
        message = f"The state has {len(state)} keys; it may have {settings.max_state_keys}."
        raise InvalidInput.at(path, "too_many_keys", message)
    return text
