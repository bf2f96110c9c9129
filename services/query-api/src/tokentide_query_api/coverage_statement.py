"""SQL over what is known of a call beside its numbers: who saw it, and what its client says itself. Pure.

All reading clauses are those of `Statement`, with the organisation's predicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokentide_common.session_totals import FORKED_FROM
from tokentide_query_api.activity_statement import ActivityStatement
from tokentide_query_api.activity_words import ACTIVITY_LEDGER, CLIENT_METRICS
from tokentide_query_api.dimensions import DAY_MS, LEDGER
from tokentide_query_api.resolution import Part, Range
from tokentide_query_api.statement import over

SOURCES: Final = ("cli", "otlp", "proxy", "api")
_OWN_TOTALS: Final = (*CLIENT_METRICS, "session_tokens", "session_cost_usd")
# The split of cache writes is left out: a source may know only their total.
_SAME: Final = (
    "x.session_id AS d0, x.call_id AS call_id, x.occurred_at AS at, x.version AS version, x.model AS model,"
    " x.input_tokens AS input_tokens, x.cache_read_tokens AS cache_read_tokens,"
    " x.cache_write_5m_tokens + x.cache_write_1h_tokens AS cache_write_tokens,"
    " x.output_tokens AS output_tokens, any(x.sources) AS sources"
)
_STATE: Final = (
    "x.session_id, x.call_id, x.occurred_at, x.version, x.model, x.input_tokens, x.cache_read_tokens,"
    " x.cache_write_5m_tokens + x.cache_write_1h_tokens, x.output_tokens"
)
_VECTOR: Final = "d0, model, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens"


class CoverageStatement(ActivityStatement):
    """A statement over who saw the calls of one scope."""

    def by_sources(self, sessions: Sequence[str]) -> str:
        """Return a SELECT of the live calls per session `d0` and set of sources, like `cli+otlp`."""
        select = (
            "x.session_id AS d0, arrayStringConcat(x.sources, '+') AS sources_text,"
            " sum(toInt64(x.sign)) AS calls"
        )
        where = f"x.session_id IN {self.texts(sessions)}"
        return f"{self.ledger(select, where=where)} GROUP BY d0, sources_text HAVING calls > 0"

    def by_start_and_sources(self, starts_s: Sequence[int]) -> str:
        """Return a SELECT of the live calls per start of a bucket `t` and set of sources."""
        select = (
            f"{self.start(LEDGER, starts_s)}, arrayStringConcat(x.sources, '+') AS sources_text,"
            " sum(toInt64(x.sign)) AS calls"
        )
        return f"{self.ledger(select)} GROUP BY t, sources_text HAVING calls > 0"

    def same_calls(self, sessions: Sequence[str]) -> str:
        """Return a SELECT of the groups of calls that agree in session, model and tokens."""
        some = "x.output_tokens + x.input_tokens + x.cache_read_tokens > 0"
        where = f"x.session_id IN {self.texts(sessions)} AND {some}"
        live = f"{self.ledger(_SAME, where=where)} GROUP BY {_STATE} HAVING sum(toInt64(x.sign)) > 0"
        return over(
            live,
            f"{_VECTOR}, groupArray(tuple(call_id, sources)) AS candidates",
            f"GROUP BY {_VECTOR} HAVING count() > 1 ORDER BY {_VECTOR}",
        )

    def sightings(self, sessions: Sequence[str]) -> str:
        """Return a SELECT per session of when telemetry last spoke, and of what the log saw since.

        `unsplit_calls` wrote to the cache, for a time that no source knows;
        `silent_calls` are the calls on the log, and not in telemetry, after the last one in telemetry.
        """
        select = (
            "x.session_id AS d0, toUnixTimestamp64Milli(x.occurred_at) AS at_ms,"
            " has(x.sources, 'otlp') AS by_otlp, has(x.sources, 'cli') AS by_cli,"
            " NOT x.cache_split_known AND x.cache_write_5m_tokens + x.cache_write_1h_tokens > 0 AS unsplit,"
            " sum(toInt64(x.sign)) AS live"
        )
        where = f"x.session_id IN {self.texts(sessions)}"
        keys = "d0, at_ms, by_otlp, by_cli, unsplit"
        moments = f"{self.ledger(select, where=where)} GROUP BY {keys} HAVING live > 0"
        last = "max(if(by_otlp, at_ms, 0)) OVER (PARTITION BY d0) AS otlp_ms"
        silent = "by_cli AND NOT by_otlp AND at_ms > otlp_ms"
        return over(
            over(moments, f"{keys}, live, {last}", ""),
            "d0, sum(live) AS calls, max(at_ms) AS last_ms, any(otlp_ms) AS last_otlp_ms,"
            " sumIf(live, NOT by_cli) AS log_lacks, sumIf(live, NOT by_otlp) AS telemetry_lacks,"
            " sumIf(live, unsplit) AS unsplit_calls,"
            f" sumIf(live, {silent}) AS silent_calls, minIf(at_ms, {silent}) AS silent_ms",
            "GROUP BY d0",
        )

    def own_totals(self, sessions: Sequence[str]) -> str:
        """Return a SELECT of the clients' own totals per session, metric and kind; `value` is a text."""
        where = f"x.metric IN {self.texts(_OWN_TOTALS)} AND x.session_id IN {self.texts(sessions)}"
        select = (
            "x.session_id AS d0, x.metric AS metric, x.kind AS kind,"
            " toString(sum(x.sign * x.value)) AS value,"
            f" max(x.tags['{FORKED_FROM}']) AS forked_from"
        )
        part = self._around(ACTIVITY_LEDGER.grain_ms)
        rows = f"SELECT {select} {self._scoped(Part(ACTIVITY_LEDGER, (part,)))} AND {where}"
        return f"{rows} GROUP BY d0, metric, kind HAVING sum(x.sign * x.value) != 0"

    def metrics_only(self, starts_s: Sequence[int]) -> str:
        """Return a SELECT per start of a bucket of the number of sessions with metrics and without a call."""
        where = f"x.metric IN {self.texts(CLIENT_METRICS)} AND x.session_id != ''"
        select = f"x.session_id AS d0, {self.start(ACTIVITY_LEDGER, starts_s)}, x.sign * x.value AS value"
        part = Part(ACTIVITY_LEDGER, (self._around(ACTIVITY_LEDGER.grain_ms),))
        uncalled = self.without_calls(self._around(DAY_MS))
        rows = f"SELECT {select} {self._scoped(part)} AND {where} AND {uncalled}"
        live = over(rows, "d0, t", "GROUP BY d0, t HAVING sum(value) != 0")
        return over(live, "t, count() AS sessions", "GROUP BY t")

    def _around(self, grain_ms: int) -> Range:
        """Return the scope's period in whole grains of a table."""
        start, end = self.scope.start_ms, self.scope.end_ms
        return start // grain_ms * grain_ms, -(-end // grain_ms) * grain_ms
