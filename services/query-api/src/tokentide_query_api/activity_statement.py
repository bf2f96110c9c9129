"""SQL over activity. Pure; every table is read by way of `Statement`, with the organisation's predicate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokentide_query_api.activity_words import ACTIVITY_LEDGER
from tokentide_query_api.dimensions import DAY_MS, LEDGER, SESSIONS, Dimension
from tokentide_query_api.resolution import Part, Range
from tokentide_query_api.statement import Statement, over

# Wherever a call can be.
_ALWAYS: Final = (0, 49_709 * DAY_MS)
# Some kinds of tokens are a part of another kind: where all kinds are added up they are left out.
_WHOLES: Final = (
    "NOT (x.metric IN ('client_tokens', 'session_tokens') AND x.kind IN ('reasoning', 'prompt_cached'))"
)


class ActivityStatement(Statement):
    """A statement over the activity of one scope."""

    def values(
        self,
        parts: Sequence[Part],
        metrics: Sequence[str],
        dimensions: Sequence[Dimension],
        *,
        edges_s: Sequence[int] = (),
        where: str = "",
    ) -> str:
        """Return a SELECT of exact sums: `metric`, `d0`, `d1` …, with `edges_s` also `t`, and `value`."""
        if not any(d.name == "kind" for d in (*dimensions, *self.scope.dimensions)):
            where = f"{where} AND {_WHOLES}" if where else _WHOLES
        keys = ["metric", *(f"d{i}" for i in range(len(dimensions)))]
        named = ["x.metric AS metric", *(f"{self.column(d)} AS d{i}" for i, d in enumerate(dimensions))]
        if edges_s:
            keys.append("t")
        inner = " UNION ALL ".join(self._rows_of(part, named, metrics, edges_s, where) for part in parts)
        group = ", ".join(keys)
        return over(inner, f"{group}, sum(y.value) AS value", f"AS y GROUP BY {group} HAVING value != 0")

    def sessions(self, parts: Sequence[Part], metrics: Sequence[str], where: str) -> str:
        """Return a SELECT of the number of sessions that have any of it."""
        inner = self.values(parts, metrics, (_SESSION,), where=where)
        return over(inner, "uniqExact(d0) AS sessions", "WHERE d0 != ''")

    def without_calls(self, days: Range) -> str:
        """Return the condition under which a client's own totals may stand where calls are missing.

        Of a session: that it has no call, at any time and whatever the filters. Without a session the user,
        who must be known, and the machine, where it is, must have no call on any day of the period.
        """
        session = self._with_calls("session_id", _ALWAYS)
        user, machine = self._with_calls("user_id", days), self._with_calls("machine_id", days)
        return (
            f"if(x.session_id != '', x.session_id NOT IN ({session}),"
            f" x.user_id != '' AND x.user_id NOT IN ({user}) AND x.machine_id NOT IN ({machine}))"
        )

    def _with_calls(self, column: str, days: Range) -> str:
        # Who sees only own calls learns nothing of others': not even that a session of theirs has some.
        if self.scope.sight.own is None:
            scoped, live = self._scoped(Part(SESSIONS, (days,)), ()), "sum(x.calls)"
        else:
            scoped, live = self._scoped(Part(LEDGER, (days,)), ()), "sum(toInt64(x.sign))"
        return f"SELECT x.{column} {scoped} AND x.{column} != '' GROUP BY x.{column} HAVING {live} > 0"

    def _rows_of(
        self,
        part: Part,
        named: Sequence[str],
        metrics: Sequence[str],
        edges_s: Sequence[int],
        where: str,
    ) -> str:
        amount = "x.sign * x.value" if part.table is ACTIVITY_LEDGER else "x.value"
        columns = [*named, *([self.start(part.table, edges_s)] if edges_s else ()), f"{amount} AS value"]
        extra = f" AND {where}" if where else ""
        return (
            f"SELECT {', '.join(columns)} {self._scoped(part)} AND x.metric IN {self.texts(metrics)}{extra}"
        )


_SESSION: Final = Dimension("session_id", "session_id")
