"""What we believe of an identity provider, over real HTTP: all of a token is right, or nobody is in."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog
from joserfc.jwk import ECKey

from infra.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProviderStub
from tokentide_common.errors import Unauthorized, Unavailable
from tokentide_query_api.accounts.oidc_attempts import new_attempt
from tokentide_query_api.accounts.oidc_provider_side import ProviderSide
from tokentide_query_api.accounts.oidc_settings import OidcProvider
from tokentide_query_api.accounts.oidc_token import Person

REDIRECT = "http://127.0.0.1:8000/api/v1/auth/oidc/main/callback"

WRONG: list[dict[str, Any]] = [
    {"nonce": "another"},
    {"nonce": None},
    {"aud": "another-client"},
    {"aud": ["another-client", "third"]},
    {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
    {"iss": "https://elsewhere.example"},
    {"iss": None},
    {"exp": int(time.time()) - 3600},
    {"exp": None},
    {"exp": "never"},
    {"iat": int(time.time()) + 3600},
    {"nbf": int(time.time()) + 3600},
    {"sub": None},
    {"sub": ""},
    {"sub": ["subject-1"]},
    {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
]

ASTRAY: list[dict[str, Any]] = [
    {"issuer": "https://elsewhere.example"},
    {"token_endpoint": "http://elsewhere.example/token"},
    {"authorization_endpoint": "http://elsewhere.example/authorize"},
    {"jwks_uri": "http://elsewhere.example/jwks"},
    {"jwks_uri": "file:///etc/passwd"},
    {"id_token_signing_alg_values_supported": ["HS256", "none"]},
    {"token_endpoint": None},
]


@pytest.fixture
async def stub() -> AsyncIterator[OidcProviderStub]:
    async with OidcProviderStub().serving() as stub:
        yield stub


def side_of(stub: OidcProviderStub, **options: Any) -> ProviderSide:
    provider = OidcProvider(
        name="main",
        discovery_url=stub.discovery_url,
        client_id=CLIENT_ID,
        client_secret=options.pop("client_secret", CLIENT_SECRET),
        organisation="org_a",
        **options,
    )
    return ProviderSide(provider, lambda: datetime.now(UTC))


async def log_in(side: ProviderSide, stub: OidcProviderStub) -> Person:
    attempt = new_attempt()
    code, state = stub.authorize(await side.authorization_url(REDIRECT, attempt))
    assert state == attempt.state
    return await side.person(code, REDIRECT, attempt)


async def refused(side: ProviderSide, stub: OidcProviderStub) -> bool:
    with pytest.raises(Unauthorized) as caught:
        await log_in(side, stub)
    return caught.value.stable_code == "oidc_refused"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_person_is_known_by_a_token_that_is_right(algorithm: str) -> None:
    async with OidcProviderStub(algorithm).serving() as stub:
        stub.person["groups"] = ["staff", "data"]
        person = await log_in(side_of(stub), stub)
    assert person == Person(
        stub.url, "subject-1", "ada@example.com", True, "Ada", frozenset({"staff", "data"})
    )


async def test_a_token_with_anything_wrong_is_refused(stub: OidcProviderStub) -> None:
    side = side_of(stub)
    with structlog.testing.capture_logs() as logged:
        for stub.wrong in WRONG:
            assert await refused(side, stub), stub.wrong
    # Who runs the installation learns why.
    assert {"aud", "iss", "exp", "nonce", "azp"} <= {line["claim"] for line in logged}


async def test_an_unsigned_token_is_refused_though_the_provider_offers_it(stub: OidcProviderStub) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")

    side, attempt = side_of(stub), new_attempt()
    claims = {"iss": stub.url, "aud": CLIENT_ID, "iat": int(time.time()), "exp": int(time.time()) + 60}
    claims |= {"nonce": attempt.nonce, "sub": "subject-1"}
    for header in ({"alg": "none"}, {"alg": "none", "kid": stub.key.kid}, {"kid": stub.key.kid}, {"alg": 7}):
        stub.forged = f"{part(header)}.{part(claims)}."
        code, _ = stub.authorize(await side.authorization_url(REDIRECT, attempt))
        with pytest.raises(Unauthorized):
            await side.person(code, REDIRECT, attempt)


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(stub: OidcProviderStub) -> None:
    side, attempt = side_of(stub), new_attempt()
    stub.forged = stub.shared_secret_token(attempt.nonce)
    code, _ = stub.authorize(await side.authorization_url(REDIRECT, attempt))
    with pytest.raises(Unauthorized):
        await side.person(code, REDIRECT, attempt)


async def test_a_token_signed_with_another_key_is_refused(stub: OidcProviderStub) -> None:
    stub.signing_key = ECKey.generate_key("P-256", {"kid": stub.key.kid or ""})
    assert await refused(side_of(stub), stub)
    stub.signing_key = ECKey.generate_key("P-256", auto_kid=True)
    assert await refused(side_of(stub), stub)


async def test_what_is_no_token_is_refused(stub: OidcProviderStub) -> None:
    side = side_of(stub)
    for stub.forged in (".", "a.b.c", "x" * 200_000, "eyJhbGciOiJFUzI1NiJ9.e30."):
        assert await refused(side, stub), stub.forged


async def test_a_new_key_of_the_provider_is_fetched_when_it_is_met(stub: OidcProviderStub) -> None:
    side = side_of(stub)
    await log_in(side, stub)
    await log_in(side, stub)
    assert stub.asked.count("jwks") == 1
    stub.rotate()
    assert (await log_in(side, stub)).subject == "subject-1"
    assert stub.asked.count("jwks") == 2


async def test_a_code_is_good_only_with_the_verifier_that_it_was_asked_for(stub: OidcProviderStub) -> None:
    side, attempt = side_of(stub), new_attempt()
    code, _ = stub.authorize(await side.authorization_url(REDIRECT, attempt))
    with pytest.raises(Unauthorized):
        await side.person(code, REDIRECT, new_attempt())


async def test_a_wrong_client_secret_lets_nobody_in(stub: OidcProviderStub) -> None:
    assert await refused(side_of(stub, client_secret="wrong"), stub)


async def test_a_provider_that_would_lead_secrets_astray_is_not_used(stub: OidcProviderStub) -> None:
    for stub.document in ASTRAY:
        with pytest.raises(Unavailable) as caught:
            await side_of(stub).authorization_url(REDIRECT, new_attempt())
        assert caught.value.stable_code == "oidc_unavailable"


def test_a_provider_elsewhere_sends_nobody_to_services_of_this_machine() -> None:
    issuer = "https://login.example"
    told = {"issuer": issuer, "authorization_endpoint": f"{issuer}/a", "token_endpoint": f"{issuer}/t"}
    told |= {"jwks_uri": f"{issuer}/j"}
    stub = OidcProviderStub()
    stub.url = issuer
    side = side_of(stub)
    assert side.judged(told).issuer == issuer
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        for place in ("http://127.0.0.1:9000/", "https://localhost/", "http://[::1]/"):
            with pytest.raises(ValueError, match="this machine"):
                side.judged(told | {name: place})


async def test_an_answer_of_a_provider_is_read_no_further_than_it_may_be_long(stub: OidcProviderStub) -> None:
    stub.document = {"more": "x" * 1_000_000}
    with pytest.raises(Unavailable):
        await side_of(stub).authorization_url(REDIRECT, new_attempt())
    stub.document = {"more": "x" * 900_000}
    await side_of(stub).authorization_url(REDIRECT, new_attempt())


async def test_a_provider_is_asked_once_for_all_who_come_at_once(stub: OidcProviderStub) -> None:
    side = side_of(stub)
    await asyncio.gather(*(side.authorization_url(REDIRECT, new_attempt()) for _ in range(8)))
    assert stub.asked == ["discovery", "jwks"]


async def test_redirects_of_a_provider_are_not_followed(stub: OidcProviderStub) -> None:
    stub.document = {"jwks_uri": f"{stub.url}/elsewhere"}
    with pytest.raises(Unavailable):
        await side_of(stub).authorization_url(REDIRECT, new_attempt())
    assert "jwks" not in stub.asked
    stub.document = {"token_endpoint": f"{stub.url}/elsewhere"}
    with pytest.raises((Unavailable, Unauthorized)):
        await log_in(side_of(stub), stub)


async def test_a_provider_that_is_away_is_an_outage_and_no_refusal() -> None:
    stub = OidcProviderStub()
    async with stub.serving():
        pass
    with pytest.raises(Unavailable):
        await side_of(stub).authorization_url(REDIRECT, new_attempt())


async def test_only_the_verified_claim_that_is_configured_counts(stub: OidcProviderStub) -> None:
    stub.person |= {"email_verified": "true", "xms_edov": 1, "groups": "one"}
    assert (await log_in(side_of(stub), stub)).email_verified
    stub.person |= {"email_verified": "false"}
    assert not (await log_in(side_of(stub), stub)).email_verified
    assert (await log_in(side_of(stub, verified_claim="xms_edov"), stub)).groups == {"one"}
