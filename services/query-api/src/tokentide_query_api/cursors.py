"""Opaque cursors of lists: where the next page begins, and of which question. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from tokentide_common.errors import InvalidRequest


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything on the next page comes after (`at`, `id`) in newest-first order.

    The period is kept as instants, so that "today" or "7d" stay the same on all pages. Holds no
    organisation: that is always the caller's.
    """

    start_ms: int
    end_ms: int
    at: int
    id: str
    question: str


def question_digest(org_id: str, route: str, others: object) -> str:
    """Return a digest of everything that must stay the same from page to page."""
    text = msgspec.json.encode([org_id, route, others])
    return base64.urlsafe_b64encode(hashlib.blake2b(text, digest_size=9).digest()).decode()


def encoded(cursor: Cursor) -> str:
    """Return the text of a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode().rstrip("=")


def decoded(text: str, question: str) -> Cursor:
    """Return the cursor of a text. Raises `InvalidRequest` for one of another question or a broken one."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(raw, type=Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        cursor = None
    if cursor is None or cursor.question != question or not _plausible(cursor):
        raise InvalidRequest(
            "the cursor belongs to another question: repeat it with the parameters of the first page",
            code="invalid_cursor",
            fields={"cursor": "take next_cursor as it is"},
        )
    return cursor


def _plausible(cursor: Cursor) -> bool:
    return all(0 <= ms < 1 << 42 for ms in (cursor.start_ms, cursor.end_ms, cursor.at))
