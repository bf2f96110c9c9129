"""People of each role in each organisation, with access tokens, written straight into the database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tokentide_common.accounts import next_revision
from tokentide_common.accounts_schema import ROLES, memberships, sessions, users
from tokentide_common.database import writing
from tokentide_query_api.accounts.access_tokens import AccessTokens, Claims

SECRET = "what-seals-and-signs-everything-in-tests"
_LONG = timedelta(days=30)


class Person(NamedTuple):
    """A user in an organisation, with a session there."""

    user_id: str
    org_id: str
    role: str
    email: str
    session_id: str
    token: str


class People:
    """Makes people; a running query API notices new ones within its refresh time (2 s)."""

    def __init__(self, engine: Engine, *, secret: str = SECRET, now: datetime | None = None) -> None:
        self.engine = engine
        self.tokens = AccessTokens(secret)
        self.now = now or datetime.now(UTC)

    def join(self, org_id: str, role: str, *, name: str = "", person: Person | None = None) -> Person:
        """Add a membership: of a new user, or of a `person` of another organisation; return who that is."""
        user_id = person.user_id if person else f"usr_{uuid.uuid4().hex}"
        email = person.email if person else f"{name or role}-{user_id[4:12]}@{org_id}.example"
        at = {"created_at": self.now}
        with writing(self.engine) as connection:
            if person is None:
                shown = name.title() or f"{role.title()} of {org_id}"
                row = {"user_id": user_id, "email": email, "display_name": shown, **at}
                connection.execute(sa.insert(users).values(row))
            member = {"org_id": org_id, "user_id": user_id, "role": role, **at}
            connection.execute(sa.insert(memberships).values(member))
            next_revision(connection, "people")
        return self.session(Person(user_id, org_id, role, email, "", ""))

    def session(self, person: Person, *, issued_at: datetime | None = None) -> Person:
        """Return the person with a session and a token of its own."""
        session_id = f"ses_{uuid.uuid4().hex}"
        row = {
            "session_id": session_id,
            "user_id": person.user_id,
            "org_id": person.org_id,
            "created_at": self.now,
            "last_used_at": self.now,
            "expires_at": self.now + _LONG,
        }
        with writing(self.engine) as connection:
            connection.execute(sa.insert(sessions).values(row))
        claims = Claims(person.user_id, session_id, person.org_id)
        token = self.tokens.issue(claims, issued_at or self.now)
        return person._replace(session_id=session_id, token=token)

    def cast(self, *org_ids: str) -> Callable[..., Person]:
        """Make one person of each role in each organisation; return who finds them by role and org."""
        made = {(role, org): self.join(org, role) for org in org_ids for role in ROLES}

        def who(role: str, org: str = org_ids[0]) -> Person:
            return made[role, org]

        return who
