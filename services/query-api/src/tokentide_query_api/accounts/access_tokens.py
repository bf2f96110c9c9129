"""Access tokens: JWTs of a quarter of an hour that name a user's session and organisation. Pure."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

import jwt
import msgspec

from tokentide_common.errors import Unauthorized

LIFETIME: Final = timedelta(minutes=15)
_SKEW_S: Final = 5  # between the clocks of replicas
_ALGORITHM: Final = "HS256"
_ISSUER: Final = "tokentide"
_AUDIENCE: Final = "tokentide-api"
_PURPOSE: Final = b"tokentide access tokens 1"
_REFUSED: Final = "a valid access token is needed: log in or refresh"


class Claims(msgspec.Struct, frozen=True):
    """What a token says. Role and membership are looked up each time, so that they end at once."""

    user_id: str
    session_id: str
    org_id: str


class _Payload(msgspec.Struct, frozen=True):
    sub: str
    sid: str
    org: str
    iat: int
    exp: int


class AccessTokens:
    """Issues and reads tokens under `TOKENTIDE_SECRET_KEY`; without one, until the process ends."""

    def __init__(self, secret_key: str) -> None:
        # One setting serves several purposes: each derives a key of its own from it.
        master = hashlib.sha256((secret_key or secrets.token_hex(32)).encode()).digest()
        self._key = hashlib.blake2b(_PURPOSE, key=master, digest_size=32).digest()

    def issue(self, claims: Claims, now: datetime) -> str:
        """Return a token that is good for `LIFETIME`."""
        payload = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
            "sub": claims.user_id,
            "sid": claims.session_id,
            "org": claims.org_id,
        }
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM)

    def read(self, token: str, now: datetime) -> Claims:
        """Return what a token says. Raises one and the same `Unauthorized` for whatever is wrong with it."""
        try:
            raw = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],  # never the one that the token names
                issuer=_ISSUER,
                audience=_AUDIENCE,
                # Its times are judged below, by the caller's clock.
                options={"require": ["iss", "aud"], "verify_exp": False, "verify_iat": False},
            )
            said = msgspec.convert(raw, _Payload)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as exc:
            raise Unauthorized(_REFUSED) from exc
        if not said.iat - _SKEW_S <= now.timestamp() < said.exp:
            raise Unauthorized(_REFUSED)
        return Claims(said.sub, said.sid, said.org)
