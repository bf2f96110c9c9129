"""Keys with which an organisation calls its providers: kept, listed by name, forgotten; never shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
import sqlalchemy as sa

from tokentide_common.accounts_schema import provider_credentials
from tokentide_common.database import reading_async, writing_async
from tokentide_common.provider_credentials import forget_in, keep_in
from tokentide_common.vault import Vault
from tokentide_query_api.accounts import audit
from tokentide_query_api.accounts.changes import Maker, checked_id
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.pages import Order, Page, page_of_rows
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.standing import still_may

_BY_NAME: Final = Order((provider_credentials.c.upstream,))


class ProviderKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's key, on its only way: in."""

    secret: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class KeptProviderKey(msgspec.Struct, frozen=True):
    """That a key is kept, for which provider and since when."""

    name: str
    changed_at: datetime


class ProviderPage(msgspec.Struct, frozen=True):
    """A page of providers, by name."""

    items: list[KeptProviderKey]
    next_cursor: str | None


async def listed(desk: Desk, principal: Principal, page: Page) -> ProviderPage:
    """Return a page of the providers for which a key is kept."""
    principal.require("admin")
    mine = provider_credentials.c.org_id == principal.org_id
    query = sa.select(provider_credentials.c.upstream, provider_credentials.c.changed_at).where(mine)
    async with reading_async(desk.engine) as connection:
        rows, following = await page_of_rows(connection, query, _BY_NAME, page)
    return ProviderPage([KeptProviderKey(row.upstream, row.changed_at) for row in rows], following)


async def keep(desk: Desk, by: Maker, name: str, secret: str) -> None:
    """Keep a key in place of the one before. Raises `InvalidRequest` for what cannot be one."""
    by.principal.require("admin")
    vault = Vault(desk.settings.secret_key)
    async with writing_async(desk.engine) as connection:
        await still_may(connection, by.principal)
        await connection.run_sync(lambda sync: keep_in(sync, vault, by.org_id, name, secret))
        await audit.record(connection, by.org_id, by.actor, "provider_key.kept", ("provider", name))


async def forget(desk: Desk, by: Maker, name: str) -> None:
    """Forget a key. Raises `NotFound` where none is kept."""
    by.principal.require("admin")
    checked_id(name)
    async with writing_async(desk.engine) as connection:
        await connection.run_sync(lambda sync: forget_in(sync, by.org_id, name))
        await audit.record(connection, by.org_id, by.actor, "provider_key.forgotten", ("provider", name))
