"""Heads that are known already: a client sends the same one with each request but for the length of the body.

What was accepted once, byte for byte, need not be read again.
"""

from __future__ import annotations

import re
from typing import Final, Self

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?=\r\n)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 15


class FamiliarHead:
    """A head with one `content-length`, which may be another one the next time."""

    __slots__ = ("_after", "_after_bytes", "_before", "_before_bytes")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._before_bytes = before, len(before)
        self._after, self._after_bytes = after, len(after)

    @classmethod
    def of(cls, head: bytes) -> Self | None:
        """Return what recognises a head, with the empty line at its end; None: it has no one length."""
        found = list(_LENGTH.finditer(head))
        if len(found) != 1 or not head.endswith(_END):
            return None
        return cls(head[: found[0].start(1)], head[found[0].end(1) :])

    def body_after(self, data: bytes) -> bytes | None:
        """Return the body if the data are this head and all of its body, and nothing else."""
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r\n", self._before_bytes, self._before_bytes + _MOST_DIGITS + 2)
        digits = data[self._before_bytes : end] if end > 0 else b""
        # The guarantee: but for digits in the place of digits it is the very head that was accepted.
        if not digits.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + self._after_bytes :]
        return body if len(body) == int(digits) else None

    def with_length(self, length: int) -> bytes:
        """Return the head of a body of this length."""
        return b"%b%d%b" % (self._before, length, self._after)
