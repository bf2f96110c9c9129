"""Tokentide's own keys: `tt_` + kind letter + `_` + 256 random bits in base62 + a checksum of six characters.

The checksum lets a mistyped or truncated key be refused, and a leaked one be recognised by scanners, without
a look at the database. Only the digest is stored: SHA-256 is enough, since nobody can guess 256 random bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Final, Literal

KeyKind = Literal["m", "p", "a"]
"""m: a machine that pushes usage; p: a client of the proxy; a: a caller of the query API."""

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_PREFIX: Final = "tt_"
_BODY_LENGTH: Final = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH: Final = 6  # 62**6 > 2**32
_SHAPE: Final = re.compile(rf"tt_[mpa]_[0-9A-Za-z]{{{_BODY_LENGTH + _CHECKSUM_LENGTH}}}")


def mint_key(kind: KeyKind) -> tuple[str, str]:
    """Return a new key and its digest; the key itself is shown once and kept nowhere."""
    body = f"tt_{kind}_{_base62(secrets.randbits(256), _BODY_LENGTH)}"
    secret = body + _checksum(body)
    return secret, key_digest(secret)


def key_digest(secret: str) -> str:
    """Return what is stored of a key: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def looks_like_key(text: str, kind: KeyKind | None = None) -> bool:
    """Return whether a text has the shape and the checksum of a key (of this kind), known or not."""
    if not _SHAPE.fullmatch(text) or (kind is not None and text[3] != kind):
        return False
    return _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
