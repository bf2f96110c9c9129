"""What an identity provider says of a person: its id_token, believed only when everything about it is right.

Pure: a token, keys and expectations in, a person out.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, TypeGuard

import msgspec
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from tokentide_common.errors import Unauthorized

ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
"""Of what a provider offers we take these: never `none`, nor a signature that our own secret could make."""
_SKEW_S: Final = 30
_LONGEST_CLAIM: Final = 255
_MOST_GROUPS: Final = 2000
# Providers that keep it as text, or as a number, mean the same.
_YES: Final = (True, "true", "True", 1, "1")


class Expected(msgspec.Struct, frozen=True):
    """What the id_token of one login must say."""

    issuer: str
    client_id: str
    nonce: str
    algorithms: frozenset[str]
    now: int


class Person(msgspec.Struct, frozen=True):
    """Who somebody is to their identity provider."""

    issuer: str
    subject: str
    email: str
    """Lower case."""
    email_verified: bool
    name: str
    groups: frozenset[str]


class UnknownKey(Exception):
    """The token names a key that is not among those known: the provider may have a new one."""


class _PinnedAlgorithms(JWSRegistry):
    """Knows the algorithms of one provider and no others, whatever a token's header names."""

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 -- joserfc's own model of an algorithm
        if name not in (self.allowed or ()):
            raise refused()
        return self.algorithms[name]


def person_of(claims: dict[str, Any], *, groups_claim: str, verified_claim: str) -> Person:
    """Return whom verified claims describe. Raises `Unauthorized` when they name nobody."""
    subject, email = claims.get("sub"), claims.get("email", "")
    if not _is_text(subject) or not subject or not _is_text(email):
        raise refused()
    groups = claims.get(groups_claim) or []
    listed = groups if isinstance(groups, list) else [groups]
    name = claims.get("name") or ""
    return Person(
        issuer=str(claims["iss"]),
        subject=subject,
        email=email.strip().lower(),
        email_verified=claims.get(verified_claim) in _YES,
        name=name[:200] if _is_text(name) else "",
        groups=frozenset(group for group in listed[:_MOST_GROUPS] if isinstance(group, str)),
    )


def _is_text(claim: object) -> TypeGuard[str]:
    """Tell whether a claim is a line of text that any database keeps."""
    return isinstance(claim, str) and len(claim) <= _LONGEST_CLAIM and claim.isprintable()


def verified_claims(id_token: str, access_token: str, keys: KeySet, expected: Expected) -> dict[str, Any]:
    """Return the claims of an id_token after checking signature, issuer, audience, times and nonce.

    Raises `UnknownKey` when it is signed with a key that `keys` lacks, and otherwise one and the same
    `Unauthorized`.
    """
    registry = _PinnedAlgorithms(algorithms=expected.algorithms, strict_check_header=False)
    try:
        token = jwt.decode(id_token, keys, registry=registry)
        claims = _checked(token, access_token, expected)
    except InvalidKeyIdError as exc:
        raise UnknownKey from exc
    except (JoseError, ValueError, TypeError, KeyError) as exc:
        raise refused() from exc
    return claims


def _checked(token: jwt.Token, access_token: str, expected: Expected) -> dict[str, Any]:
    checked = CodeIDToken(
        token.claims,
        token.header,
        options={
            "iss": {"essential": True, "value": expected.issuer},
            "aud": {"essential": True, "value": expected.client_id},
            "nonce": {"essential": True},
        },
        params={"nonce": expected.nonce, "client_id": expected.client_id, "access_token": access_token},
    )
    checked.validate(now=expected.now, leeway=_SKEW_S)
    # Compared here as well: a login is bound to its browser by this alone.
    if not hmac.compare_digest(str(checked["nonce"]).encode(), expected.nonce.encode()):
        raise refused()
    return dict(checked)


def refused() -> Unauthorized:
    """Return the one refusal of whatever an identity provider's answer has wrong."""
    return Unauthorized(
        "the login with the identity provider did not succeed: begin again", code="oidc_refused"
    )
