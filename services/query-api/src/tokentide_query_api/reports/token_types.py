"""Reports by kind of token: what uncached input, cache, output and searches cost, at the price of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.formats import Kind, columns
from tokentide_query_api.measures import ratio, usd
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import members_by
from tokentide_query_api.reports.report import Report, Row
from tokentide_query_api.reports.typed_costs import KINDS, typed_costs
from tokentide_query_api.row_bounds import MAX_ROWS, few

_MODEL: Final = DIMENSIONS["model"]
_USER: Final = DIMENSIONS["user_id"]
_UNITS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}


async def _model_token_types(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    models = await typed_costs(ask, scope, (_MODEL,))
    users = await members_by(ask, scope, (_MODEL,), _USER)
    whole = sum(model["cost_nano"] for model in models)
    models.sort(key=lambda model: (-model["cost_nano"], model["d0"]))
    return [
        {
            "model": model["d0"],
            "token_type": kind,
            "amount": model[_UNITS[kind]] if kind in _UNITS else None,
            "cost_usd": usd(model["nano"][kind]),
            "cost_share": ratio(model["nano"][kind], whole),
            "users": users.get((model["d0"],), 0),
        }
        for model in models
        for kind in _kinds(model)
    ]


async def _cost_attribution(ask: Asking, period: Period) -> Sequence[Row]:
    """Hour by hour: what each user spent on each kind of token of each model, and how much it is by then."""
    scope = ask.scope(period.start_ms, period.end_ms)
    seconds = [int(start.timestamp()) for start in bucket_starts(period, "hour")]
    found = await typed_costs(ask, scope, (_USER, _MODEL), edges_s=seconds)
    found.sort(key=lambda group: (group["t"], group["d0"], group["d1"]))
    so_far: dict[str, int] = defaultdict(int)
    rows: list[Row] = []
    whole = 0
    for group in found:
        hour = datetime.fromtimestamp(group["t"], UTC).astimezone(period.zone).isoformat()
        for kind in _kinds(group):
            nano = group["nano"][kind]
            so_far[group["d0"]] += nano
            whole += nano
            rows.append(
                {
                    "hour": hour,
                    "user_id": group["d0"],
                    "organization": ask.org_id,
                    "model": group["d1"],
                    "token_type": kind,
                    "amount": group[_UNITS[kind]] if kind in _UNITS else None,
                    "cost_usd": usd(nano),
                    "user_running_cost_usd": usd(so_far[group["d0"]]),
                    "running_cost_usd": usd(whole),
                }
            )
    return few(rows, MAX_ROWS)


def _kinds(group: Mapping[str, Any]) -> list[str]:
    """Return the kinds of token that a group has any of."""
    return [kind for kind in KINDS if group["nano"][kind] or (kind in _UNITS and group[_UNITS[kind]])]


REPORTS: Final = (
    Report(
        "model-token-types",
        "Each kind of token of each model: how many, what they cost, how many users",
        (
            *columns(Kind.TEXT, "model", "token_type"),
            *columns(Kind.COUNT, "amount"),
            *columns(Kind.USD, "cost_usd"),
            *columns(Kind.RATIO, "cost_share"),
            *columns(Kind.COUNT, "users"),
        ),
        _model_token_types,
    ),
    Report(
        "cost-attribution",
        "Every hour of every user by model and kind of token, with running totals",
        (
            *columns(Kind.TIME, "hour"),
            *columns(Kind.TEXT, "user_id", "organization", "model", "token_type"),
            *columns(Kind.COUNT, "amount"),
            *columns(Kind.USD, "cost_usd", "user_running_cost_usd", "running_cost_usd"),
        ),
        _cost_attribution,
        of_people=True,
    ),
)
