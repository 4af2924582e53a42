"""JSON as text, compact, by encoders that are made once."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable

Encode = Callable[[object], str]


def encoder(*, ensure_ascii: bool, allow_nan: bool) -> Encode:
    """Return what makes compact text of values that are JSON already, in which nothing holds itself.

    `json` makes the part of it that is written in C anew for each text, which takes longer than a short text. An
    interpreter without that part gets what `json` has instead.
    """
    slow = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan, check_circular=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return slow.encode
    escape = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    parts = make(None, slow.default, escape, None, ":", ",", False, False, allow_nan)  # noqa: FBT003 - as C has it

    def encode(value: object) -> str:
        return "".join(parts(value, 0))

    return encode
