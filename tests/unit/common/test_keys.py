"""Keys: unguessable, self-checking, recognisable, and stored as a digest only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.keys import key_digest, looks_like_key, mint_key

SECRET, DIGEST = mint_key("m")
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"


@pytest.mark.parametrize("kind", ["m", "p", "a"])
def test_a_key_names_its_kind_and_holds_256_bits_and_a_checksum(kind):
    secret, digest = mint_key(kind)
    assert re.fullmatch(rf"tt_{kind}_[0-9A-Za-z]{{49}}", secret)
    assert looks_like_key(secret)
    assert looks_like_key(secret, kind)
    assert digest == key_digest(secret)


def test_a_key_of_another_kind_does_not_look_like_the_one_asked_for():
    assert not looks_like_key(SECRET, "a")


def test_no_two_keys_are_alike_and_a_digest_shows_nothing_of_its_key():
    keys = {mint_key("a")[0] for _ in range(100)}
    assert len(keys) == 100
    assert SECRET[5:15] not in DIGEST
    assert len(DIGEST) == 64


@given(st.integers(0, len(SECRET) - 1), st.sampled_from(CHARACTERS))
def test_a_key_with_any_one_character_mistyped_is_refused(position, character):
    mistyped = SECRET[:position] + character + SECRET[position + 1 :]
    assert looks_like_key(mistyped) == (mistyped == SECRET)


@given(st.text(max_size=80))
def test_arbitrary_text_is_no_key(text):
    assert not looks_like_key(text)
    assert not looks_like_key(f"tt_m_{text}")


@pytest.mark.parametrize(
    "text",
    [SECRET[:-1], SECRET + "0", " " + SECRET, SECRET + "\n", SECRET.lower(), ""],
    ids=["truncated", "padded", "space", "newline", "lower", "empty"],
)
def test_a_truncated_padded_or_changed_key_is_refused(text):
    assert not looks_like_key(text)
