"""What letters say, and how they are sealed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.accounts import letters
from tokentide_query_api.accounts.safe import Safe

SECRET = "s" * 40


def test_a_link_ends_with_its_secret_behind_the_hash():
    letter = letters.reset_password("ann@example.com", "https://tokentide.example/", "the-secret")
    assert "https://tokentide.example/reset-password#token=the-secret\n" in letter.text
    assert "the-secret" not in letter.subject


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_that_somebody_chose_end_no_line(organisation, inviter):
    letter = letters.invitation(
        "bob@example.com", "https://t.example", "the-secret", organisation=organisation, inviter=inviter
    )
    assert len(letter.subject.splitlines()) == 1
    assert len(letter.text.splitlines()) == 5
    assert "#token=the-secret" in letter.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Acme Inc.", "Acme Inc."),
        ("pay at https://evil.example/login now", "pay at https evil example login now"),
        ("www.evil.example", "www evil example"),
        ("ann@evil\u3002example", "ann evil example"),
    ],
)
def test_the_name_of_an_organisation_is_no_link_in_a_letter(name, shown):
    letter = letters.invitation("bob@example.com", "https://t.example", "s", organisation=name, inviter="")
    assert letter.subject == f"Invitation to {shown}"
    assert f"invited to {shown} on Tokentide" in letter.text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_is_opened_by_the_same_key_for_the_same_owner(text):
    safe = Safe(SECRET)
    sealed = safe.seal("letters", "msg_1", text)
    assert Safe(SECRET).open("letters", "msg_1", sealed) == text
    assert safe.open("letters", "msg_2", sealed) is None
    assert safe.open("pending logins", "msg_1", sealed) is None
    assert Safe("t" * 40).open("letters", "msg_1", sealed) is None


@pytest.mark.parametrize("sealed", [b"", b"nonsense", b"\xff\xfe"])
def test_what_was_never_sealed_is_not_opened(sealed):
    assert Safe(SECRET).open("letters", "msg_1", sealed) is None


def test_digests_differ_by_key_and_purpose_and_not_by_process():
    digest = Safe(SECRET).digest("device codes", "BCDFGHJK")
    assert digest == Safe(SECRET).digest("device codes", "BCDFGHJK")
    assert digest != Safe(SECRET).digest("login failures", "BCDFGHJK")
    assert digest != Safe("t" * 40).digest("device codes", "BCDFGHJK")


def test_without_a_secret_key_each_process_has_its_own():
    sealed = Safe("").seal("letters", "msg_1", "text")
    assert Safe("").open("letters", "msg_1", sealed) is None
