"""JSON by its C functions: the same values, texts and errors as `json` gives."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandgraph_runner import verdict
from sandgraph_runner.text import decoder, encoder

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)

STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@given(value=values, ascii_only=st.booleans())
def test_a_value_gives_the_text_that_json_gives_and_comes_back(value: object, *, ascii_only: bool) -> None:
    text = encoder(ascii_only=ascii_only)(value)
    assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    assert decoder()(text) == value


@given(values)
def test_blanks_around_and_inside_are_read_over(value: object) -> None:
    assert decoder()(" \t\n\r" + json.dumps(value, indent=2) + " \t\n\r") == value


WRONG = [
    "",
    " ",
    "{",
    "[1,]",
    '{"a":1} x',
    "1 2",
    "nul",
    '"',
    '"\n"',
    '{"a" 1}',
    "\u00a01",
    "-",
    '"\\x"',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_no_json_raises_what_json_raises(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as theirs:
        json.loads(text)
    with pytest.raises(type(theirs.value)) as ours:
        decoder()(text)
    if isinstance(theirs.value, ValueError):
        assert str(ours.value) == str(theirs.value)


def test_constants_and_pairs_are_asked_for() -> None:
    assert decoder()("[Infinity,-Infinity]") == [math.inf, -math.inf]
    assert math.isnan(decoder()("NaN"))
    assert decoder(constant=str.lower)("[NaN]") == ["nan"]
    assert decoder(pairs=list)('{"a":1,"a":2}') == [("a", 1), ("a", 2)]


def test_what_json_does_not_have_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        encoder()({"a": {1}})
    with pytest.raises(ValueError, match="Circular reference"):
        encoder()(endless)


@given(value=values, ascii_only=st.booleans())
def test_the_strings_of_a_text_are_cut_out(value: object, *, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert verdict._without_strings(body) == STRINGS.sub(b"", body)


@given(st.lists(st.sampled_from([rb"\\", rb"\"", rb"\n", b"a", b"["])).map(b"".join))
def test_no_row_of_backslashes_hides_where_a_string_ends(content: bytes) -> None:
    body = b'["' + content + b'",{}]'
    assert verdict._without_strings(body) == b"[,{}]" == STRINGS.sub(b"", body)


@given(st.text(alphabet="\\udD89abfFX0").map(str.encode))
def test_half_a_character_is_seen(body: bytes) -> None:
    assert verdict._has_surrogate(body) is (SURROGATE.search(body) is not None)
