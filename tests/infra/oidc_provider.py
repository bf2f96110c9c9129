"""A small OpenID provider over real HTTP: discovery, keys that rotate, codes with PKCE, wrong tokens."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
import warnings
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from litestar import Litestar, Request, Response, get, post

from tokentide_common.serving import serving

CLIENT_ID = "tokentide-client"
CLIENT_SECRET = "a-client-secret-of-the-provider"
_MAKE = {
    "RS256": lambda: RSAKey.generate_key(2048, auto_kid=True),
    "ES256": lambda: ECKey.generate_key("P-256", auto_kid=True),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519", auto_kid=True),
}


class OidcProviderStub:
    """A provider whose people, claims, keys and mistakes a test decides."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.url = ""
        self.algorithm = algorithm
        self.key: Key = _MAKE[algorithm]()
        self.person: dict[str, Any] = {
            "sub": "subject-1",
            "email": "Ada@Example.com",
            "email_verified": True,
            "name": "Ada",
            "groups": [],
        }
        self.wrong: dict[str, Any] = {}
        """Claims of the next tokens that are not what they should be."""
        self.forged: str | None = None
        """The next id_token as it is, instead of a signed one."""
        self.signing_key: Key | None = None
        """Another key than the published one."""
        self.document: dict[str, Any] = {}
        """What the discovery document says instead."""
        self.asked: list[str] = []
        self.secrets_seen: list[str] = []
        self.reject_codes = False
        self._codes: dict[str, dict[str, str]] = {}
        self._begun: list[dict[str, str]] = []

    @property
    def discovery_url(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def rotate(self) -> None:
        """Sign with a new key, and publish only that."""
        self.key = _MAKE[self.algorithm]()

    def authorize(self, url: str) -> tuple[str, str]:
        """Do what a browser does at the provider; return the code and state that it comes back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        self._begun.append(asked)
        self.secrets_seen += [code, asked["state"], asked["nonce"]]
        return code, asked["state"]

    def authorize_again(self, state: str) -> str:
        """Return another code for a login that has ended."""
        asked = next(asked for asked in reversed(self._begun) if asked["state"] == state)
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return code

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "id_token_signing_alg_values_supported": [self.algorithm, "HS256", "none"],
            **self.document,
        }

    def tokens(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Return the tokens for a code, or None when anything about the request is wrong."""
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or self.reject_codes or authorization != f"Basic {basic}":
            return None
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(challenge).decode().rstrip("=") != asked["code_challenge"]:
            return None
        if form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        access_token = secrets.token_urlsafe(24)
        id_token = self.forged or self.id_token(asked["nonce"])
        self.secrets_seen += [access_token, id_token, form["code_verifier"]]
        return {"access_token": access_token, "token_type": "Bearer", "expires_in": 60, "id_token": id_token}

    def id_token(self, nonce: str, *, algorithm: str = "", key: Key | None = None) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60, "nonce": nonce}
        claims |= self.person | self.wrong
        claims = {name: value for name, value in claims.items() if value is not None}
        signed_by = key or self.signing_key or self.key
        header = {"alg": algorithm or self.algorithm, "kid": signed_by.kid}
        registry = JWSRegistry(algorithms=[algorithm or self.algorithm])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joserfc would have EdDSA called Ed25519
            return jwt.encode(header, claims, signed_by, registry=registry)

    def shared_secret_token(self, nonce: str) -> str:
        """Return a token signed with what everybody knows: the public key, used as a secret."""
        public = msgspec.json.encode(self.key.as_dict(private=False))
        return self.id_token(nonce, algorithm="HS256", key=OctKey.import_key(public, {"kid": self.key.kid}))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[OidcProviderStub]:
        """Answer on a port of its own."""
        async with serving(self._app(), host="127.0.0.1", port=0) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self

    def _app(self) -> Litestar:
        @get("/.well-known/openid-configuration", sync_to_thread=False)
        def discovery() -> dict[str, Any]:
            self.asked.append("discovery")
            return self.configuration()

        @get("/jwks", sync_to_thread=False)
        def jwks() -> dict[str, Any]:
            self.asked.append("jwks")
            return {"keys": [dict(self.key.as_dict(private=False))]}

        @post("/token", status_code=200)
        async def token(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
            self.asked.append("token")
            form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
            told = self.tokens(form, request.headers.get("authorization", ""))
            if told is None:
                return Response(
                    {"error": "invalid_grant", "error_description": form.get("code")}, status_code=400
                )
            return Response(told)

        @get("/elsewhere", sync_to_thread=False)
        def elsewhere(request: Request[Any, Any, Any]) -> Response[None]:
            self.asked.append("elsewhere")
            return Response(
                None, status_code=302, headers={"location": f"{self.url}/jwks?{urlencode({'a': 1})}"}
            )

        return Litestar([discovery, jwks, token, elsewhere], openapi_config=None, logging_config=None)
