"""Where the calls of accounts are read for their windows."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from tokentide_common.limit_facts import LimitFact
from tokentide_query_api.asking import Asking
from tokentide_query_api.blocks.windows import HOUR_MS, Entry
from tokentide_query_api.dimensions import ACCOUNT, DIMENSIONS, MINUTE_MS
from tokentide_query_api.resolution import Range, parts
from tokentide_query_api.row_bounds import MOST_READ, few
from tokentide_query_api.scope import AnyOf, Filter, Scope
from tokentide_query_api.statement import Statement, measure, over, utc_day

_AT: Final = "toUnixTimestamp64Milli(x.occurred_at)"
_SUMS: Final = {
    "calls": "toInt64(x.sign)",
    "input_tokens": "x.sign * x.input_tokens",
    "cache_read_tokens": "x.sign * x.cache_read_tokens",
    "cache_write_tokens": "x.sign * (x.cache_write_5m_tokens + x.cache_write_1h_tokens)",
    "output_tokens": "x.sign * x.output_tokens",
    "cost_nano": "x.sign * x.cost_nano",
}
_WHO: Final = ("account_id", "user_id", "key_id", "machine_id", "model")
_OF_ENTRY: Final = {
    **{name: f"x.{name}" for name in _WHO},
    "first_ms": f"min({_AT})",
    "last_ms": f"max({_AT})",
    **{name: f"sum({what})" for name, what in _SUMS.items()},
    "minutes": f"groupBitOr(bitShiftLeft(toUInt64(1), intDiv({_AT} % {HOUR_MS}, {MINUTE_MS})))",
}
_USER: Final = DIMENSIONS["user_id"]
_KEY: Final = DIMENSIONS["key_id"]
_OWNERS: Final = (ACCOUNT, _USER, _KEY)
_OWNER: Final = tuple(dimension.column for dimension in _OWNERS)


class Owned(Protocol):
    """Whatever says whose it is."""

    @property
    def account_id(self) -> str:
        """The provider's account, where one was told."""

    @property
    def user_id(self) -> str:
        """The user, where one is known."""

    @property
    def key_id(self) -> str:
        """The key."""


class Owner(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An account, user and key, and the last UTC day with a live call, in seconds."""

    account_id: str
    user_id: str
    key_id: str
    last_day: int


class Caller(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An account, user and key, and when its last live call was made."""

    account_id: str
    user_id: str
    key_id: str
    last: str


class SignedCaller(Caller, frozen=True, gc=False, array_like=True):
    """A row of a call: 1 where it was made, -1 where that was taken back."""

    sign: int


class OwnedEntry(Entry, frozen=True, gc=False, array_like=True):
    """An entry that says whose it is."""

    account_id: str
    user_id: str
    key_id: str


# So many of the newest rows mostly have as many accounts as are asked for.
_ROWS_OF_EACH: Final = 8
_SIGNED: Final = msgspec.json.Decoder(SignedCaller)
_DAYS: Final = msgspec.json.Decoder(Owner)
_MOMENTS: Final = msgspec.json.Decoder(Caller)
_ENTRIES: Final = msgspec.json.Decoder(OwnedEntry)


class Accounts(msgspec.Struct, frozen=True):
    """Which calls are whose.

    An account is the provider's, where telemetry or the proxy told it. A user's calls of which nobody told
    belong to the one account that the user is known to have; else to the user, or to the key.
    """

    of_users: Mapping[str, str]
    """The one account that a user is known to have."""

    def account_of(self, row: Owned) -> str:
        """Return whose a row is."""
        return row.account_id or self.of_users.get(row.user_id) or row.user_id or row.key_id


class Latest(msgspec.Struct, frozen=True):
    """The accounts that called last."""

    accounts: Accounts
    key_ids: Mapping[str, set[str]]
    """The keys under which each made calls, by its name; who called last is the first."""
    scope: Scope
    """One that has all their calls."""


async def latest_accounts(ask: Asking, scope: Scope, most: int) -> Latest:
    """Return which calls are whose, and the accounts that called last."""
    found, newest = await asyncio.gather(
        _last_days(ask, scope), _newest_callers(ask, scope, _ROWS_OF_EACH * most)
    )
    told: dict[str, set[str]] = defaultdict(set)
    for owner in found:
        if owner.account_id and owner.user_id:
            told[owner.user_id].add(owner.account_id)
    accounts = Accounts({user: next(iter(own)) for user, own in told.items() if len(own) == 1})
    last_day: dict[str, int] = {}
    owners: dict[str, list[Owner]] = defaultdict(list)
    for owner in found:
        name = accounts.account_of(owner)
        owners[name].append(owner)
        last_day[name] = max(last_day.get(name, 0), owner.last_day)
    last = _by_account(accounts, newest)
    if len(last.keys() & owners) < min(most, len(last_day)):
        last = await _last_calls(ask, scope, accounts, last_day, most)
    # Without those who came between the questions: nothing else is known of them yet.
    chosen = sorted(sorted(last.keys() & owners), key=last.__getitem__, reverse=True)[:most]
    theirs = [owner for name in chosen for owner in owners[name]]
    users = sorted({owner.user_id for owner in theirs} - {""})
    keys = sorted({owner.key_id for owner in theirs if not owner.user_id})
    either = (Filter(_USER, tuple(users)), Filter(_KEY, tuple(keys)))
    # Without the one that has no values, so that its column is not read.
    narrow = scope.narrowed(AnyOf(tuple(each for each in either if each.values)))
    return Latest(
        accounts,
        {name: {owner.key_id for owner in owners[name]} for name in chosen},
        # The store has calls by user, and under them by key: by either it would look at all of them.
        narrow.narrowed(Filter(_USER, ("", *users))) if keys else narrow,
    )


async def _last_days(ask: Asking, scope: Scope) -> list[Owner]:
    """Return the last UTC day with a call, in seconds, of each account, user and key that has live calls.

    A day whose calls were all taken back may be told, until the store has put its rows together.
    """
    statement = Statement(scope)
    from_parts = parts((scope.start_ms, scope.end_ms), (*_OWNERS, *scope.dimensions))
    names = ", ".join(f"x.{name} AS {name}" for name in _OWNER)
    rows = [
        statement.of(part, f"{names}, {utc_day(part.table)} AS t, {measure(part.table, 'calls')}")
        for part in from_parts
    ]
    keys = ", ".join(_OWNER)
    days = f"{keys}, maxIf(t, calls > 0) AS last_day"
    sql = over(" UNION ALL ".join(rows), days, f"GROUP BY {keys} HAVING sum(calls) > 0")
    return few(await ask.read(statement, f"{sql} LIMIT {MOST_READ + 1}", _DAYS), MOST_READ)


async def _last_calls(
    ask: Asking, scope: Scope, accounts: Accounts, last_day: Mapping[str, int], most: int
) -> dict[str, str]:
    """Return when accounts made their last live call: of all there are, or at least of the `most` newest.

    By the day first: only where the last days of so many accounts lie is looked at the moments themselves. If
    a day was told whose calls were taken back, these are too few, and all of the time is looked at.
    """
    wanted = min(most, len(last_day))
    since_ms = 1000 * min(sorted(last_day.values(), reverse=True)[:most], default=0)
    last: dict[str, str] = {}
    for start_ms in (max(scope.start_ms, since_ms), scope.start_ms):
        if len(last) < wanted:
            last = _by_account(accounts, await _last_moments(ask, scope, start_ms))
    return last


def _by_account(accounts: Accounts, callers: Iterable[Caller]) -> dict[str, str]:
    last: dict[str, str] = {}
    for caller in callers:
        name = accounts.account_of(caller)
        last[name] = max(last.get(name, ""), caller.last)
    return last


async def _newest_callers(ask: Asking, scope: Scope, rows: int) -> list[Caller]:
    """Return who made live calls, and when, as far as so many of the newest rows tell it.

    Nobody else made a call since the first of these. A call that was taken back is so by a row of its moment.
    """
    statement = Statement(scope)
    names = ", ".join(f"x.{name} AS {name}" for name in _OWNER)
    newest = statement.ledger(f"{names}, x.occurred_at AS last, x.sign AS sign")
    signed = await ask.read(statement, f"{newest} ORDER BY x.occurred_at DESC LIMIT {rows}", _SIGNED)
    # There may be more rows of the same moment as the last of them.
    until = signed[-1].last if len(signed) == rows else ""
    calls = Counter[Caller]()
    for row in signed:
        calls[Caller(row.account_id, row.user_id, row.key_id, row.last)] += row.sign
    return [caller for caller, left in calls.items() if left > 0 and caller.last > until]


async def _last_moments(ask: Asking, scope: Scope, start_ms: int) -> list[Caller]:
    """Return when each account, user and key made its last live call, of those who made any since then."""
    statement = Statement(scope)
    ranges = ((start_ms, scope.end_ms),)
    names = ", ".join(f"x.{name} AS {name}" for name in _OWNER)
    keys = ", ".join(_OWNER)
    moment = _taken_back(statement, ranges)
    live = statement.ledger(f"{names}, {moment} AS moment, max(x.occurred_at) AS at", ranges)
    moments = f"{live} GROUP BY {keys}, moment HAVING sum(toInt64(x.sign)) > 0"
    sql = over(moments, f"{keys}, max(at) AS last", f"GROUP BY {keys}")
    return await ask.read(statement, sql, _MOMENTS)


async def calls_by_account(
    ask: Asking, latest: Latest, cuts_ms: Sequence[int], edges_ms: Sequence[int]
) -> Mapping[str, Sequence[Entry]]:
    """Return the calls of each account by hour.

    No entry spans one of the moments in `edges_ms`, nor in any hour the milliseconds in `cuts_ms`.
    """
    grouped: dict[str, list[Entry]] = defaultdict(list)
    for row in await _entries(ask, latest.scope, cuts_ms, edges_ms):
        grouped[latest.accounts.account_of(row)].append(row)
    return grouped


async def _entries(
    ask: Asking, scope: Scope, cuts_ms: Sequence[int], edges_ms: Sequence[int]
) -> list[OwnedEntry]:
    statement = Statement(scope)
    # What comes at a cut stands alone: a call exactly five hours after a block's start belongs to that block,
    # but the first of a window that was told not to the one before.
    cuts = statement.bind(sorted({0, *(cut + after for cut in cuts_ms for after in (0, 1))}), "Array(Int64)")
    apart = [f"intDiv({_AT}, {HOUR_MS})", f"roundDown({_AT} % {HOUR_MS}, {cuts})"]
    apart += [f"{_AT} >= {statement.bind(edge, 'Int64')}" for edge in edges_ms]
    # And by moment where anything was taken back, as with the last moments.
    apart.append(_taken_back(statement))
    columns = ", ".join(f"{_OF_ENTRY[name]} AS {name}" for name in OwnedEntry.__struct_fields__)
    live = f"{statement.ledger(columns)} GROUP BY {', '.join((*_WHO, *apart))} HAVING calls > 0"
    return few(
        await ask.read(statement, f"{live} LIMIT {MOST_READ + 1}", _ENTRIES),
        MOST_READ,
        "shorten the period, filter, or ask for fewer accounts (limit)",
    )


def _taken_back(statement: Statement, ranges: Sequence[Range] | None = None) -> str:
    """Return the moment of a row, in milliseconds, where anything was taken back; else NULL.

    What an upgrade took back must not set the time of what stands. All other rows stand, and need not be told
    apart by moment, which takes most of the time; a few do without need, whose moment is another user's too.
    """
    found = statement.ledger("x.occurred_at", ranges, where="x.sign < 0")
    return f"if(x.occurred_at IN ({found}), {_AT}, NULL)"


async def windows_told(ask: Asking) -> Mapping[str, Sequence[LimitFact]]:
    """Return what providers told of 5-hour and 7-day windows, by account, or by key where they named none."""
    found: dict[str, list[LimitFact]] = defaultdict(list)
    for fact in await ask.limit_facts():
        if fact.kind in ("unified_5h", "unified_7d") and fact.resets_at is not None:
            found[fact.account_id or fact.key_id].append(fact)
    return found
