"""How fast callers may ask: per address before anything is looked at, per key or user once that is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol
from urllib.parse import parse_qs

import msgspec

from tokentide_common.token_bucket import TokenBuckets
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.client_address import is_loopback, neighbourhood
from tokentide_query_api.settings import QuerySettings

Kind = Literal["auth", "read", "write", "export"]
KINDS: Final[tuple[Kind, ...]] = ("auth", "read", "write", "export")
_AUTH: Final = "/api/v1/auth/"
_ME: Final = "/api/v1/auth/me"
_EXPORT: Final = "/api/v1/export/"
# Colleagues share an address; guessing passwords and codes is counted by address alone.
_CALLERS_OF_AN_ADDRESS: Final = 4
# Whoever sits at the machine that runs everything slows only themselves down.
_AT_HOME: Final = 100


class Pace(msgspec.Struct, frozen=True):
    """So many requests a minute; a minute's worth of them may come at once."""

    per_minute: int

    @property
    def per_s(self) -> float:
        """How many a second."""
        return self.per_minute / 60


class Buckets(Protocol):
    """Where it is kept how much each caller has left."""

    async def admit(self, caller: str, pace: Pace) -> None:
        """Take one request; raises `RateLimited`."""


class LocalBuckets:
    """Buckets in the memory of this process: each replica counts for itself."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_pace: dict[Pace, TokenBuckets] = {}

    async def admit(self, caller: str, pace: Pace) -> None:
        """Take one request; raises `RateLimited`."""
        if pace not in self._by_pace:  # as many as the settings name
            self._by_pace[pace] = TokenBuckets(pace.per_s, pace.per_minute, clock=self._clock)
        self._by_pace[pace].admit(caller)


class RateLimits:
    """Who may ask how fast, by kind of route."""

    def __init__(self, settings: QuerySettings, buckets: Buckets) -> None:
        self._buckets = buckets
        self._embedded = settings.embedded
        self._paces: Mapping[Kind, Pace] = {
            "auth": Pace(settings.rate_auth_per_minute),
            "read": Pace(settings.rate_read_per_minute),
            "write": Pace(settings.rate_write_per_minute),
            "export": Pace(settings.rate_export_per_minute),
        }

    async def admit_address(self, address: str, kind: Kind) -> None:
        """Count a request of whoever it is from an address; raises `RateLimited`."""
        times = 1 if kind == "auth" else _CALLERS_OF_AN_ADDRESS
        await self._buckets.admit(f"{kind}:from:{neighbourhood(address)}", self._pace(address, kind, times))

    async def admit_caller(self, principal: Principal, address: str, kind: Kind) -> None:
        """Count a request of a key or user; raises `RateLimited`."""
        await self._buckets.admit(f"{kind}:of:{principal.actor_id}", self._pace(address, kind))

    def _pace(self, address: str, kind: Kind, times: int = 1) -> Pace:
        at_home = _AT_HOME if self._embedded and is_loopback(address) else 1
        return Pace(self._paces[kind].per_minute * times * at_home)


def kind_of(method: str, path: str, query: str, accept: str) -> Kind:
    """Return what kind of request it is. Pure."""
    if path.startswith(_AUTH) and path != _ME:
        return "auth"
    if method not in ("GET", "HEAD", "OPTIONS"):
        return "write"
    if path.startswith(_EXPORT):
        return "export"
    wanted = parse_qs(query).get("format", [accept])[-1]
    return "export" if any(table in wanted for table in ("csv", "ndjson", "parquet")) else "read"
