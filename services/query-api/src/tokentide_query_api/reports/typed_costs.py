"""What each kind of token cost: the rates of the moment, per model, tier and size of the prompt.

The ledger has what a call cost as a whole. Its parts are found again from the rates that priced it: calls of
one model, context, day and price step share them, so that the parts of a group are its tokens times a rate.
What the parts do not explain (a call priced under an older list, the rounding of each call to a nano-dollar)
stays visible as `other`: together they are exactly the cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tokentide_common.pricing import Prices
from tokentide_common.pricing.rates import LinearRates
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, LEDGER, TOKEN_SUMS, Dimension
from tokentide_query_api.row_bounds import MOST_READ, few_rows
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement

KINDS: Final = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "web_search", "other")
_CONTEXT: Final = tuple(
    DIMENSIONS[name] for name in ("provider", "model", "service_tier", "speed", "inference_geo")
)
_SUMMED: Final = (*TOKEN_SUMS, "reasoning_tokens", "web_search_requests", "cost_nano")
_PROMPT: Final = "x.input_tokens + x.cache_read_tokens + x.cache_write_5m_tokens + x.cache_write_1h_tokens"


async def typed_costs(
    ask: Asking, scope: Scope, by: Sequence[Dimension], *, edges_s: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Return for each group (`d0`, …, with `edges_s` also `t`) its sums and `nano`: cost by kind of token."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    keys = [*(f"d{i}" for i in range(len(by))), *(["t"] if edges_s else [])]
    for row, rates in await alike_calls(ask, scope, by, edges_s=edges_s):
        group = groups.setdefault(
            tuple(row[key] for key in keys),
            {**{key: row[key] for key in keys}, **dict.fromkeys(_SUMMED, 0), "calls": 0,
             "nano": dict.fromkeys(KINDS, 0)},
        )  # fmt: skip
        for name in (*_SUMMED, "calls"):
            group[name] += row[name]
        for kind, nano in split(row, rates).items():
            group["nano"][kind] += nano
    return list(groups.values())


async def alike_calls(
    ask: Asking, scope: Scope, by: Sequence[Dimension], *, edges_s: Sequence[int] = ()
) -> list[tuple[Mapping[str, Any], LinearRates | None]]:
    """Return sums of calls that share their rates, with those; None where no price is known."""
    statement = Statement(scope)
    steps, hourly = await _steps(ask, scope)
    question = _question(statement, by, edges_s, steps, hourly)
    found = await few_rows(ask, statement, question, MOST_READ)
    return [(row, _rates(row, ask.prices, steps)) for row in found]


def _question(
    statement: Statement,
    by: Sequence[Dimension],
    edges_s: Sequence[int],
    steps: Sequence[int],
    hourly: Sequence[str],
) -> str:
    named = [f"{statement.column(d)} AS d{i}" for i, d in enumerate(by)]
    named += [f"x.{d.column} AS c{i}" for i, d in enumerate(_CONTEXT)]
    if edges_s:
        named.append(statement.start(LEDGER, edges_s))
    # A quarter of an hour is the finest time at which a vendor's prices change, if they do within a day.
    grain = f"if(x.model IN {statement.texts(hourly)}, 900, 86400)"
    seconds = "toUInt64(toUnixTimestamp64Milli(x.occurred_at)) DIV 1000"
    named.append(f"toUInt32(intDiv({seconds}, {grain}) * {grain}) AS moment")
    bound = statement.bind(list(steps), "Array(Int64)")
    named.append(f"arrayCount(s -> s < {_PROMPT}, {bound}) AS step")
    sums = [f"sum(x.sign * x.{name}) AS {name}" for name in _SUMMED]
    keys = [text.rpartition(" AS ")[2] for text in named]
    select = ", ".join([*named, *sums, "sum(toInt64(x.sign)) AS calls"])
    return f"{statement.ledger(select)} GROUP BY {', '.join(keys)} HAVING calls > 0"


async def _steps(ask: Asking, scope: Scope) -> tuple[list[int], list[str]]:
    """Return the prompt sizes above which some model has other rates, and the models priced by the hour."""
    statement = Statement(scope)
    count = len(_CONTEXT)
    names = ", ".join(f"x.{d.column} AS c{i}" for i, d in enumerate(_CONTEXT))
    sql = f"{statement.ledger(names)} GROUP BY {', '.join(f'c{i}' for i in range(count))}"
    sizes: set[int] = set()
    hourly: set[str] = set()
    for row in await ask.rows(statement, sql):
        plan = ask.prices.plan(*(row[f"c{i}"] for i in range(count)))
        if plan is not None:
            sizes |= plan.prompt_steps
            if plan.changes_within_days:
                hourly.add(row["c1"])
    return sorted(sizes), sorted(hourly)


def _rates(row: Mapping[str, Any], prices: Prices, steps: Sequence[int]) -> LinearRates | None:
    provider, model, service_tier, speed, inference_geo = (row[f"c{i}"] for i in range(len(_CONTEXT)))
    prompt = steps[row["step"] - 1] + 1 if row["step"] else 0  # any prompt of this step has its rates
    moment = datetime.fromtimestamp(row["moment"], UTC)
    return prices.rates(provider, model, moment, prompt, service_tier, speed, inference_geo)


def split(row: Mapping[str, Any], rates: LinearRates | None) -> dict[str, int]:
    """Return what alike calls cost by kind of token, in nano-dollars; `other` is the rest. Pure."""
    cost = row["cost_nano"]
    if rates is None:
        return {"other": cost}
    amounts = {
        "input": row["input_tokens"] * rates.input,
        "cache_read": row["cache_read_tokens"] * rates.cache_read,
        "cache_write_5m": row["cache_write_5m_tokens"] * rates.cache_write_5m,
        "cache_write_1h": row["cache_write_1h_tokens"] * rates.cache_write_1h,
        "output": row["output_tokens"] * rates.output + row["reasoning_tokens"] * rates.reasoning_extra,
        "web_search": row["web_search_requests"] * rates.web_search,
    }
    parts = {kind: round_half_even(amount, rates.nano) for kind, amount in amounts.items()}
    return {**parts, "other": cost - sum(parts.values())}


def round_half_even(amount: int, unit: int) -> int:
    """Return an amount in whole units, rounded half to even."""
    whole, rest = divmod(amount, unit)
    return whole + 1 if 2 * rest > unit or (2 * rest == unit and whole & 1) else whole
