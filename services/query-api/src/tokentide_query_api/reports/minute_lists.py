"""Minutes that have calls, told apart by group. Pure.

Users have nearly as many minutes as calls: a row of `usage_day_minutes` has those of a day as lists, so that
the greatest of each is found without telling all of them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokentide_query_api.dimensions import (
    DAY_MS,
    DIMENSIONS,
    LEDGER,
    MINUTE_DAYS,
    MINUTE_MS,
    MINUTES,
    MODEL_MINUTES,
    TOKEN_SUMS,
    Dimension,
)
from tokentide_query_api.resolution import Part, parts
from tokentide_query_api.statement import Statement, measure, over

USER_MODEL: Final = (DIMENSIONS["user_id"], DIMENSIONS["model"])
_TABLES: Final = (MODEL_MINUTES, MINUTE_DAYS, MINUTES, LEDGER)
_LISTED: Final = (MINUTE_DAYS, MINUTES)
_TOKENS: Final = " + ".join(f"x.{name}" for name in TOKEN_SUMS)
_AT_MS: Final = "toUnixTimestamp64Milli(x.occurred_at)"
Group = tuple[str, str]
"""A user and a model."""


def _summed(values: str) -> str:
    """Return a list of minutes' values with what is of the same minute added up.

    Where each minute ends, in their order, the sum of all values until then: the differences of these.
    """
    until = f"arrayCumSum(arraySort((v, m) -> m, {values}, t))"
    at_ends = f"arrayFilter((s, m, n) -> m != n, {until}, ordered, arrayShiftLeft(ordered, 1, toUInt32(-1)))"
    return f"arrayPopFront(arrayDifference(arrayPushFront({at_ends}, toInt64(0))))"


_ORDERED: Final = "if(arrayUniq(t) = length(t), [], arraySort(t)) AS ordered"
# Which minutes they are is no longer asked: only what was in each. `sumMap` takes seven times as long.
_ONCE: Final = f"if(empty(ordered), (c, k), ({_summed('c')}, {_summed('k')})) AS told"


def per_minute(statement: Statement, by: Sequence[Dimension]) -> str:
    """Return a SELECT of `calls` and `tokens` of each group (`d0`, …) in each minute, `t`, that has any."""
    keys = ", ".join([*(f"d{i}" for i in range(len(by))), "t"])
    rows = [_each_minute(statement, part, by) for part in _parts(statement, by)]
    sums = f"{keys}, sum(y.calls) AS calls, sum(y.tokens) AS tokens"
    return over(" UNION ALL ".join(rows), sums, f"AS y GROUP BY {keys} HAVING sum(y.calls) > 0")


def minutes_of(statement: Statement, by: Sequence[Dimension], among: Sequence[Group] | None = None) -> str:
    """Return a SELECT of each group with lists: `calls` and `tokens` of its minutes that have a call.

    A group's minutes are put together as lists. To tell all of them apart takes four times as long: only
    where a minute is in a list twice is it added up. `among`: of these users and models, and of who shares a
    digest with them.
    """
    keys = [f"d{i}" for i in range(len(by))]
    group = f" GROUP BY {', '.join(keys)}" if keys else ""
    where = "" if among is None else _one_of(statement, among)
    found = [
        statement.of(part, ", ".join([*_named(statement, by), *_lists(statement, part)]), where=where)
        for part in _parts(statement, by)
    ]
    gathered = ", ".join([*keys, *(f"groupArrayArray(y.{name}) AS {name}" for name in ("t", "c", "k"))])
    listed = over(" UNION ALL ".join(found), gathered, f"AS y{group}")
    live = "arrayFilter(n -> n > 0, told.1) AS calls, arrayFilter((n, c) -> c > 0, told.2, told.1) AS tokens"
    return over(over(listed, ", ".join([*keys, _ORDERED, _ONCE]), ""), ", ".join([*keys, live]), "")


def has_lists(statement: Statement, by: Sequence[Dimension]) -> bool:
    """Say whether `bounds` is worth asking: minutes of these groups come as lists of days."""
    return any(part.table in _LISTED for part in _parts(statement, by))


def bounds(statement: Statement, most: int) -> str:
    """Return a SELECT of the first so many users and models by `bound`: no minute of theirs has more tokens.

    It is the greatest minute of a day's row, and the sum of these where a day has several rows that are not
    put together yet: minutes that a correction took back may be among them, but never too few. `likely` is
    the greatest of a single row: mostly what their greatest minute has, for most rows share none.
    """
    rows = []
    for part in _parts(statement, USER_MODEL):
        if part.table in _LISTED:
            tokens = _of_day(statement, part)[2]
            most_of = f"toUInt16(x.day) AS day, greatest(toInt64(0), arrayMax({tokens})) AS most"
        else:
            day = f"toUInt16(intDiv({_AT_MS}, {DAY_MS}))"
            most_of = f"{day} AS day, greatest(toInt64(0), x.sign * ({_TOKENS})) AS most"
        rows.append(statement.of(part, ", ".join([*_named(statement, USER_MODEL), most_of])))
    days = over(
        " UNION ALL ".join(rows),
        "d0, d1, groupArray(y.day) AS days, groupArray(y.most) AS each",
        "AS y GROUP BY d0, d1",
    )
    # Summed up are the days alone that are there twice: to sum up all of them takes half as long again.
    twice = "arrayFilter((d, n) -> n > 1, days, arrayEnumerateUniq(days))"
    summed = f"arrayMax(arrayMap(d -> arraySum((v, e) -> if(e = d, v, 0), each, days), {twice}))"
    told = f"d0, d1, arrayMax(each) AS likely, greatest(likely, {summed}) AS bound"
    return over(days, told, f"ORDER BY bound DESC, d0, d1 LIMIT {most}")


def _parts(statement: Statement, by: Sequence[Dimension]) -> tuple[Part, ...]:
    scope = statement.scope
    return parts((scope.start_ms, scope.end_ms), (*by, *scope.dimensions), tables=_TABLES)


def _named(statement: Statement, by: Sequence[Dimension]) -> list[str]:
    return [f"{statement.column(d)} AS d{i}" for i, d in enumerate(by)]


def _one_of(statement: Statement, groups: Sequence[Group]) -> str:
    """Return what is true of rows of these groups; of another's that shares a digest it may be, too.

    To look for a number takes a third of the time that it takes to look for two texts.
    """
    users, models = (statement.texts(names) for names in zip(*groups, strict=True))
    digests = f"arrayMap((u, m) -> xxh3(u) + xxh3(m), {users}, {models})"
    return f"xxh3(x.user_id) + xxh3(x.model) IN (SELECT arrayJoin({digests}))"


def _each_minute(statement: Statement, part: Part, by: Sequence[Dimension]) -> str:
    """Return a SELECT that has a row of each minute of a row."""
    named = _named(statement, by)
    if part.table in _LISTED:
        each = f"arrayJoin(arrayZip({', '.join(_of_day(statement, part))})) AS m"
        keys = [f"d{i}" for i in range(len(by))]
        return over(
            statement.of(part, ", ".join([*named, each])),
            ", ".join([*keys, "m.1 AS t, m.2 AS calls, m.3 AS tokens"]),
            "",
        )
    minute, calls, tokens = _of_row(part)
    return statement.of(part, ", ".join([*named, f"{minute} AS t, {calls} AS calls, {tokens} AS tokens"]))


def _lists(statement: Statement, part: Part) -> list[str]:
    """Return columns that are lists of the minutes of a row."""
    if part.table in _LISTED:
        values: Sequence[str] = _of_day(statement, part)
    else:
        values = [f"[{value}]" for value in _of_row(part)]
    return [f"{value} AS {name}" for name, value in zip("tck", values, strict=True)]


def _of_row(part: Part) -> tuple[str, str, str]:
    """Return the minute of a row, in seconds, its calls and its tokens."""
    calls = measure(part.table, "calls").removesuffix(" AS calls")
    if part.table is LEDGER:
        return f"toUInt32(intDiv({_AT_MS}, {MINUTE_MS}) * 60)", calls, f"x.sign * ({_TOKENS})"
    return "toUnixTimestamp(x.bucket)", calls, _TOKENS


def _of_day(statement: Statement, part: Part) -> list[str]:
    """Return the same of a day's row as lists, of days at an end of the period without what is outside."""
    at = "arrayMap(n -> toUInt32(toUInt32(x.day) * 86400 + n * 60), x.minutesMap.minute)"
    lists = [at, "x.minutesMap.calls", "x.minutesMap.tokens"]
    if part.table is not MINUTES:
        return lists
    inside = " OR ".join(
        f"(s >= {statement.bind(start // 1000, 'UInt32')} AND s < {statement.bind(end // 1000, 'UInt32')})"
        for start, end in part.ranges
    )
    return [f"arrayFilter((v, s) -> {inside}, {each}, {at})" for each in lists]
