"""Who somebody is here that an identity provider vouches for: known by issuer and subject from then on."""

from __future__ import annotations

import uuid

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.accounts_schema import identities, memberships, users
from tokentide_common.errors import Forbidden, Unavailable
from tokentide_query_api.accounts.invitees import is_member
from tokentide_query_api.accounts.oidc_groups import Login, follow_role, follow_teams, role_of
from tokentide_query_api.accounts.oidc_settings import OidcProvider
from tokentide_query_api.accounts.oidc_token import Person
from tokentide_query_api.accounts.standing import its_turn


class Arrived(msgspec.Struct, frozen=True):
    """Who has come in, or why they have not."""

    user_id: str
    refusal: Forbidden | None = None


async def arrive(connection: AsyncConnection, login: Login, person: Person) -> Arrived:
    """Find or make the user of a person, and let role and teams follow their groups.

    A refusal is returned, not raised: that somebody is no member any more is to be committed. Raises
    `Unavailable` when the organisation was closed, which no login opens again.
    """
    org_id = login.provider.organisation
    if not await its_turn(connection, org_id):
        raise no_organization()
    user_id = await _known(connection, person)
    if user_id is None or not await is_member(connection, org_id, user_id):
        # Also whom another provider, or an earlier membership, has made known: each organisation says itself
        # whose word it takes for an address.
        refusal = _refused_at_first(login.provider, person)
        if refusal is not None:
            return Arrived("", refusal)
    if user_id is None:
        user_id = await _first_seen(connection, login, person)
        if user_id is None:
            return Arrived("", _not_linked())
        await login.record(connection, "user.identity_linked", ("user", user_id))
    if not await follow_role(connection, login, user_id, person.groups):
        return Arrived(user_id, _no_role())
    await follow_teams(connection, login, user_id, person.groups)
    return Arrived(user_id)


async def _known(connection: AsyncConnection, person: Person) -> str | None:
    mine = (identities.c.issuer == person.issuer, identities.c.subject == person.subject)
    return (await connection.execute(sa.select(identities.c.user_id).where(*mine))).scalar_one_or_none()


def _refused_at_first(provider: OidcProvider, person: Person) -> Forbidden | None:
    domain = person.email.rpartition("@")[2]
    allowed = {name.lower() for name in provider.domains}
    # An address that nobody has verified is anybody's.
    if not person.email_verified or not domain or not person.email.rpartition("@")[0]:
        return Forbidden(
            "the identity provider does not say that your e-mail address is verified",
            code="oidc_email_not_verified",
        )
    if allowed and domain not in allowed:
        return Forbidden(
            "this provider may not speak for your e-mail address", code="oidc_email_not_verified"
        )
    return None


async def _first_seen(connection: AsyncConnection, login: Login, person: Person) -> str | None:
    """Return the user that a person is, known by e-mail or new, and link them; None: that may not be."""
    provider, now = login.provider, login.now
    by_email = sa.select(users.c.user_id, users.c.email_verified_at).where(users.c.email == person.email)
    row = (await connection.execute(by_email)).first()
    if row is not None:
        # Whoever signed up here without proving that the address is theirs does not get its owner as a guest.
        if not provider.link_by_email or row.email_verified_at is None:
            return None
        # A provider of one organisation opens no account that leads into another.
        if await _belongs_elsewhere(connection, provider, row.user_id):
            return None
        user_id = str(row.user_id)
    elif role_of(provider, person.groups) is None:
        return None
    else:
        user_id = f"usr_{uuid.uuid4().hex}"
        made = {"user_id": user_id, "email": person.email, "display_name": person.name}
        await connection.execute(sa.insert(users).values(**made, email_verified_at=now, created_at=now))
    linked = {"issuer": person.issuer, "subject": person.subject, "user_id": user_id, "created_at": now}
    await connection.execute(sa.insert(identities).values(linked))
    return user_id


async def _belongs_elsewhere(connection: AsyncConnection, provider: OidcProvider, user_id: str) -> bool:
    others = (memberships.c.user_id == user_id, memberships.c.org_id != provider.organisation)
    return (await connection.execute(sa.select(memberships.c.org_id).where(*others))).first() is not None


def no_organization() -> Unavailable:
    """Return the refusal of a provider whose organisation is not there, or not any more."""
    return Unavailable(
        "the organisation of this provider does not exist: whoever runs this installation has to name another"
        " in TOKENTIDE_OIDC_PROVIDERS",
        code="oidc_unavailable",
    )


def _not_linked() -> Forbidden:
    return Forbidden(
        "you have no account here that this login may open: ask an administrator", code="oidc_no_account"
    )


def _no_role() -> Forbidden:
    return Forbidden(
        "none of your groups gives you a role here: ask an administrator", code="oidc_no_account"
    )
