"""The JSON shapes of the answers, for the OpenAPI document. Tests hold every answer against them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from tokentide_query_api import record
from tokentide_query_api.blocks.answer import COLUMNS as BLOCK_COLUMNS
from tokentide_query_api.export.partitions import COLUMNS as PARTITION_COLUMNS
from tokentide_query_api.formats import MEASURES, Column, Kind
from tokentide_query_api.limits import LEVELS
from tokentide_query_api.openapi import array, fields
from tokentide_query_api.reconciliation import KINDS, REASONS

TEXT: Final = Schema(type=OpenAPIType.STRING)
WHOLE: Final = Schema(type=OpenAPIType.INTEGER)
NUMBER: Final = Schema(type=OpenAPIType.NUMBER)
FLAG: Final = Schema(type=OpenAPIType.BOOLEAN)
OBJECT: Final = Schema(type=OpenAPIType.OBJECT)
MAYBE_TEXT: Final = Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL])
MAYBE_WHOLE: Final = Schema(type=[OpenAPIType.INTEGER, OpenAPIType.NULL])
MAYBE_NUMBER: Final = Schema(type=[OpenAPIType.NUMBER, OpenAPIType.NULL])
MOMENT: Final = Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL], format=OpenAPIFormat.DATE_TIME)
MONEY: Final = Schema(type=OpenAPIType.STRING, description="US dollars, an exact decimal like 0.0138985")
AMOUNT: Final = Schema(type=OpenAPIType.STRING, description="An exact decimal, like 3600.5")

_OF_KIND: Final = {
    Kind.AMOUNT: AMOUNT,
    Kind.TEXT: TEXT, Kind.COUNT: WHOLE, Kind.RATIO: NUMBER, Kind.USD: MONEY, Kind.TIME: MOMENT,
    Kind.FLAG: FLAG,
    Kind.NESTED: Schema(type=[OpenAPIType.OBJECT, OpenAPIType.ARRAY]),
}  # fmt: skip
_MAYBE_OF_KIND: Final = {
    Kind.TEXT: MAYBE_TEXT, Kind.COUNT: MAYBE_WHOLE, Kind.RATIO: MAYBE_NUMBER, Kind.AMOUNT: MAYBE_TEXT,
    Kind.NESTED: Schema(type=[OpenAPIType.OBJECT, OpenAPIType.ARRAY, OpenAPIType.NULL]),
}  # fmt: skip


def _of(columns: Iterable[Column]) -> dict[str, Schema]:
    return {column.name: _OF_KIND[column.kind] for column in columns}


def row_of(columns: Iterable[Column]) -> Schema:
    """Return the shape of a row with these columns, of which a text or a number may be unknown."""
    return fields(
        **{column.name: _MAYBE_OF_KIND.get(column.kind, _OF_KIND[column.kind]) for column in columns}
    )


_MEASURES: Final = _of(MEASURES)
_LATENCY: Final = fields(p50=MAYBE_NUMBER, p95=MAYBE_NUMBER, p99=MAYBE_NUMBER)
_SEEN_BY: Final = fields(cli=WHOLE, otlp=WHOLE, proxy=WHOLE, api=WHOLE)

SUMMARY: Final = fields(
    **{"from": TEXT, "to": TEXT, "tz": TEXT},
    **_MEASURES,
    cache_hit_ratio=NUMBER,
    **dict.fromkeys(("users", "sessions", "machines", "projects"), WHOLE),
    duration_ms=_LATENCY,
    ttft_ms=_LATENCY,
)
TIMESERIES: Final = fields(
    **dict.fromkeys(("bucket", "tz", "from", "to"), TEXT),
    group_by=array(TEXT),
    series=array(fields(key=OBJECT, points=array(fields(start=TEXT, **_MEASURES)))),
)
PARTITIONS: Final = fields(
    **dict.fromkeys(("bucket", "tz", "from", "to"), TEXT),
    partitions=array(fields(**_of(PARTITION_COLUMNS))),
)
BREAKDOWN: Final = fields(
    by=array(TEXT),
    metric=TEXT,
    rows=array(fields(key=OBJECT, **_MEASURES, share=NUMBER)),
    other=fields(groups=WHOLE, **_MEASURES, share=NUMBER),
)
CALL: Final = fields(**_of(record.COLUMNS))
CALL_WITH_OBSERVATIONS: Final = fields(
    **_of(record.COLUMNS), observations=array(fields(source=TEXT, observed_at=MOMENT))
)


def page_of(item: Schema) -> Schema:
    """Return the shape of a page of a list."""
    return fields(items=array(item), next_cursor=MAYBE_TEXT)


SESSION: Final = fields(
    session_id=TEXT,
    first_call_at=TEXT,
    last_call_at=TEXT,
    **dict.fromkeys(("users", "machines", "projects", "clients", "models", "sources"), array(TEXT)),
    **_MEASURES,
)
_SEEN: Final[dict[str, Schema]] = {
    "calls": WHOLE,
    "seen_by": _SEEN_BY,
    "by_sources": array(fields(sources=array(TEXT), calls=WHOLE)),
    "calls_log_lacks": WHOLE,
    "calls_telemetry_lacks": WHOLE,
}
_COUNTS: Final = fields(calls=WHOLE, client=MAYBE_WHOLE, difference=MAYBE_WHOLE)
_AMOUNTS: Final = fields(calls=MAYBE_TEXT, client=MAYBE_TEXT, difference=MAYBE_TEXT)
_STOPPED: Final = Schema(
    type=[OpenAPIType.OBJECT, OpenAPIType.NULL],
    properties={"since": TEXT, "calls": WHOLE},
    required=["since", "calls"],
)
COVERAGE: Final = fields(
    session_id=TEXT,
    **_SEEN,
    possible_doubles=array(fields(model=TEXT, output_tokens=WHOLE, call_ids=array(TEXT))),
    stopped_emitting=_STOPPED,
    reconciliation=array(
        fields(
            against=Schema(type=OpenAPIType.STRING, enum=["metrics", "log"]),
            **dict.fromkeys((f"{kind}_tokens" for kind in KINDS), _COUNTS),
            cost_usd=_AMOUNTS,
            reported_cost_usd=_AMOUNTS,
            likely_reason=Schema(type=OpenAPIType.STRING, enum=list(REASONS)),
        )
    ),
)
COVERAGE_DAYS: Final = fields(
    **dict.fromkeys(("from", "to", "tz"), TEXT),
    days=array(fields(start=TEXT, **_SEEN, metrics_only_sessions=WHOLE)),
    total=fields(**_SEEN),
)
LIMITS: Final = fields(
    as_of=TEXT,
    items=array(
        fields(
            **dict.fromkeys(("provider", "account", "key_id", "model", "kind", "status", "source"), TEXT),
            level=Schema(type=OpenAPIType.STRING, enum=list(LEVELS)),
            utilization=MAYBE_TEXT,
            **dict.fromkeys(("window_minutes", "limit", "remaining"), MAYBE_WHOLE),
            resets_at=MOMENT,
            observed_at=TEXT,
            age_s=WHOLE,
        )
    ),
)
RANKINGS: Final = fields(
    **dict.fromkeys(("period", "period_start", "scope", "metric", "tz"), TEXT),
    computed_at=MAYBE_TEXT,
    items=array(
        fields(
            rank=WHOLE,
            entity=TEXT,
            value=Schema(type=[OpenAPIType.STRING, OpenAPIType.INTEGER]),
            share=NUMBER,
            percentile=NUMBER,
            previous_rank=MAYBE_WHOLE,
            movement=MAYBE_WHOLE,
        )
    ),
    next_cursor=MAYBE_TEXT,
)
LEADERBOARD: Final = fields(
    **dict.fromkeys(("period", "period_start", "metric", "tz"), TEXT),
    items=array(
        fields(rank=WHOLE, handle=TEXT, value=Schema(type=[OpenAPIType.STRING, OpenAPIType.INTEGER]))
    ),
    next_cursor=MAYBE_TEXT,
)
_ACTIVITY: Final = {
    **dict.fromkeys(("tz", "from", "to"), TEXT),
    "bucket": MAYBE_TEXT,
    "by": array(TEXT),
    "rows": array(fields(metric=TEXT, key=OBJECT, start=MAYBE_TEXT, value=AMOUNT)),
}
ACTIVITY: Final = fields(**_ACTIVITY)
METRICS_ONLY: Final = fields(**_ACTIVITY, basis=TEXT, sessions=WHOLE)

_BLOCK: Final = row_of(BLOCK_COLUMNS)
BLOCKS: Final = fields(
    as_of=TEXT,
    tz=TEXT,
    accounts=array(
        fields(
            account=TEXT,
            active=Schema(type=[OpenAPIType.OBJECT, OpenAPIType.NULL]),
            week=fields(
                start=TEXT,
                end=TEXT,
                pinned=FLAG,
                **dict.fromkeys(
                    (
                        *("calls", "input_tokens", "cache_read_tokens", "cache_write_tokens"),
                        *("output_tokens", "total_tokens"),
                    ),
                    WHOLE,
                ),
                cost_usd=MONEY,
            ),
            blocks=array(_BLOCK),
        )
    ),
)
