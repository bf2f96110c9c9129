"""`GET /api/v1/rankings`: who used most, as the ranker last computed it in the organisation's time zone."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from tokentide_common.errors import InvalidRequest
from tokentide_common.rankings import (
    METRICS,
    PERIOD_KINDS,
    SCOPES,
    PeriodKind,
    latest_ranking_sql,
    period_start,
)
from tokentide_common.store import rows
from tokentide_query_api import parameters as p
from tokentide_query_api.accounts.people import Organization
from tokentide_query_api.asking import Asking
from tokentide_query_api.cursors import Cursor, decoded, encoded, question_digest
from tokentide_query_api.formats import Answer, Column, Kind, columns
from tokentide_query_api.measures import usd
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.pseudonyms import Pseudonyms
from tokentide_query_api.visibility import ranking_sight

PERIOD: Final = Parameter("period", "Kind of period.", PERIOD_KINDS, "month")
AT: Final = Parameter("at", "A local date (YYYY-MM-DD) inside the period; today when left out.")
SCOPE: Final = Parameter("scope", "What is ranked.", SCOPES, "users")
METRIC: Final = Parameter("metric", "By what.", METRICS, "cost")
# What the store's dates can be.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2148
PARAMETERS: Final = (PERIOD, AT, SCOPE, METRIC, p.LIMIT, p.CURSOR, p.FORMAT)


async def rankings(ask: Asking, organization: Organization, pseudonyms: Pseudonyms) -> Answer:
    """Answer a page of a ranking, best first. Without usage in the period it is empty."""
    time_zone = organization.time_zone
    get = ask.arguments.text
    kind, scope, metric = get(PERIOD), get(SCOPE), get(METRIC)
    limit = ask.arguments.number(p.LIMIT)
    start = period_start(cast("PeriodKind", kind), day_asked(ask.arguments.one(AT), ask.now, time_zone))
    question = question_digest(ask.org_id, ask.route, [kind, scope, metric, start.isoformat()])
    cursor = ask.arguments.one(p.CURSOR)
    after = decoded(cursor, question).at if cursor else 0
    seen = ranking_sight(ask.principal, organization.privacy, scope)
    params: dict[str, object] = {
        "org_id": ask.org_id, "period": kind, "period_start": start.isoformat(), "scope": scope,
        "metric": metric, "after": after, "limit": limit + 1,
        "only": list(seen.own) if seen.names == "own" else [],
    }  # fmt: skip
    found = await rows(ask.store, latest_ranking_sql(only=seen.names == "own"), params)
    more = len(found) > limit
    # Positions are those of the whole ranking: who sees only their own row has all of it on the first page.
    next_cursor = encoded(Cursor(0, 0, after + limit, "", question)) if more else None
    items = [_item(row, metric) for row in found[:limit]]
    if seen.names == "pseudonyms":
        for item in items:
            if item["entity"] and item["entity"] not in seen.own:
                item["entity"] = pseudonyms.of(ask.org_id, scope, item["entity"])
    body = {
        "period": kind,
        "period_start": start.isoformat(),
        "scope": scope,
        "metric": metric,
        "tz": found[0]["time_zone"] if found else time_zone,
        "computed_at": found[0]["computed_at"] if found else None,
        "items": items,
        "next_cursor": next_cursor,
    }
    return Answer(body, answer_columns(metric), items, next_cursor)


def answer_columns(metric: str) -> tuple[Column, ...]:
    """Return the columns of a ranking's table."""
    return (
        *columns(Kind.COUNT, "rank"),
        *columns(Kind.TEXT, "entity"),
        *columns(Kind.USD if metric == "cost" else Kind.COUNT, "value"),
        *columns(Kind.RATIO, "share", "percentile"),
        *columns(Kind.COUNT, "previous_rank", "movement"),
    )


def day_asked(text: str | None, now: datetime, time_zone: str) -> date:
    """Return the local date that a request names, or today. Raises `InvalidRequest`."""
    if text is None or text == "today":
        return now.astimezone(ZoneInfo(time_zone)).date()
    try:
        if len(text) == 10 and _FIRST_YEAR <= (day := date.fromisoformat(text)).year <= _LAST_YEAR:
            return day
    except ValueError:
        pass
    raise InvalidRequest("at is not a date", code="invalid_period", fields={"at": "YYYY-MM-DD"})


def _item(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """Return an entry; `value` is money as text in dollars where money is ranked, else a whole number."""
    money = metric == "cost"
    return {
        "rank": row["rank"],
        "entity": row["entity"],
        "value": usd(row["value"]) if money else row["value"],
        "share": row["share"],
        "percentile": row["percentile"],
        "previous_rank": row["previous_rank"],
        "movement": row["movement"],
    }
