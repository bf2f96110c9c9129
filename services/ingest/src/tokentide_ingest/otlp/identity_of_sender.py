"""Whose telemetry it is: the key that was sent, or on the same machine the key of its user."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tokentide_common.accounts import KeyDirectory, KeyRecord, secret_from
from tokentide_common.keys import KEY_PREFIX
from tokentide_common.local_peer import is_local
from tokentide_common.token_bucket import TokenBuckets
from tokentide_ingest.who_sends import admit_sender


class Senders:
    """Lets in who has a key, at the pace of that key."""

    def __init__(self, keys: Callable[[], KeyDirectory], rate: TokenBuckets, *, loopback_key: str) -> None:
        self._keys = keys
        self._rate = rate
        self._loopback_key = loopback_key

    async def admit(self, headers: Mapping[str, str], peer: str) -> KeyRecord:
        """Return whom a request speaks for; raises what `admit_sender` does, and `RateLimited`.

        `peer` is the address of the connection itself, and no header's word for it.
        """
        credentials: str | Mapping[str, str] = headers
        if self._loopback_key and not _names_a_key(headers) and is_local(headers, peer):
            credentials = self._loopback_key
        key = await admit_sender(self._keys(), credentials)
        self._rate.admit(key.key_id)
        return key


def _names_a_key(headers: Mapping[str, str]) -> bool:
    """Tell whether a request comes with a key of ours, right or wrong.

    A client whose telemetry goes on to a collector sends that one's credentials: they are not for us.
    """
    return bool(headers.get("x-tokentide-key")) or secret_from(headers).startswith(KEY_PREFIX)
