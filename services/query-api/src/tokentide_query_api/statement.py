"""The one place where SQL over calls is put together. Pure.

A `Statement` belongs to one organisation from its first line: `_scoped` writes the only FROM clauses there
are, each with the organisation's predicate and, for who sees only own calls, with theirs. Identifiers come
from the closed sets of `dimensions.py`; every value that a caller sent becomes a server-side parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tokentide_query_api.dimensions import (
    DAY_MS,
    DIGEST_DAYS,
    HOUR_MS,
    LEDGER,
    MINUTE_DAYS,
    MINUTES,
    SUMS,
    Dimension,
    Kind,
    Table,
)
from tokentide_query_api.resolution import Part, Range
from tokentide_query_api.scope import Condition, Filter, Scope

_SECONDS: Final[dict[int, str]] = {
    1: "toUInt32(intDiv(toUnixTimestamp64Milli(x.occurred_at), 1000))",
    60_000: "toUnixTimestamp(x.bucket)",
    900_000: "toUnixTimestamp(x.bucket)",
    3_600_000: "toUnixTimestamp(x.bucket)",
    86_400_000: "toUInt32(toUInt32(x.day) * 86400)",
}
_BUCKET_OF: Final = "toInt16(ceil(log(greatest(x.{ms}, 1)) / log(1.02)))"

LEDGER_SUMS: Final[dict[str, str]] = {
    "calls": "toInt64(x.sign)",
    "errors": "x.sign * toInt64(x.status != 'ok')",
    "unpriced_calls": "x.sign * toInt64(x.unpriced)",
}


class Statement:
    """SQL in the making, with its parameters, over the calls of one scope."""

    def __init__(self, scope: Scope) -> None:
        if not scope.org_id:
            raise ValueError("a statement belongs to an organisation")
        self.scope = scope
        self._params: dict[str, object] = {"org": scope.org_id}

    @property
    def params(self) -> Mapping[str, object]:
        """Values for the placeholders in the SQL."""
        return self._params

    def bind(self, value: object, kind: str) -> str:
        """Return a placeholder for a value of a ClickHouse type."""
        name = f"p{len(self._params)}"
        self._params[name] = value
        return f"{{{name}:{kind}}}"

    def texts(self, values: Sequence[str]) -> str:
        """Return a placeholder for a list of texts."""
        return self.bind(list(values), "Array(String)")

    def ledger(
        self, select: str, ranges: Sequence[Range] | None = None, *, where: str = "", every_id: bool = False
    ) -> str:
        """Return a SELECT over the signed rows of the ledger, as alias `x`.

        `every_id`: those too of ids that are counted under another one.
        """
        span = ranges if ranges is not None else ((self.scope.start_ms, self.scope.end_ms),)
        return self.of(Part(LEDGER, tuple(span)), select, where=where, every_id=every_id)

    def of(self, part: Part, select: str, *, where: str = "", every_id: bool = False) -> str:
        """Return a SELECT over the rows of one part, as alias `x`."""
        extra = f" AND {where}" if where else ""
        return f"SELECT {select} {self._scoped(part, every_id=every_id)}{extra}"

    def sums(
        self,
        parts: Sequence[Part],
        dimensions: Sequence[Dimension] = (),
        *,
        edges_s: Sequence[int] = (),
        day: bool = False,
        latency: bool = False,
        names: Sequence[str] = SUMS,
    ) -> str:
        """Return a SELECT of the measures from all parts: exact, since the parts are disjoint.

        Columns: `d0`, `d1` … for the dimensions; `t`, the start of the bucket in seconds, where `edges_s`
        has the starts; `day`, the UTC day in seconds; the measures of these names, `calls` among them; and
        with `latency` the histograms.
        Groups without a live call fall away: an upgrade took every call out of them.
        """
        keys = [f"d{i}" for i in range(len(dimensions))]
        # (before, after): what is around the time of a row to make the time of its group
        time: tuple[str, str] | None = None
        if edges_s:
            keys.append("t")
            time = "roundDown(", f", {self._starts(edges_s)}) AS t"
        elif day:
            keys.append("day")
            time = "intDiv(", ", 86400) * 86400 AS day"
        named = [f"{self.column(d)} AS d{i}" for i, d in enumerate(dimensions)]
        inner = " UNION ALL ".join(self._rows(part, named, time, latency, names) for part in parts)
        totals = [f"sum(y.{name}) AS {name}" for name in names]
        if latency:
            totals += [f"sumMap(y.{name}_histogram) AS {name}_histogram" for name in ("duration", "ttft")]
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        return over(inner, ", ".join(keys + totals), f"AS y{group} HAVING sum(y.calls) > 0")

    def distinct(self, parts: Mapping[Dimension, Sequence[Part]]) -> str:
        """Return a SELECT of how many values of dimensions have live calls, but for the one of nobody.

        Columns: `what`, the dimension's place in order; `n`; and `taken_back`: rows of calls taken back that
        are not yet merged with what they take back. Only where there are none is `n` exact: then a value has
        live calls if a row of it has. A part that several dimensions are looked for in is read once.
        """
        if len(parts) == 1:  # then no sets of values have to be put together
            ((dimension, own),) = parts.items()
            named = [f"{self.column(dimension)} AS d0"]
            each = " UNION ALL ".join(self._rows(part, named, None, False, ("calls",)) for part in own)
            return over(each, _distinct(0, dimension, state=""), "AS y")
        known: dict[Part, list[tuple[int, Dimension]]] = {}
        for place, (dimension, own) in enumerate(parts.items()):
            for part in own:
                known.setdefault(part, []).append((place, dimension))
        found = []
        for part, dimensions in known.items():
            named = [f"{self.column(dimension)} AS d{place}" for place, dimension in dimensions]
            told = ", ".join(f"({_distinct(*each, state='State')})" for each in dimensions)
            rows = self._rows(part, named, None, False, ("calls",))
            found.append(over(rows, f"arrayJoin([{told}]) AS told", "AS y"))
        totals = "told.1 AS what, uniqExactIfMerge(told.2) AS n, sum(told.3) AS taken_back"
        return over(" UNION ALL ".join(found), totals, "GROUP BY what")

    def digests(self, parts: Sequence[Part], dimensions: Sequence[Dimension]) -> str:
        """Return a SELECT of how many values of text dimensions have live calls, as `distinct` does.

        In less than half the time, from parts of tables that have digests of just these dimensions, and of
        others where these have none. A dimension without any row is not told.
        """
        places = f"arrayJoin({list(range(len(dimensions)))}) AS what"
        values = ", ".join(_digest(self.column(dimension)) for dimension in dimensions)
        rows = []
        for part in parts:
            known = "digest" in part.table.columns
            told = (
                "x.what AS what, x.digest AS digest" if known else f"{places}, [{values}][what + 1] AS digest"
            )
            calls = self._sign_of_days(part) if part.table is DIGEST_DAYS else measure(part.table, "calls")
            rows.append(self.of(part, f"{told}, {calls}"))
        n, taken_back = (f"y.calls {sign} 0 AND y.digest != 0" for sign in "><")
        counts = f"uniqExactIf(y.digest, {n}) AS n, countIf({taken_back}) AS taken_back"
        return over(" UNION ALL ".join(rows), f"y.what AS what, {counts}", "AS y GROUP BY what")

    def _sign_of_days(self, part: Part) -> str:
        """Return `calls` of a month's row: above 0 if a day of a part has any, below if a day has some less.

        That may be a day outside of the part: who counts then sums up, and finds out.
        """
        inside = " OR ".join(
            f"(d >= {self.bind(start // DAY_MS, 'UInt16')} AND d < {self.bind(end // DAY_MS, 'UInt16')})"
            for start, end in part.ranges
        )
        more = f"arrayExists((d, c) -> c > 0 AND ({inside}), x.daysMap.day, x.daysMap.calls)"
        return f"multiIf(arrayMin(x.daysMap.calls) < 0, toInt64(-1), {more}, 1, 0) AS calls"

    def spans(self, parts: Sequence[Part], *, where: str = "") -> str:
        """Return a SELECT of the hours, or days where hours are not known, in which sessions have live calls.

        Columns: `t`, the start in seconds, and `length` in seconds.
        """
        rows = []
        for part in parts:
            length = max(part.table.grain_ms, HOUR_MS) // 1000
            time = f"intDiv({_SECONDS[part.table.grain_ms]}, {length}) * {length} AS t, {length} AS length"
            counted = f"x.session_key AS d0, {measure(part.table, 'calls')}"
            rows.append(self.of(part, f"{time}, {counted}", where=where))
        live = "AS y GROUP BY d0, t, length HAVING sum(y.calls) > 0"
        return over(" UNION ALL ".join(rows), "t, length", live)

    def column(self, dimension: Dimension) -> str:
        """Return the expression of a dimension, as text; a tag's key is a value and bound like one."""
        if dimension.tag:
            return f"x.tags[{self.bind(dimension.tag, 'String')}]"
        column = f"x.{dimension.column}"
        return column if dimension.kind is Kind.TEXT else f"toString({column})"

    def start(self, table: Table, edges_s: Sequence[int]) -> str:
        """Return the column `t`: the start, of these, of the bucket that a row of a table is in."""
        seconds = _SECONDS[table.grain_ms]
        return f"roundDown({seconds}, {self._starts(edges_s)}) AS t"

    def _starts(self, edges_s: Sequence[int]) -> str:
        """Return the starts of buckets as an array: even runs of them, for a year of hours is a long list."""
        first, step, count = (
            self.bind(list(part), "Array(UInt32)") for part in zip(*runs(edges_s), strict=True)
        )
        return f"arrayFlatten(arrayMap((a, s, n) -> range(a, a + s * n, s), {first}, {step}, {count}))"

    def _rows(
        self,
        part: Part,
        named: Sequence[str],
        time: tuple[str, str] | None,
        latency: bool,
        names: Sequence[str],
    ) -> str:
        columns = [*named]
        if time:
            columns.append(_SECONDS[part.table.grain_ms].join(time))
        columns += [measure(part.table, name) for name in names]
        if latency:
            columns += [_histogram(part.table, name) for name in ("duration", "ttft")]
        return f"SELECT {', '.join(columns)} {self._scoped(part)}"

    def _scoped(
        self, part: Part, filters: Sequence[Condition] | None = None, *, every_id: bool = False
    ) -> str:
        """Return FROM and WHERE: first the organisation and what its caller may see of it."""
        conditions = self.scope.filters if filters is None else filters
        where = ["x.org_id = {org:String}", self._within(part)]
        if (own := self.scope.sight.own) is not None:
            if not {d.column for d in own.dimensions} <= part.table.columns:
                raise ValueError(f"{part.table.name} cannot tell whose calls they are")
            where.append(self._condition(own, part.table))
        where += [self._condition(condition, part.table) for condition in conditions]
        if part.table is LEDGER and not every_id:
            where.append("x.same_as = ''")  # what is counted under another id is no call of its own
        return f"FROM {part.table.name} AS x WHERE {' AND '.join(where)}"

    def _within(self, part: Part) -> str:
        # A row holds minutes of a day, or days of a month: who reads its lists leaves out what is outside.
        if part.table is MINUTES:
            days = tuple((a // DAY_MS * DAY_MS, -(-b // DAY_MS) * DAY_MS) for a, b in part.ranges)
            return self._within(Part(MINUTE_DAYS, days))
        if part.table is DIGEST_DAYS:
            months = [
                f"(x.month >= toStartOfMonth({_day_time(self, start)}) AND x.month < {_day_time(self, end)})"
                for start, end in part.ranges
            ]
            return f"({' OR '.join(months)})"
        column, convert = _TIME[part.table.grain_ms]
        ranges = [
            f"({column} >= {convert(self, start)} AND {column} < {convert(self, end)})"
            for start, end in part.ranges
        ]
        return f"({' OR '.join(ranges)})"

    def _condition(self, condition: Condition, table: Table) -> str:
        if not isinstance(condition, Filter):
            either = [self._condition(each, table) for each in condition.filters]
            return f"({' OR '.join(either) or '1 = 0'})"
        operator = "NOT IN" if condition.exclude else "IN"
        column = self.column(condition.dimension)
        folded = f"lowerUTF8({column})" if condition.fold else column
        values = self.texts(condition.values)
        if condition.dimension.digest:
            values = f"(SELECT sipHash64(arrayJoin({values})))"
        told = f"{folded} {operator} {values}"
        by_user = table is LEDGER and column == "x.user_id" and not condition.exclude and not condition.fold
        return f"({near_users(values)} AND {told})" if by_user else told


def near_users(users: str) -> str:
    """Return a condition of the ledger that all calls of users in a list pass, and of few others.

    The copy by person is in the order of these digests, and finds them in half the time that ids take.
    """
    return f"x.user_key IN (SELECT toUInt32(sipHash64(arrayJoin({users}))))"


def runs(numbers: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return ascending numbers as runs of (first, step, count), whose numbers lie evenly."""
    found: list[tuple[int, int, int]] = []
    for number in numbers:
        first, step, count = found[-1] if found else (number, 0, 0)
        if count == 1:
            found[-1] = (first, number - first, 2)
        elif count and number == first + step * count:
            found[-1] = (first, step, count + 1)
        else:
            found.append((number, 1, 1))
    return found


def _distinct(place: int, dimension: Dimension, *, state: str) -> str:
    """Return a dimension's place, how many values have calls, or the state of it, and rows that take back."""
    column = f"y.d{place}"
    somebody = f"{column} != {nobody(dimension)}"
    # Texts are told apart by 64 bits, in half the time: of a million two are the same, and count as one,
    # with a chance of one in 37 million.
    value = column if dimension.digest else f"xxh3({column})"
    count = f"uniqExactIf{state}({value}, y.calls > 0 AND {somebody}) AS n"
    return f"{place} AS what, {count}, countIf(y.calls < 0 AND {somebody}) AS taken_back"


def _digest(column: str) -> str:
    """Return the digest of a text, as `usage_month_digest` and `usage_hour_digest` have it."""
    return f"if({column} = '', 0, xxh3({column}))"


def nobody(dimension: Dimension) -> str:
    """Return the value of a dimension that stands for nobody."""
    return "0" if dimension.digest else "''"


def over(inner: str, select: str, rest: str) -> str:
    """Return a SELECT over a SELECT of this module, so that no other one needs a FROM."""
    return f"SELECT {select} FROM ({inner}) {rest}"  # noqa: S608 -- texts of our own; values are parameters


def joined(left: str, right: str, select: str, rest: str) -> str:
    """Return a SELECT over the rows of one SELECT, `z`, each with those of another, `w`, of the same `d0`."""
    return over(left, select, f"AS z LEFT JOIN ({right}) AS w ON z.d0 = w.d0 {rest}")


def _ledger_time(statement: Statement, ms: int) -> str:
    return f"fromUnixTimestamp64Milli({statement.bind(ms, 'Int64')}, 'UTC')"


def _quarter_time(statement: Statement, ms: int) -> str:
    return f"toDateTime({statement.bind(ms // 1000, 'UInt32')}, 'UTC')"


def _day_time(statement: Statement, ms: int) -> str:
    return f"toDate({statement.bind(ms // 86_400_000, 'UInt16')})"


_TIME: Final = {
    1: ("x.occurred_at", _ledger_time),
    60_000: ("x.bucket", _quarter_time),
    900_000: ("x.bucket", _quarter_time),
    3_600_000: ("x.bucket", _quarter_time),
    86_400_000: ("x.day", _day_time),
}


def utc_day(table: Table) -> str:
    """Return the expression of the start, in seconds, of the UTC day that a row of a table is in."""
    return f"intDiv({_SECONDS[table.grain_ms]}, 86400) * 86400"


def measure(table: Table, name: str) -> str:
    """Return what a row of a table adds to a measure, as a column of that name."""
    if table is not LEDGER:
        return f"x.{name} AS {name}"
    return f"{LEDGER_SUMS.get(name, f'x.sign * x.{name}')} AS {name}"


def _histogram(table: Table, name: str) -> str:
    if table is not LEDGER:
        return f"x.{name}_histogram AS {name}_histogram"
    bucket = _BUCKET_OF.format(ms=f"{name}_ms")
    return (
        f"if(x.{name}_ms > 0, map({bucket}, toInt64(x.sign)), CAST(map(), 'Map(Int16, Int64)'))"
        f" AS {name}_histogram"
    )
