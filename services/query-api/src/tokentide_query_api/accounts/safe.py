"""What is kept sealed, or only as a digest that nobody can guess from: all under `TOKENTIDE_SECRET_KEY`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Purpose = Literal[
    "letters", "device codes", "login failures", "pending logins", "live places", "alert channels"
]


class Safe:
    """Seals texts and digests short ones; without a secret key only until the process ends."""

    def __init__(self, secret_key: str) -> None:
        self._secret = (secret_key or secrets.token_hex(32)).encode()
        self._keys: dict[Purpose, bytes] = {}

    def seal(self, purpose: Purpose, owner: str, text: str) -> bytes:
        """Return the ciphertext; it names its owner, so that in another row it is no use."""
        return Fernet(base64.urlsafe_b64encode(self._key(purpose))).encrypt(f"{owner}\x1f{text}".encode())

    def open(self, purpose: Purpose, owner: str, sealed: bytes) -> str | None:
        """Return the text, or None: sealed under another key, or for something else."""
        try:
            opened = Fernet(base64.urlsafe_b64encode(self._key(purpose))).decrypt(sealed).decode()
        except (InvalidToken, ValueError):
            return None
        named, _, text = opened.partition("\x1f")
        return text if named == owner else None

    def digest(self, purpose: Purpose, text: str) -> str:
        """Return a keyed digest: of short codes and e-mail addresses a plain one could be guessed back."""
        return hmac.new(self._key(purpose), text.encode(), hashlib.sha256).hexdigest()

    def _key(self, purpose: Purpose) -> bytes:
        # One setting serves several purposes: each derives a key of its own from it.
        if purpose not in self._keys:
            hkdf = HKDF(
                algorithm=hashes.SHA256(), length=32, salt=None, info=f"tokentide {purpose} 1".encode()
            )
            self._keys[purpose] = hkdf.derive(self._secret)
        return self._keys[purpose]
