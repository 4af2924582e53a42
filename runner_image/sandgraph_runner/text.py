"""JSON text, by the same C functions that `json` uses, without what its import costs each sandbox's start.

That import is a third of it: regular expressions, and for their flags the enumerations. Whatever is not right, `json`
itself is asked to say so.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from sandgraph_runner.lean import Any, Callable

_BLANK = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Rules:
    """What the scanner reads its options from."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, pairs: Callable[[list[tuple[str, Any]]], Any] | None, constant: Callable[[str], Any]) -> None:
        self.object_pairs_hook = pairs
        self.parse_constant = constant


def decoder(
    *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None, constant: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """Return what parses a JSON text as `json.loads` does.

    Args:
        pairs: Makes objects, its ``object_pairs_hook``.
        constant: Is asked for NaN and the infinities, its ``parse_constant``.
    """
    rules = _Rules(pairs, constant or _CONSTANTS.__getitem__)
    scan = make_scanner(rules)  # type: ignore[arg-type]

    def decode(text: str) -> Any:
        try:
            value, end = scan(text, len(text) - len(text.lstrip(_BLANK)))
        except StopIteration:
            value, end = None, -1
        if end == len(text) or (end >= 0 and not text[end:].strip(_BLANK)):
            return value
        import json  # noqa: PLC0415 - see above

        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)

    return decode


def encoder(*, ascii_only: bool = True) -> Callable[[object], str]:
    """Return what makes a value a JSON text without blanks, as `json.dumps` does."""
    string = encode_basestring_ascii if ascii_only else encode_basestring

    def encode(value: object) -> str:
        # Anew each time: the first argument is where it keeps what it is in the middle of.
        return "".join(make_encoder({}, _refuse, string, None, ":", ",", False, False, True)(value, 0))  # noqa: FBT003

    return encode


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
