"""What every account route works with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
from litestar import Request
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tokentide_common.accounts import next_revision
from tokentide_common.database import Engine, open_async, selected
from tokentide_common.every import Every
from tokentide_common.key_directory import LiveKeys
from tokentide_common.metrics import Metrics
from tokentide_common.problem_answers import request_id
from tokentide_query_api.accounts.access_tokens import AccessTokens
from tokentide_query_api.accounts.admission import Access
from tokentide_query_api.accounts.afterwards import Afterwards
from tokentide_query_api.accounts.audit import Actor
from tokentide_query_api.accounts.carriers import carrier_of
from tokentide_query_api.accounts.outbox import Outbox
from tokentide_query_api.accounts.passwords import Passwords
from tokentide_query_api.accounts.people import LivePeople
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.accounts.safe import Safe
from tokentide_query_api.accounts.shared_buckets import SharedBuckets
from tokentide_query_api.accounts.tidying import tidy
from tokentide_query_api.rate_limits import Buckets, LocalBuckets, RateLimits, kind_of
from tokentide_query_api.settings import QuerySettings

_TIDY_EVERY_S: Final = 900.0


class Desk(msgspec.Struct, frozen=True):
    """The accounts database and what is known of it in memory."""

    settings: QuerySettings
    engine: AsyncEngine
    keys: LiveKeys
    people: LivePeople
    tokens: AccessTokens
    access: Access
    safe: Safe
    passwords: Passwords
    outbox: Outbox
    clock: Callable[[], datetime]
    rates: RateLimits
    afterwards: Afterwards

    async def admit(self, request: Request[Any, Any, Any]) -> Principal:
        """Return who asks to see or change accounts; raises what `admit_reader` does."""
        principal = await self.caller(request)
        principal.require_scope("manage")
        return principal

    async def admit_reader(self, request: Request[Any, Any, Any]) -> Principal:
        """Return who asks to read usage; raises `Unauthorized`, `Forbidden`, `RateLimited`, `Unavailable`."""
        principal = await self.caller(request)
        principal.require_scope("read")
        return principal

    async def caller(self, request: Request[Any, Any, Any]) -> Principal:
        """Return who asks, whatever their key was made for."""
        principal = await self.access.admit(request.headers)
        accept, query = request.headers.get("accept", ""), request.scope["query_string"].decode("latin-1")
        kind = kind_of(request.method, request.scope["path"], query, accept)
        await self.rates.admit_caller(principal, address_of(request), kind)
        return principal


@asynccontextmanager
async def open_desk(
    settings: QuerySettings,
    engine: Engine,
    keys: LiveKeys,
    clock: Callable[[], datetime],
    metrics: Metrics | None = None,
) -> AsyncIterator[Desk]:
    """Open what the account routes need; `engine` is of the same database."""
    url = engine.url.render_as_string(hide_password=False)
    async with AsyncExitStack() as stack:
        own = open_async(url)
        stack.push_async_callback(own.dispose)
        afterwards = Afterwards()
        stack.push_async_callback(afterwards.finished)
        people = LivePeople(partial(selected, engine), now=clock)
        stack.push_async_callback(people.stop)
        await people.start()
        tokens, safe = AccessTokens(settings.secret_key), Safe(settings.secret_key)
        outbox = Outbox(own, safe, carrier_of(settings), clock)
        stack.push_async_callback(outbox.stop)
        outbox.start()
        tidying = Every("tidy-accounts", lambda: tidy(own, clock()), seconds=_TIDY_EVERY_S, at_end=False)
        stack.push_async_callback(tidying.stop)
        tidying.start()
        buckets: Buckets = LocalBuckets()
        if settings.rate_limits_shared:
            buckets = shared = SharedBuckets(own, metrics=metrics)
            forgetting = Every("idle-buckets", shared.forget_idle)
            stack.push_async_callback(forgetting.stop)
            forgetting.start()
        yield Desk(
            settings=settings,
            engine=own,
            keys=keys,
            people=people,
            tokens=tokens,
            access=Access(keys, people, tokens, clock),
            safe=safe,
            passwords=Passwords(),
            outbox=outbox,
            clock=clock,
            rates=RateLimits(settings, buckets),
            afterwards=afterwards,
        )


def actor_of(principal: Principal, request: Request[Any, Any, Any]) -> Actor:
    """Return who does something by a request, for the audit log."""
    return Actor.of(principal, address_of(request), request_id(request.scope))


def address_of(request: Request[Any, Any, Any]) -> str:
    """Return the client's address, as `AdmissionPace` found it; of headers only our own proxies' count."""
    return request.client.host if request.client is not None else ""


async def people_changed(connection: AsyncConnection) -> None:
    """Have every replica read people, organisations and sessions anew. Call it last in a transaction."""
    await connection.run_sync(lambda sync: next_revision(sync, "people"))
