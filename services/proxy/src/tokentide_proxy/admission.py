"""Who may pass, with whose credentials: a request's own key told from the provider's, and put in its place.

Where the Tokentide key is says what is wanted:
- in `x-tokentide-key`: it names who calls; the client's own provider key or subscription goes on untouched;
- in the place of the provider's key: it is replaced by the key that the organisation keeps for the provider;
- nowhere, from this very machine, where a setting allows it: the machine's user, with their own provider key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from tokentide_common.credential_directory import LiveCredentials
from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_common.key_directory import KeyRecord, LiveKeys
from tokentide_common.keys import KeyKind, key_digest
from tokentide_common.local_peer import is_local
from tokentide_proxy.exchange import Admission, Dialect, Headers, Upstream

_KINDS: Final[tuple[KeyKind, ...]] = ("p",)
_OWN: Final = b"x-tokentide-key"
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_OF_KEYS: Final = _CREDENTIALS | {_OWN}
_OURS: Final = re.compile(rb"tt_[mpa]_")
_QUERY_KEY: Final = b"key="
# A subscription's token is a bearer; an API key has a header of its own.
_ANTHROPIC_BEARER: Final = "sk-ant-oat"


class _Said:
    """What a request says of who sends it."""

    __slots__ = ("beside_another", "key")

    def __init__(self, key: bytes, *, beside_another: bool) -> None:
        self.key = key
        """Ours, b"" if there is none."""
        self.beside_another = beside_another
        """In a header of its own, with the provider's key in its place."""


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
        said = _said(headers, target)
        key = await self._keys().admit(self._key_of(said, headers, peer), _KINDS)
        return self._admission(said, key, upstream, target, headers)

    def admit_at_once(
        self, upstream: Upstream, target: bytes, headers: Headers, peer: str
    ) -> Admission | None:
        """Do as `admit` does where nothing has to be waited for; None also where it would refuse."""
        said = _said(headers, target)
        try:
            key = self._keys().resolve(self._key_of(said, headers, peer), _KINDS)
            return self._admission(said, key, upstream, target, headers)
        except (Unauthorized, Unavailable):
            return None  # a key may be new, and a refusal is told and noted elsewhere

    def still_admits(self, admission: Admission, upstream: Upstream) -> bool:
        """Return whether the same request would be admitted in the same way now, its key looked up anew."""
        try:
            key = self._keys().resolve_digest(admission.digest, _KINDS)
        except (Unauthorized, Unavailable):
            return False
        return key is admission.key and (
            admission.mode != "managed"
            or self._credentials.secret_for(key.org_id, upstream.label) is admission.secret
        )

    def _key_of(self, said: _Said, headers: Headers, peer: str) -> str:
        if said.key:
            return said.key.decode("latin-1")
        if self._loopback_key and is_local([name.decode("latin-1") for name, _ in headers], peer):
            return self._loopback_key
        raise Unauthorized(
            "a Tokentide proxy key (tt_p_…) is needed: in x-tokentide-key beside your provider's own key, "
            "or in its place"
        )

    def _admission(
        self,
        said: _Said,
        key: KeyRecord,
        upstream: Upstream,
        target: bytes,
        headers: Headers,
    ) -> Admission:
        if not said.key:
            return Admission(key, "local", target, headers, key_digest(self._loopback_key))
        digest = key_digest(said.key.decode("latin-1"))
        if said.beside_another:
            return Admission(key, "passthrough", *_without_ours(target, headers), digest)
        name = upstream.label
        secret = self._credentials.secret_for(key.org_id, name)
        if secret is None:
            raise Unauthorized(
                f"no key for {name} is kept for your organisation; an administrator can add one",
                code="no_provider_key",
            )
        rest = [header for header in headers if header[0] not in _OF_KEYS]
        given = [*rest, provider_header(upstream.dialect, secret)]
        return Admission(key, "managed", _without_query_key(target), given, digest, secret)


def provider_header(dialect: Dialect, secret: str) -> tuple[bytes, bytes]:
    """Return the header by which a provider of this dialect takes its key."""
    raw = secret.encode("ascii")
    if dialect == "gemini":
        return b"x-goog-api-key", raw
    if dialect == "anthropic" and not secret.startswith(_ANTHROPIC_BEARER):
        return b"x-api-key", raw
    return b"authorization", b"Bearer " + raw


def _said(headers: Headers, target: bytes) -> _Said:
    own, sent = _keys_in(headers, target)
    ours = own or next((text for text in sent if _OURS.match(text)), b"")
    return _Said(ours, beside_another=bool(own) and any(not _OURS.match(text) for text in sent))


def _keys_in(headers: Headers, target: bytes) -> tuple[bytes, list[bytes]]:
    """Return our own header's key, and every other credential of the request."""
    own, sent = b"", []
    for name, value in [header for header in headers if header[0] in _OF_KEYS]:
        if name == _OWN:
            own = value.strip()
        else:
            scheme, _, token = value.strip().partition(b" ")
            sent.append(token.strip() if token and scheme.lower() == b"bearer" else value.strip())
    if _QUERY_KEY in target:
        parts = target.partition(b"?")[2].split(b"&")
        sent += [unquote_to_bytes(part[len(_QUERY_KEY) :]) for part in parts if part.startswith(_QUERY_KEY)]
    return own, [text for text in sent if text]


def _without_ours(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Leave out our key, wherever it is, and nothing else."""
    kept = [
        (name, value)
        for name, value in headers
        if name != _OWN and not (name in _CREDENTIALS and _OURS.search(value))
    ]
    return _without_query_key(target, only_ours=True), kept


def _without_query_key(target: bytes, *, only_ours: bool = False) -> bytes:
    path, mark, query = target.partition(b"?")
    if _QUERY_KEY not in query:
        return target
    parts = query.split(b"&")
    kept = [part for part in parts if not _is_key(part, only_ours=only_ours)]
    if len(kept) == len(parts):
        return target
    return path + mark + b"&".join(kept) if kept else path


def _is_key(part: bytes, *, only_ours: bool) -> bool:
    if not part.startswith(_QUERY_KEY):
        return False
    return not only_ours or _OURS.match(unquote_to_bytes(part[len(_QUERY_KEY) :])) is not None
