"""`cache-losses`: sessions that lost their cache, when, why, and what it cost to fill it again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, HOUR_MS, LEDGER, SESSION_HOURS, SESSION_KEY, SESSIONS
from tokentide_query_api.formats import Column, Kind, columns
from tokentide_query_api.measures import cache_hit_ratio, usd
from tokentide_query_api.money.prefixes import Call, Loss, losses
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.report import TOP, Report, Row
from tokentide_query_api.reports.typed_costs import round_half_even
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, near_users, over

MOST_SESSIONS: Final = 200
MOST_CALLS: Final = 50_000
_USER: Final = DIMENSIONS["user_id"]
_INPUT: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_SENT: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens", "input_tokens")
# What tells rows apart that do not take each other back, but for their moment.
_ALIKE: Final = tuple(name for name in Call.__struct_fields__ if name not in ("session", "calls", "at_ms"))
_CALL: Final = msgspec.json.Decoder(Call)
# Where a call stands in its thread; of one moment, the one that filled the cache is first.
_PLACE: Final = attrgetter(
    "session", "agent", "is_sidechain", "at_ms", "cache_read_tokens", "model",
    "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
)  # fmt: skip


async def _cache_losses(ask: Asking, period: Period) -> Sequence[Row]:
    """Look at the sessions that wrote most into caches: who loses a cache has to write it again."""
    scope = ask.scope(period.start_ms, period.end_ms)
    sent = await _who_sent_most(ask, scope)
    if not sent:
        return []
    by_session: dict[str, list[Loss]] = defaultdict(list)
    for loss in losses(await _calls(ask, scope, sent)):
        by_session[loss.after.session_id].append(loss)
    judged = [(_row(ask, sent[own[0].after.session], own, period), own) for own in by_session.values()]
    judged.sort(key=lambda one: (-sum(loss.lost_tokens for loss in one[1]), one[0]["session_id"]))
    return [row for row, _ in judged[: ask.arguments.number(TOP)]]


async def _who_sent_most(ask: Asking, scope: Scope) -> dict[int, dict[str, Any]]:
    """Return what each of the sessions that sent most sent, by its digest."""
    statement = Statement(scope)
    sums = statement.sums(_parts(scope), (SESSION_KEY,), names=("calls", *_INPUT))
    select = ", ".join(["d0", "calls", *_INPUT, f"{' + '.join(_SENT)} AS sent"])
    most = f"WHERE d0 != 0 AND sent > 0 ORDER BY sent DESC, d0 LIMIT {MOST_SESSIONS}"
    return {row["d0"]: row for row in await ask.rows(statement, over(sums, select, most))}


async def _whose(ask: Asking, scope: Scope, sessions: Collection[int]) -> list[str]:
    """Return whose these sessions are; of whom they are no more, or not yet, may be among them."""
    statement = Statement(scope)
    hours = (scope.start_ms // HOUR_MS * HOUR_MS, -(-scope.end_ms // HOUR_MS) * HOUR_MS)
    known = SESSION_HOURS.covers(frozenset(scope.dimensions), latency=False)
    where = f"x.session_key IN {statement.bind(list(sessions), 'Array(UInt64)')}"
    from_parts = (Part(SESSION_HOURS, (hours,)),) if known else _parts(scope)
    # Grouped as plain texts: distinct ones of a column of ten thousand numbered ones take half as long again.
    each = [statement.of(part, "toString(x.user_id) AS user_id", where=where) for part in from_parts]
    by_user = "GROUP BY user_id ORDER BY user_id"
    found = await ask.rows(statement, over(" UNION ALL ".join(each), "user_id", by_user))
    return [row["user_id"] for row in found]


def _parts(scope: Scope) -> tuple[Part, ...]:
    tables = (SESSION_HOURS, SESSIONS, LEDGER)
    return parts((scope.start_ms, scope.end_ms), (SESSION_KEY, _USER, *scope.dimensions), tables=tables)


async def _calls(ask: Asking, scope: Scope, sent: Mapping[int, Mapping[str, Any]]) -> list[Call]:
    """Return the live calls of the sessions, thread by thread, of the newest as many as are looked at.

    The store is told whose they are: it has the calls of each person together. Rows that are alike but for
    their sign take each other back.
    """
    statement = Statement(scope)
    near = near_users(statement.texts(await _whose(ask, scope, sent.keys())))
    where = f"{near} AND x.status = 'ok' AND x.session_key IN {statement.bind(list(sent), 'Array(UInt64)')}"
    named = ", ".join(f"x.{name} AS {name}" for name in _ALIKE)
    columns = f"toUnixTimestamp64Milli(x.occurred_at) AS at_ms, {named}, sum(toInt64(x.sign)) AS calls"
    keys = ", ".join(("at_ms", *_ALIKE))
    live = f"{statement.ledger(columns, where=where)} GROUP BY {keys} HAVING calls > 0"
    # Newest first only where not all of them are looked at: to order them takes a sixth of the time.
    few = sum(sums["calls"] for sums in sent.values()) <= MOST_CALLS
    newest = "" if few else f"ORDER BY at_ms DESC, {', '.join(_INPUT)} LIMIT {MOST_CALLS}"
    sql = over(live, f"sipHash64(session_id) AS d0, calls, {keys}", newest)
    found = await ask.read(statement, sql, _CALL)
    return sorted((call for call in found for _ in range(call.calls)), key=_PLACE)


def _row(ask: Asking, sums: Mapping[str, Any], own: Sequence[Loss], period: Period) -> Row:
    costs = [_cost(ask, loss) for loss in own]
    causes = Counter(loss.cause for loss in own)
    worst = max(own, key=lambda loss: loss.lost_tokens)
    return {
        "session_id": own[0].after.session_id,
        "calls": sums["calls"],
        "cache_hit_ratio": cache_hit_ratio(sums),
        "losses": len(own),
        **{f"losses_{cause}": causes[cause] for cause in ("expired", "model_changed", "prompt_changed")},
        "lost_tokens": sum(loss.lost_tokens for loss in own),
        "cost_usd": usd(sum(cost for cost in costs if cost is not None)),
        "unpriced_losses": costs.count(None),
        "worst_at": _moment(worst).astimezone(period.zone).isoformat(timespec="milliseconds"),
        "worst_lost_tokens": worst.lost_tokens,
        "worst_gap_s": round(worst.gap_ms / 1000, 3),
    }


def _cost(ask: Asking, loss: Loss) -> int | None:
    """Return what the lost tokens cost beyond reading them from the cache, at the list prices of the call."""
    call = loss.after
    variant = (call.service_tier, call.speed, call.inference_geo)
    rates = ask.prices.rates(call.provider, call.model, _moment(loss), call.prompt, *variant)
    if rates is None:
        return None
    if call.cache_write_1h_tokens:
        again = rates.cache_write_1h
    else:
        again = rates.cache_write_5m if call.cache_write_5m_tokens else rates.input
    return round_half_even(loss.lost_tokens * (again - rates.cache_read), rates.nano)


def _moment(loss: Loss) -> datetime:
    return datetime.fromtimestamp(loss.after.at_ms / 1000, UTC)


_COLUMNS: Final[tuple[Column, ...]] = (
    *columns(Kind.TEXT, "session_id"),
    *columns(Kind.COUNT, "calls"),
    *columns(Kind.RATIO, "cache_hit_ratio"),
    *columns(Kind.COUNT, "losses", "losses_expired", "losses_model_changed", "losses_prompt_changed"),
    *columns(Kind.COUNT, "lost_tokens"),
    *columns(Kind.USD, "cost_usd"),
    *columns(Kind.COUNT, "unpriced_losses"),
    *columns(Kind.TIME, "worst_at"),
    *columns(Kind.COUNT, "worst_lost_tokens"),
    *columns(Kind.RATIO, "worst_gap_s"),
)
REPORTS: Final = (
    Report(
        "cache-losses",
        "Sessions that lost their cache: how often, why, and what filling it again cost",
        _COLUMNS,
        _cache_losses,
        (TOP,),
        of_people=True,
    ),
)
