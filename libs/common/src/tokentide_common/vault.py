"""What an organisation's keys for its providers are sealed with."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from tokentide_common.errors import InvalidRequest

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_PURPOSE: Final = b"tokentide provider credentials 1"


class Vault:
    """Seals and opens with `TOKENTIDE_SECRET_KEY`; raises `InvalidRequest` when that is not set."""

    def __init__(self, secret_key: str) -> None:
        if not secret_key:
            raise InvalidRequest(
                "TOKENTIDE_SECRET_KEY is not set: without it no provider's key can be kept",
                code="no_secret_key",
            )
        self._secret_key = secret_key
        self._opened: Fernet | None = None

    def seal(self, org_id: str, upstream: str, secret: str) -> bytes:
        """Return the ciphertext; it names what it is for, so that a row moved to another owner is no use."""
        return self._fernet().encrypt(f"{org_id}\x1f{upstream}\x1f{secret}".encode())

    def open(self, org_id: str, upstream: str, sealed: bytes) -> str | None:
        """Return the secret, or None: sealed under another key, or for somebody else."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 -- see `_fernet`

        try:
            owner, name, secret = self._fernet().decrypt(sealed).decode().split("\x1f", 2)
        except (InvalidToken, ValueError):
            return None
        return secret if (owner, name) == (org_id, upstream) else None

    def _fernet(self) -> Fernet:
        # Loaded when something is sealed or opened: it is a tenth of the memory of a worker of the proxy, and
        # where clients send their own providers' keys it is not needed.
        from cryptography.fernet import Fernet  # noqa: PLC0415 -- as above
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- as above
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 -- as above

        if self._opened is None:
            # One setting serves several purposes: each derives a key of its own from it.
            hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE)
            self._opened = Fernet(base64.urlsafe_b64encode(hkdf.derive(self._secret_key.encode())))
        return self._opened
