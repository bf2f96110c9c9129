"""Names for people whom others may count but not know: the same for one person, and not to be turned back."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Final

import msgspec

_PURPOSE: Final = b"tokentide pseudonyms 1"
_BYTES: Final = 10  # two of ten thousand people share a name in one of 10^16 organisations


class Pseudonyms:
    """Pseudonyms under `TOKENTIDE_SECRET_KEY`; without one, until the process ends."""

    def __init__(self, secret_key: str) -> None:
        # One setting serves several purposes: each derives a key of its own from it.
        master = hashlib.sha256((secret_key or secrets.token_hex(32)).encode()).digest()
        self._key = hashlib.blake2b(_PURPOSE, key=master, digest_size=32).digest()

    def of(self, org_id: str, kind: str, name: str) -> str:
        """Return the pseudonym of a name in an organisation, another one in each."""
        text = msgspec.json.encode([org_id, kind, name])
        digest = hashlib.blake2b(text, key=self._key, digest_size=_BYTES).digest()
        return f"anonymous-{base64.b32encode(digest).decode().lower()}"
