"""Who may send usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokentide_common.accounts import KeyDirectory, KeyRecord
from tokentide_common.errors import Forbidden
from tokentide_common.keys import KeyKind

_KINDS: Final[tuple[KeyKind, ...]] = ("m", "a")


async def admit_sender(keys: KeyDirectory, credentials: str | Mapping[str, str]) -> KeyRecord:
    """Return whom a key speaks for; raises `Unauthorized`, `Forbidden` or `Unavailable`."""
    key = await keys.admit(credentials, _KINDS)
    # Whoever is given a key to look must not be able to write what others then see.
    if key.scopes and "manage" not in key.scopes.split():
        raise Forbidden("this key only reads: sending takes a machine key, or an API key that may manage")
    return key
