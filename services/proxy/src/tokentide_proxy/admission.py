"""Who may pass, with whose credentials: a request's own key told from the provider's, and put in its place.

Where the Tokentide key is says what is wanted:
- in `x-tokentide-key`: it names who calls; the client's own provider key or subscription goes on untouched;
- in the place of the provider's key: it is replaced by the key that the organisation keeps for the provider;
- nowhere, from this very machine, where a setting allows it: the machine's user, with their own provider key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from tokentide_common.credential_directory import LiveCredentials
from tokentide_common.errors import Unauthorized
from tokentide_common.key_directory import KeyRecord, LiveKeys
from tokentide_common.keys import KeyKind
from tokentide_common.local_peer import is_local
from tokentide_proxy.exchange import Dialect, Headers, Upstream

_KINDS: Final[tuple[KeyKind, ...]] = ("p",)
_OWN: Final = b"x-tokentide-key"
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_OF_KEYS: Final = _CREDENTIALS | {_OWN}
_OURS: Final = re.compile(rb"tt_[mpa]_")
_QUERY_KEY: Final = re.compile(rb"(?<=[?&])key=([^&]*)(?:&|$)")
# A subscription's token is a bearer; an API key has a header of its own.
_ANTHROPIC_BEARER: Final = "sk-ant-oat"


class Admission(msgspec.Struct, frozen=True):
    """Whom a request is for, and what goes to the provider in place of what came."""

    key: KeyRecord
    mode: Literal["managed", "passthrough", "local"]
    target: bytes
    headers: Headers


class Gate:
    """Lets requests in; a known key waits for nothing."""

    def __init__(
        self, keys: Callable[[], LiveKeys], credentials: LiveCredentials, *, loopback_key: str
    ) -> None:
        self._keys = keys
        self._credentials = credentials
        self._loopback_key = loopback_key

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Return who calls and what to send; raises `Unauthorized` or `Unavailable`.

        `peer` is the address of the connection. No credential of ours is left in what is returned.
        """
        own, sent = _keys_in(headers, target)
        ours = own or next((text for text in sent if _OURS.match(text)), b"")
        if ours:
            key = await self._keys().admit(ours.decode("latin-1"), _KINDS)
            if own and any(not _OURS.match(text) for text in sent):
                return Admission(key, "passthrough", *_without_ours(target, headers))
            return Admission(key, "managed", *self._managed(key, upstream, target, headers))
        names = [name.decode("latin-1") for name, _ in headers]
        if self._loopback_key and is_local(names, peer):
            key = await self._keys().admit(self._loopback_key, _KINDS)
            return Admission(key, "local", target, headers)
        raise Unauthorized(
            "a Tokentide proxy key (tt_p_…) is needed: in x-tokentide-key beside your provider's own key, "
            "or in its place"
        )

    def _managed(
        self, key: KeyRecord, upstream: Upstream, target: bytes, headers: Headers
    ) -> tuple[bytes, Headers]:
        name = upstream.name or upstream.dialect
        secret = self._credentials.secret_for(key.org_id, name)
        if secret is None:
            raise Unauthorized(
                f"no key for {name} is kept for your organisation; an administrator can add one",
                code="no_provider_key",
            )
        rest = [header for header in headers if header[0] not in _OF_KEYS]
        return _without_query_key(target), [*rest, provider_header(upstream.dialect, secret)]


def provider_header(dialect: Dialect, secret: str) -> tuple[bytes, bytes]:
    """Return the header by which a provider of this dialect takes its key."""
    raw = secret.encode("ascii")
    if dialect == "gemini":
        return b"x-goog-api-key", raw
    if dialect == "anthropic" and not secret.startswith(_ANTHROPIC_BEARER):
        return b"x-api-key", raw
    return b"authorization", b"Bearer " + raw


def _keys_in(headers: Headers, target: bytes) -> tuple[bytes, list[bytes]]:
    """Return our own header's key, and every other credential of the request."""
    own, sent = b"", []
    for name, value in [header for header in headers if header[0] in _OF_KEYS]:
        if name == _OWN:
            own = value.strip()
        else:
            scheme, _, token = value.strip().partition(b" ")
            sent.append(token.strip() if token and scheme.lower() == b"bearer" else value.strip())
    if b"key=" in target and (query := _QUERY_KEY.search(target)) is not None:
        sent.append(unquote_to_bytes(query[1]))
    return own, [text for text in sent if text]


def _without_ours(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Leave out our key, wherever it is, and nothing else."""
    kept = [
        (name, value)
        for name, value in headers
        if name != _OWN and not (name in _CREDENTIALS and _OURS.search(value))
    ]
    query = _QUERY_KEY.search(target)
    ours = query is not None and _OURS.match(unquote_to_bytes(query[1]))
    return (_without_query_key(target) if ours else target), kept


def _without_query_key(target: bytes) -> bytes:
    return _QUERY_KEY.sub(b"", target).rstrip(b"?&") if b"key=" in target else target
