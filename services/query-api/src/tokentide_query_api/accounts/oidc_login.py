"""Logging in with an identity provider: begun in one browser, and ended by what the provider says there."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tokentide_common.database import writing_async
from tokentide_common.errors import InvalidRequest, NotFound
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.auth_shapes import Tokens
from tokentide_query_api.accounts.changes import changing_people
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.login import Visitor
from tokentide_query_api.accounts.oidc_attempts import (
    Begun,
    Ticket,
    issue_ticket,
    keep_login,
    new_attempt,
    take_login,
    take_ticket,
)
from tokentide_query_api.accounts.oidc_groups import Login
from tokentide_query_api.accounts.oidc_people import arrive, no_organization
from tokentide_query_api.accounts.oidc_provider_side import Attempt, ProviderSide
from tokentide_query_api.accounts.oidc_settings import OidcProvider, oidc_providers
from tokentide_query_api.accounts.oidc_token import Person, refused
from tokentide_query_api.accounts.sessions import open_session
from tokentide_query_api.accounts.whoami import tokens_answer

PATH: Final = "/api/v1/auth/oidc"
_log = structlog.get_logger(__name__)


class Departure(msgspec.Struct, frozen=True):
    """Where to send a browser, and what it must bring back in a cookie."""

    url: str
    browser: str


class Callback(msgspec.Struct, frozen=True):
    """What a browser brings from the provider."""

    code: str
    state: str
    browser: str


class OidcLogins:
    """Logins with the identity providers of an installation."""

    def __init__(self) -> None:
        self._sides: dict[str, ProviderSide] = {}

    def providers(self, desk: Desk) -> dict[str, OidcProvider]:
        """Return the providers by name."""
        return {name: side.provider for name, side in self._of(desk).items()}

    async def begin(self, desk: Desk, name: str, return_to: str) -> Departure:
        """Begin a login. Raises `NotFound`, `InvalidRequest`, or `Unavailable` with the provider away."""
        side = self._side(desk, name)
        target = _own_page(desk, return_to)
        attempt, browser = new_attempt(), secrets.token_urlsafe(32)
        url = await side.authorization_url(_redirect_uri(desk, name), attempt)
        async with writing_async(desk.engine) as connection:
            await keep_login(
                connection, attempt, provider=name, browser=browser, return_to=target, now=desk.clock()
            )
        return Departure(url, browser)

    async def end(self, desk: Desk, name: str, came: Callback, visitor: Visitor) -> Tokens | str:
        """End a login: return its tokens, or the page of ours that the browser goes on to.

        Raises one and the same `Unauthorized` for whatever is wrong with it, and `Forbidden` for somebody who
        is known and may not come in.
        """
        side = self._side(desk, name)
        async with writing_async(desk.engine) as connection:
            begun = await take_login(
                connection, came.state, provider=name, browser=came.browser, now=desk.clock()
            )
        if begun is None or not came.code:
            _log.warning("oidc_login_not_under_way", provider=name, known=begun is not None)
            raise refused()
        attempt = Attempt(came.state, begun.nonce, begun.verifier)
        person = await side.person(came.code, _redirect_uri(desk, name), attempt)
        if desk.people.organization(side.provider.organisation) is None:
            raise no_organization()
        try:
            return await _enter(desk, side.provider, person, begun, visitor)
        except IntegrityError:  # the same person at the same moment in two browsers: one made them known
            return await _enter(desk, side.provider, person, begun, visitor)

    def _side(self, desk: Desk, name: str) -> ProviderSide:
        side = self._of(desk).get(name)
        if side is None:
            raise NotFound("there is no such identity provider")
        return side

    def _of(self, desk: Desk) -> dict[str, ProviderSide]:
        if not self._sides:
            providers = oidc_providers(desk.settings.oidc_providers)
            self._sides = {name: ProviderSide(one, desk.clock) for name, one in providers.items()}
        return self._sides


async def redeem(desk: Desk, secret: str, browser: str, visitor: Visitor) -> Tokens:
    """Return the tokens of whoever came back with a ticket, which is good once and in the browser that began
    the login. Raises `Unauthorized`.
    """
    async with writing_async(desk.engine) as connection:
        ticket = await take_ticket(connection, secret, browser=browser, now=desk.clock())
        if ticket is not None:
            return await _opened(desk, connection, ticket, visitor)
    raise refused()


async def _enter(
    desk: Desk, provider: OidcProvider, person: Person, begun: Begun, visitor: Visitor
) -> Tokens | str:
    login = Login(desk, provider, visitor.actor("", person.email))
    answer: Tokens | str = ""
    async with changing_people(desk) as connection:
        arrived = await arrive(connection, login, person)
        ticket = Ticket(arrived.user_id, provider.organisation, begun.browser)
        if arrived.refusal is None and begun.return_to:
            # In the fragment, which no server and no log sees; good once and for a minute.
            answer = f"{begun.return_to}#ticket={await issue_ticket(connection, ticket, desk.clock())}"
        elif arrived.refusal is None:
            answer = await _opened(desk, connection, ticket, visitor)
    if arrived.refusal is not None:
        raise arrived.refusal
    return answer


async def _opened(desk: Desk, connection: AsyncConnection, ticket: Ticket, visitor: Visitor) -> Tokens:
    opened = await open_session(
        desk,
        connection,
        ticket.user_id,
        ticket.org_id,
        address=visitor.address,
        user_agent=visitor.user_agent,
    )
    answer = await tokens_answer(connection, opened)
    actor = visitor.actor(ticket.user_id, answer.user.email)
    on = ("session", opened.session_id)
    await audit.record(connection, ticket.org_id, actor, "session.opened", on, by="identity_provider")
    return answer


def _redirect_uri(desk: Desk, name: str) -> str:
    return f"{desk.settings.link_base.rstrip('/')}{PATH}/{name}/callback"


def _own_page(desk: Desk, return_to: str) -> str:
    """Return where a browser goes on to, which is a page of ours; raises `InvalidRequest` for any other."""
    if not return_to:
        return ""
    base = desk.settings.link_base.rstrip("/") + "/"
    wrong = InvalidRequest(
        "return_to is no page of this installation",
        code="invalid_parameter",
        fields={"return_to": "a path, or an address that begins with TOKENTIDE_PUBLIC_URL"},
    )
    # Browsers read a backslash as a slash, and leave out line breaks and tabs: what they would read otherwise
    # than we do is not sent to them.
    if not return_to.isascii() or not return_to.isprintable() or set("\\# ") & set(return_to):
        raise wrong
    try:
        target = urljoin(base, return_to)
        parts = urlsplit(target)
    except ValueError as exc:
        raise wrong from exc
    if not target.startswith(base) or parts.netloc != urlsplit(base).netloc or "/../" in target:
        raise wrong
    return target
