"""Reports by kind of token: what uncached input, cache, output and searches cost, at the price of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS
from tokentide_query_api.formats import Kind, columns
from tokentide_query_api.measures import ratio, usd
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import members_by
from tokentide_query_api.reports.report import Report, Row
from tokentide_query_api.reports.typed_costs import KINDS, UNITS, typed_costs

_MODEL: Final = DIMENSIONS["model"]
_USER: Final = DIMENSIONS["user_id"]


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
            "amount": model[UNITS[kind]] if kind in UNITS else None,
            "cost_usd": usd(model["nano"][kind]),
            "cost_share": ratio(model["nano"][kind], whole),
            "users": users.get((model["d0"],), 0),
        }
        for model in models
        for kind in _kinds(model)
    ]


def _kinds(group: Mapping[str, Any]) -> list[str]:
    """Return the kinds of token that a group has any of."""
    return [kind for kind in KINDS if group["nano"][kind] or (kind in UNITS and group[UNITS[kind]])]


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
)
