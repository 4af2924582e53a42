from __future__ import annotations

import json

import pytest

from sandgraph.model.json_text import encoder

VALUES = ["\x00\udc80é", 1.5, -(2**63), None, True, [], {}, {"a": [1, {"b": "ü"}], "": [[]]}]


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("is_fast", [True, False])
def test_text_is_what_json_makes(monkeypatch: pytest.MonkeyPatch, *, ensure_ascii: bool, is_fast: bool) -> None:
    if not is_fast:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    encode = encoder(ensure_ascii=ensure_ascii, allow_nan=False)
    for value in [*VALUES, VALUES]:
        assert encode(value) == json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":"))
    for wrong in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            encode(wrong)
