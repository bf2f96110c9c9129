"""A head is recognised if it is, byte for byte but for the length of the body, the one that was accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_proxy.familiar_head import FamiliarHead

BEFORE, AFTER = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nContent-Length: ", b"\r\nx-api-key: k\r\n\r\n"
HEAD = BEFORE + b"2" + AFTER


def known() -> FamiliarHead:
    head = FamiliarHead.of(HEAD)
    assert head is not None
    return head


@given(body=st.binary(max_size=300))
def test_the_same_head_with_another_length_is_recognised(body: bytes) -> None:
    request = BEFORE + b"%d" % len(body) + AFTER + body
    assert known().body_after(request) == body
    assert known().with_length(len(body)) + body == request


@given(at=st.integers(0, len(HEAD) + 1), other=st.binary(min_size=1, max_size=1), insert=st.booleans())
def test_one_byte_that_differs_makes_it_another_head(at: int, other: bytes, insert: bool) -> None:
    request = HEAD + b"{}"
    changed = request[:at] + other + request[at if insert else at + 1 :]
    body = known().body_after(changed)
    if body is not None:
        # What is left of the head is then what was accepted, and the body as long as it says.
        length = len(changed) - len(BEFORE) - len(AFTER) - len(body)
        digits = changed[len(BEFORE) : len(BEFORE) + length]
        assert changed == BEFORE + digits + AFTER + body
        assert digits.isdigit()
        assert int(digits) == len(body)


@pytest.mark.parametrize("digits", [b"", b"+2", b" 2", b"2 ", b"0x2", b"2,2", b"\xb2", b"9" * 16, b"-0"])
def test_what_is_no_plain_number_is_read_again(digits: bytes) -> None:
    assert known().body_after(BEFORE + digits + AFTER + b"{}") is None


@pytest.mark.parametrize("body", [b"", b"{", b"{}G", b"{}GET / HTTP/1.1\r\n\r\n"])
def test_a_body_that_is_not_there_as_a_whole_or_not_alone_is_read_again(body: bytes) -> None:
    assert known().body_after(HEAD + body) is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 2\r\n",
    ],
)
def test_a_head_without_one_length_is_not_remembered(head: bytes) -> None:
    assert FamiliarHead.of(head) is None
