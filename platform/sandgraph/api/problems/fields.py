"""What is wrong with a field or a parameter by itself, of whatever document."""

from __future__ import annotations

from sandgraph.api.problems.page import of

_wrong = of(422)

PAGES = (
    _wrong(
        "invalid_input",
        "Something of what was sent is wrong.",
        "See `errors` for what, and where.",
        "It is wrong.",
        "name",
    ),
    _wrong(
        "invalid_value",
        "A field or parameter has a value that it cannot have.",
        "See the message, and the field's description in `/docs`.",
        "It must be a valid value.",
        "name",
    ),
    _wrong(
        "unknown_field",
        "There is no field or parameter of that name here. It may be spelled wrong, and is never passed over.",
        "Leave it out, or spell it as `/docs` does.",
        "There is no field 'inital_state' here.",
        "inital_state",
    ),
    _wrong("missing_field", "A field that is required is not there.", "Send it.", "It is required.", "graph_id"),
    _wrong(
        "wrong_type",
        'A value has another type than the field: `"5"` is no integer, `1` is not true.',
        "Send the type that the message names.",
        "It must be an integer.",
        "nodes[1].max_iterations",
    ),
    _wrong(
        "unknown_value",
        "The field takes one of a few words, and this is none of them.",
        "Choose one of those that the message names.",
        "It must be 'pinned' or 'latest'.",
        "functions",
    ),
    _wrong(
        "out_of_range",
        "A number is too small or too large, or a text too long.",
        "Stay within the bounds that the message names.",
        "It must be less than or equal to 500.",
        "limit",
    ),
    _wrong(
        "too_short",
        "A text or a list is shorter than it may be; mostly it is empty.",
        "Give it something.",
        "It must have at least 1 character.",
        "name",
    ),
    _wrong(
        "too_long",
        "A text or a list is longer than it may be.",
        "Shorten it.",
        "It must have at most 128 characters.",
        "name",
    ),
    _wrong(
        "too_many_fields",
        "An object has more fields than any that this API knows.",
        "See the schema in `/docs`: free keys go into `initial_state`, `state`, `payload` or `metadata`.",
        "There are 4000 fields; no object here has more than 32.",
        "",
    ),
    _wrong(
        "control_character",
        "A name has a line break, a NUL or another control character in it.",
        "Use characters that can be seen.",
        "It must not contain control characters.",
        "nodes[0].name",
    ),
    _wrong(
        "duplicate_name",
        "A list names something twice that it can name once.",
        "Leave one of them out.",
        "'draft' is there more than once.",
        "delete[1]",
    ),
    _wrong(
        "invalid_name",
        "The name has characters that it cannot have, or is a keyword of Python.",
        "Use letters, digits and underscores, and no digit first.",
        "It must match pattern '^[A-Za-z_][A-Za-z0-9_]*$'.",
        "name",
    ),
    _wrong(
        "invalid_cursor",
        "The cursor is none that this list gave, or was given for another sort.",
        "Begin without one, and hand on `next_cursor` as it is, with the same `sort`.",
        "This is no cursor of this list; begin without one.",
        "cursor",
    ),
    _wrong(
        "invalid_time",
        "It is neither a time nor a duration.",
        "Give a time of RFC 3339 with its offset, or how long ago: a number and ms, s, m, h or d.",
        "It must be a time as 2026-11-23T12:00:00Z, or a duration as 10m.",
        "since",
    ),
    _wrong(
        "not_together",
        "Two things were asked for that exclude each other.",
        "Leave one of them out.",
        "It cannot be asked for live.",
        "before",
    ),
)
