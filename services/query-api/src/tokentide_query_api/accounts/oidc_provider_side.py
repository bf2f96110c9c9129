"""An identity provider: what it tells about itself, where a login begins, and whom a code stands for."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
import structlog
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_query_api.accounts.bounded_answers import BOUNDED
from tokentide_query_api.accounts.oidc_settings import OidcProvider, is_here, is_safe
from tokentide_query_api.accounts.oidc_token import (
    ALGORITHMS,
    Expected,
    Person,
    UnknownKey,
    person_of,
    refused,
    verified_claims,
)

_TIMEOUT_S: Final = 10.0
_BELIEVED_S: Final = 600.0  # so long a key that the provider has withdrawn may still be taken for one of its
_log = structlog.get_logger(__name__)


class Attempt(msgspec.Struct, frozen=True):
    """The secrets of one login: what the provider must send back, and what only we can show it."""

    state: str
    nonce: str
    verifier: str


class Discovered(msgspec.Struct, frozen=True):
    """What a discovery document says, as far as it is needed."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str = ""


class ProviderSide:
    """One identity provider, as it was found by its discovery URL; looked up anew every ten minutes."""

    def __init__(self, provider: OidcProvider, clock: Callable[[], datetime]) -> None:
        self.provider = provider
        self._clock = clock
        self._known: tuple[Discovered, KeySet] | None = None
        self._known_at = 0.0
        self._looking: asyncio.Task[tuple[Discovered, KeySet]] | None = None
        self._tls: ssl.SSLContext | None = None

    async def authorization_url(self, redirect_uri: str, attempt: Attempt) -> str:
        """Return where to send the browser. Raises `Unavailable` when the provider cannot be asked."""
        discovered, _ = await self._about()
        async with self._client(discovered, redirect_uri) as client:
            url, _ = client.create_authorization_url(
                discovered.authorization_endpoint,
                state=attempt.state,
                nonce=attempt.nonce,
                code_verifier=attempt.verifier,
            )
        return str(url)

    async def person(self, code: str, redirect_uri: str, attempt: Attempt) -> Person:
        """Return whom a code stands for. Raises `Unauthorized`, or `Unavailable` with the provider away."""
        discovered, keys = await self._about()
        tokens = await self._exchanged(discovered, code, redirect_uri, attempt)
        expected = Expected(
            issuer=discovered.issuer,
            client_id=self.provider.client_id,
            nonce=attempt.nonce,
            algorithms=ALGORITHMS & frozenset(discovered.id_token_signing_alg_values_supported),
            now=int(self._clock().timestamp()),
        )
        try:
            claims = await self._claims(tokens, keys, expected)
        except Unauthorized as exc:
            # The kind of what is wrong, and of which claim: never the token, nor what it says.
            wrong = {
                "error": type(exc.__cause__ or exc).__name__,
                "claim": getattr(exc.__cause__, "claim", ""),
            }
            _log.warning("oidc_token_refused", provider=self.provider.name, **wrong)
            raise
        named = {"groups_claim": self.provider.groups_claim, "verified_claim": self.provider.verified_claim}
        return person_of(claims, **named)

    async def _claims(self, tokens: _Tokens, keys: KeySet, expected: Expected) -> dict[str, Any]:
        try:
            return verified_claims(tokens.id_token, tokens.access_token, keys, expected)
        except UnknownKey:
            _, keys = await self._about(anew=True)  # it signs with a new key
        try:
            return verified_claims(tokens.id_token, tokens.access_token, keys, expected)
        except UnknownKey as exc:
            raise refused() from exc

    async def _exchanged(
        self, discovered: Discovered, code: str, redirect_uri: str, attempt: Attempt
    ) -> _Tokens:
        try:
            async with self._client(discovered, redirect_uri) as client:
                told = await client.fetch_token(
                    discovered.token_endpoint, code=code, code_verifier=attempt.verifier
                )
            return msgspec.convert(dict(told), _Tokens)
        except httpx2.HTTPError as exc:
            raise self._away(exc) from exc
        except (OAuthError, msgspec.ValidationError, ValueError) as exc:
            # The reason is the provider's to tell; what it says may quote the code.
            _log.warning("oidc_code_refused", provider=self.provider.name, error=type(exc).__name__)
            raise refused() from None

    async def _about(self, *, anew: bool = False) -> tuple[Discovered, KeySet]:
        known = self._known
        if known is not None and not anew and time.monotonic() - self._known_at < _BELIEVED_S:
            return known
        # One at a time: whoever comes meanwhile waits for the same answer, or the same failure.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="oidc-discovery")
        return await asyncio.shield(self._looking)

    async def _look(self) -> tuple[Discovered, KeySet]:
        asked_at = time.monotonic()
        try:
            async with httpx2.AsyncClient(**self._options()) as client:
                discovered = self.judged(await _json(client, self.provider.discovery_url))
                keys = KeySet.import_key_set(await _json(client, discovered.jwks_uri))
        except (httpx2.HTTPError, JoseError, ValueError, TypeError, KeyError) as exc:
            raise self._away(exc) from exc
        self._known, self._known_at = (discovered, keys), asked_at
        return discovered, keys

    def judged(self, document: dict[str, Any]) -> Discovered:
        """Return what a discovery document says; raises `ValueError` for what is not to be believed."""
        found = msgspec.convert(document, Discovered)
        # Who answers at this address speaks for no other issuer.
        if found.issuer.rstrip("/") != self.provider.issuer.rstrip("/"):
            raise ValueError("another issuer")
        places = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
        if not all(map(is_safe, places)):
            raise ValueError("an address without https")
        # Nobody outside sends us to the services of this machine.
        if not self._is_here and any(is_here(urlsplit(place).hostname or "") for place in places):
            raise ValueError("an address of this machine")
        if not ALGORITHMS.intersection(found.id_token_signing_alg_values_supported):
            raise ValueError("no algorithm that we take")
        return found

    def _client(self, discovered: Discovered, redirect_uri: str) -> AsyncOAuth2Client:
        methods = discovered.token_endpoint_auth_methods_supported
        by_header = "client_secret_basic" in methods or "client_secret_post" not in methods
        secret_by = "client_secret_basic" if by_header else "client_secret_post"
        return AsyncOAuth2Client(
            client_id=self.provider.client_id,
            client_secret=self.provider.client_secret,
            token_endpoint_auth_method=secret_by if self.provider.client_secret else "none",
            scope=" ".join(self.provider.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            **self._options(),
        )

    def _options(self) -> dict[str, Any]:
        if self._tls is None:
            self._tls = httpx2.create_ssl_context()  # reads all roots: once, and not for each login
        return {
            "verify": self._tls,
            "timeout": _TIMEOUT_S,
            # A secret goes to the address that was configured or discovered, and nowhere that points to.
            "follow_redirects": False,
            # A proxy for the outside world cannot reach this machine.
            "trust_env": not self._is_here,
            **BOUNDED,
        }

    @property
    def _is_here(self) -> bool:
        return is_here(urlsplit(self.provider.discovery_url).hostname or "")

    def _away(self, error: Exception) -> Unavailable:
        _log.warning("oidc_provider_failed", provider=self.provider.name, error=type(error).__name__)
        return Unavailable(
            "the identity provider does not answer as it should", retry_after_s=5, code="oidc_unavailable"
        )


async def _json(client: httpx2.AsyncClient, url: str) -> Any:  # noqa: ANN401 -- judged by who asked
    answer = await client.get(url, headers={"accept": "application/json"})
    answer.raise_for_status()
    return answer.json()
