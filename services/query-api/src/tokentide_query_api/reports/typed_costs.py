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
    DAY_MS,
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
UNITS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}
"""Which sum of a group is of a kind; what is left over, `other`, is of none."""
_CONTEXT: Final = tuple(
    DIMENSIONS[name] for name in ("provider", "model", "service_tier", "speed", "inference_geo")
)
_SUMMED: Final = (*TOKEN_SUMS, "reasoning_tokens", "web_search_requests", "cost_nano")
_UNKNOWN: Final = (*(0 for _ in range(LinearRates._fields.index("request"))), 1)
"""Rates of no price, and their unit: they explain nothing of what was paid."""
_AMOUNTS: Final = (
    ((0, "input_tokens"),),
    ((1, "cache_read_tokens"),),
    ((2, "cache_write_5m_tokens"),),
    ((3, "cache_write_1h_tokens"),),
    ((4, "output_tokens"), (5, "reasoning_tokens")),
    ((6, "web_search_requests"),),
)
"""Which rates each kind but `other` is made of, by their place, and what of."""
_TOLD_SIZES: Final = frozenset((ALWAYS, *PROMPT_SIZES))
_PROMPT: Final = "x.input_tokens + x.cache_read_tokens + x.cache_write_5m_tokens + x.cache_write_1h_tokens"


async def typed_costs(ask: Asking, scope: Scope, by: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Return for each group (`d0`, …) its sums and `nano`: cost by kind of token."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    keys = [f"d{i}" for i in range(len(by))]
    for row, rates in await alike_calls(ask, scope, by):
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
    ask: Asking, scope: Scope, by: Sequence[Dimension]
) -> list[tuple[Mapping[str, Any], LinearRates | None]]:
    """Return sums of calls that share their rates, with those; None where no price is known."""
    statement = Statement(scope)
    needed = (*by, *_CONTEXT, *scope.dimensions)
    # Whole days come from a rollup, where it can tell groups and filters apart.
    from_parts = parts((scope.start_ms, scope.end_ms), needed, tables=(TEAM_DAYS, LEDGER))
    context = await _context(ask, scope, from_parts)
    question = _question(statement, by, (), context)
    found = await few_rows(ask, statement, question, MOST_READ)
    return [(row, _rates(row, ask.prices, context.steps)) for row in found]


async def alike_in_store(
    ask: Asking, statement: Statement, by: Sequence[Dimension], edges_s: Sequence[int]
) -> str:
    """Return a SELECT of calls that share their rates: `t`, `d0`, …, their units and `nano`, costs by kind.

    What `split` does, in the store: for more groups than can be read.
    """
    scope = statement.scope
    calls = (Part(LEDGER, ((scope.start_ms, scope.end_ms),)),)
    around = _days_around(scope) or calls
    context = msgspec.structs.replace(await _context(ask, scope, around), parts=calls)
    asked = Statement(scope)
    key = f"toString(({', '.join([*(f'c{i}' for i in range(len(_CONTEXT))), 'moment', 'step'])}))"
    names = [f"x.{d.column} AS c{i}" for i, d in enumerate(_CONTEXT)]
    each_row = " UNION ALL ".join(
        asked.of(part, ", ".join([*names, *_rate_columns(asked, part.table, context)]))
        for part in (calls if context.apart else around)
    )
    alike = over(over(each_row, "DISTINCT *", ""), f"*, {key} AS k", "")
    found = {row["k"]: _rates(row, ask.prices, context.steps) for row in await ask.rows(asked, alike)}
    place = f"indexOf({statement.texts(list(found))}, {key}) + 1"
    # Wide enough for any number of tokens at any rate, however fine its unit.
    told = [_UNKNOWN if each is None else (*each[: len(_UNKNOWN) - 1], each.nano) for each in found.values()]
    told.insert(0, _UNKNOWN)  # the place of what has come since
    *rate, unit = (
        f"{statement.bind([each[i] for each in told], 'Array(Int256)')}[i]" for i in range(len(_UNKNOWN))
    )
    amounts = [" + ".join(f"{name} * {rate[i]}" for i, name in of) for of in _AMOUNTS]
    rows = over(_question(statement, by, edges_s, context), f"*, {place} AS i, {unit} AS unit", "")
    # As `round_half_even`: what is cut off rounds up beyond a half, and at a half to the even number.
    up = "toInt256(2 * (a - w * unit) > unit OR (2 * (a - w * unit) = unit AND w % 2 != 0))"
    floor = "intDiv(a - positiveModulo(a, unit), unit)"
    split = f"arrayMap(a -> toInt64(arrayMap(w -> w + {up}, [{floor}])[1]), [{', '.join(amounts)}]) AS told"
    kinds = over(rows, f"*, {split}", "")
    return over(kinds, "*, arrayPushBack(told, cost_nano - arraySum(told)) AS nano", "")


def _days_around(scope: Scope) -> tuple[Part, ...]:
    """Return the whole days that a period lies in, of a rollup; empty where the rollup does not know filters.

    What calls of other hours share may be known as well, and is found there in a tenth of the time.
    """
    if not TEAM_DAYS.covers(frozenset((*_CONTEXT, *scope.dimensions)), latency=False):
        return ()
    start_ms, end_ms = scope.start_ms // DAY_MS * DAY_MS, -(-scope.end_ms // DAY_MS) * DAY_MS
    return (Part(TEAM_DAYS, ((start_ms, end_ms),)),)


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
