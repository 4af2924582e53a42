"""What is wrong with a state, or with what comes into one."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_wrong = of(422)
_STATE = "initial_state"

PAGES = (
    _wrong(
        "state_too_large",
        "The state is over `SANDGRAPH_MAX_STATE_KB` as JSON.",
        "Keep large data elsewhere, and its address in the state.",
        "The state has 5000000 bytes as JSON; it may have 4194304.",
        _STATE,
    ),
    _wrong(
        "state_too_deep",
        "A value of the state is nested deeper than `SANDGRAPH_MAX_STATE_DEPTH`.",
        "Flatten it: lists that refer to each other by index say the same.",
        "A value of the state may be nested 64 deep.",
        f"{_STATE}.tree.left.left",
    ),
    _wrong(
        "too_many_keys",
        "The state has more top-level keys than `SANDGRAPH_MAX_STATE_KEYS`; or a graph names more keys than it may.",
        "Put keys that belong together into one object.",
        "The state has 20000 keys; it may have 10000.",
        _STATE,
    ),
    _wrong(
        "too_many_values",
        "The state has more values than `SANDGRAPH_MAX_STATE_VALUES`, at all depths together.",
        "Put many small values into one text.",
        "The state has more than the 250000 values that it may have.",
        _STATE,
    ),
    _wrong(
        "integer_out_of_range",
        "An integer lies outside ±2^63.",
        "Send it as a string.",
        "An integer of a state lies within ±2^63; send a larger one as a string.",
        f"{_STATE}.id",
    ),
    _wrong(
        "number_not_finite",
        "A number is too large to be finite.",
        "Send it as a string, or null where there is none.",
        "A number of a state is finite.",
        f"{_STATE}.ratio",
    ),
    _wrong(
        "payload_too_large",
        "The payload of an event is over `SANDGRAPH_MAX_EVENT_KB` as JSON.",
        "Keep large data elsewhere, and send its address.",
        "It may have 65536 bytes as JSON.",
        "payload",
    ),
)
