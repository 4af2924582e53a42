"""API keys as text: found by scanners, read whole or not at all."""

from __future__ import annotations

import re

import pytest

from sandgraph.model.api_key import SECRET_BYTES, digest_of, read_key, write_key

KEY_ID = "key_01M83P6AAQTJJHCZVMJRSGVCH0"
KEY = write_key(KEY_ID, bytes(range(SECRET_BYTES)))


@pytest.mark.parametrize("secret", [bytes(SECRET_BYTES), b"\xff" * SECRET_BYTES, bytes(range(SECRET_BYTES))])
def test_a_key_is_read_as_it_was_written(secret: bytes) -> None:
    text = write_key(KEY_ID, secret)
    read = read_key(text)
    assert read is not None
    assert read.key_id == KEY_ID
    assert text.startswith("sgk_01M83P6AAQTJJHCZVMJRSGVCH0_")
    assert re.fullmatch(r"sgk_[0-9A-Z]{26}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", text)


def test_other_secrets_are_other_keys() -> None:
    other = write_key(KEY_ID, bytes(SECRET_BYTES))
    one, two = read_key(KEY), read_key(other)
    assert one is not None
    assert two is not None
    assert one.secret != two.secret
    assert digest_of(one.secret) != digest_of(two.secret)
    assert one.secret not in digest_of(one.secret)


@pytest.mark.parametrize("at", range(4, len(KEY)))
def test_one_wrong_character_makes_it_no_key(at: int) -> None:
    changed = "1" if KEY[at] != "1" else "2"
    assert read_key(KEY[:at] + changed + KEY[at + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "sgk_", KEY[:-1], KEY + "0", f" {KEY}", f"{KEY}\n", KEY.lower(), KEY.replace("0", "\u0660")]
)
def test_what_is_no_key_is_not_read(text: str) -> None:
    assert read_key(text) is None
