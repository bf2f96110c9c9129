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

import msgspec

from tokentide_common.pricing import Prices
from tokentide_common.pricing.rates import ALWAYS, LinearRates
from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import (
    DIMENSIONS,
    LEDGER,
    PROMPT_SIZES,
    TEAM_DAYS,
    TOKEN_SUMS,
    Dimension,
    Table,
)
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.row_bounds import MOST_READ, few_rows
from tokentide_query_api.scope import Scope
from tokentide_query_api.statement import Statement, measure, over

KINDS: Final = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "web_search", "other")
_CONTEXT: Final = tuple(
    DIMENSIONS[name] for name in ("provider", "model", "service_tier", "speed", "inference_geo")
)
_SUMMED: Final = (*TOKEN_SUMS, "reasoning_tokens", "web_search_requests", "cost_nano")
_TOLD_SIZES: Final = frozenset((ALWAYS, *PROMPT_SIZES))
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


class _Context(msgspec.Struct, frozen=True):
    """What decides about the rates of the calls of a question."""

    parts: tuple[Part, ...]
    steps: list[int]
    """Prompt sizes above which some model has other rates."""
    hourly: list[str]
    """Models whose price depends on the time of day."""
    apart: list[str]
    """Models whose rates no rollup can tell: those, and any with a step at a size that it does not know."""


async def alike_calls(
    ask: Asking, scope: Scope, by: Sequence[Dimension], *, edges_s: Sequence[int] = ()
) -> list[tuple[Mapping[str, Any], LinearRates | None]]:
    """Return sums of calls that share their rates, with those; None where no price is known."""
    statement = Statement(scope)
    # Whole days come from a rollup, where it can tell groups and filters; hours are told by the ledger alone.
    tables = (LEDGER,) if edges_s else (TEAM_DAYS, LEDGER)
    needed = (*by, *_CONTEXT, *scope.dimensions)
    context = await _context(ask, scope, parts((scope.start_ms, scope.end_ms), needed, tables=tables))
    question = _question(statement, by, edges_s, context)
    found = await few_rows(ask, statement, question, MOST_READ)
    return [(row, _rates(row, ask.prices, context.steps)) for row in found]


def _question(
    statement: Statement, by: Sequence[Dimension], edges_s: Sequence[int], context: _Context
) -> str:
    named = [f"{statement.column(d)} AS d{i}" for i, d in enumerate(by)]
    named += [f"x.{d.column} AS c{i}" for i, d in enumerate(_CONTEXT)]
    keys = [text.rpartition(" AS ")[2] for text in named]
    if edges_s:
        named.append(statement.start(LEDGER, edges_s))
        keys.append("t")
    keys += ["moment", "step"]
    apart = statement.texts(context.apart)
    rows = []
    for part in context.parts:
        columns = [*named, *_rate_columns(statement, part.table, context)]
        columns += [measure(part.table, name) for name in (*_SUMMED, "calls")]
        if part.table is LEDGER or not context.apart:
            rows.append(statement.of(part, ", ".join(columns)))
            continue
        rows.append(statement.of(part, ", ".join(columns), where=f"x.model NOT IN {apart}"))
        columns = [*named, *_rate_columns(statement, LEDGER, context)]
        columns += [measure(LEDGER, name) for name in (*_SUMMED, "calls")]
        rows.append(statement.ledger(", ".join(columns), part.ranges, where=f"x.model IN {apart}"))
    sums = [f"sum(y.{name}) AS {name}" for name in (*_SUMMED, "calls")]
    group = f"AS y GROUP BY {', '.join(keys)} HAVING sum(y.calls) > 0"
    return over(" UNION ALL ".join(rows), ", ".join([*keys, *sums]), group)


def _rate_columns(statement: Statement, table: Table, context: _Context) -> list[str]:
    """Return `moment`, from when a row's rates are, and `step`, how many of the sizes its prompts passed."""
    steps = statement.bind(context.steps, "Array(Int64)")
    if table is not LEDGER:
        return [
            "toUInt32(toUInt32(x.day) * 86400) AS moment",
            f"arrayCount(s -> s <= toInt64(x.prompt_over), {steps}) AS step",
        ]
    # A quarter of an hour is the finest time at which a vendor's prices change, if they do within a day.
    grain = f"if(x.model IN {statement.texts(context.hourly)}, 900, 86400)"
    seconds = "toUInt64(toUnixTimestamp64Milli(x.occurred_at)) DIV 1000"
    return [
        f"toUInt32(intDiv({seconds}, {grain}) * {grain}) AS moment",
        f"arrayCount(s -> s < {_PROMPT}, {steps}) AS step",
    ]


async def _context(ask: Asking, scope: Scope, from_parts: tuple[Part, ...]) -> _Context:
    statement = Statement(scope)
    names = ", ".join(f"x.{d.column} AS c{i}" for i, d in enumerate(_CONTEXT))
    keys = ", ".join(f"c{i}" for i in range(len(_CONTEXT)))
    rows = " UNION ALL ".join(f"{statement.of(part, names)} GROUP BY {keys}" for part in from_parts)
    sizes: set[int] = set()
    hourly: set[str] = set()
    apart: set[str] = set()
    for row in await ask.rows(statement, rows):
        plan = ask.prices.plan(*(row[f"c{i}"] for i in range(len(_CONTEXT))))
        if plan is not None:
            sizes |= plan.prompt_steps
            if plan.changes_within_days:
                hourly.add(row["c1"])
            if plan.changes_within_days or not plan.prompt_steps <= _TOLD_SIZES:
                apart.add(row["c1"])
    return _Context(from_parts, sorted(sizes), sorted(hourly), sorted(apart))


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
