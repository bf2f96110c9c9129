"""A call record: a ledger row in the words of `UsageEvent`, with its money and its provenance. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tokentide_common.events import UsageEvent
from tokentide_query_api.formats import Column, Kind
from tokentide_query_api.measures import usd

_DERIVED: Final = {
    "source": "token_source",
    "cache_write_tokens": "cache_write_5m_tokens",
    "reported_cost_usd": "reported_cost_nano",
}
_EVENT_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(UsageEvent))
_KINDS: Final = {
    "occurred_at": Kind.TIME, "observed_at": Kind.TIME, "session_started_at": Kind.TIME,
    "is_sidechain": Kind.FLAG, "unpriced": Kind.FLAG, "tags": Kind.NESTED, "sources": Kind.NESTED,
    "observations": Kind.NESTED, "reported_cost_usd": Kind.USD, "cost_usd": Kind.USD,
    "http_status": Kind.COUNT, "duration_ms": Kind.COUNT, "ttft_ms": Kind.COUNT,
    "retry_attempt": Kind.COUNT, "web_search_requests": Kind.COUNT,
    **{name: Kind.COUNT for name in _EVENT_FIELDS if name.endswith("_tokens")},
}  # fmt: skip
_FIELDS: Final = (*_EVENT_FIELDS, "cost_usd", "price_version", "unpriced", "sources")
COLUMNS: Final = tuple(Column(name, _KINDS.get(name, Kind.TEXT)) for name in _FIELDS)

LEDGER_COLUMNS: Final = (
    *(_DERIVED.get(name, name) for name in _EVENT_FIELDS if name != "cache_write_tokens"),
    *("cost_nano", "price_version", "unpriced", "sources", "version", "sign"),
)


def select_list(*more: str) -> str:
    """Return the columns of a record as a select list, with the time also in milliseconds."""
    names = ", ".join(f"x.{name} AS {name}" for name in (*LEDGER_COLUMNS, *more))
    return f"{names}, toUnixTimestamp64Milli(x.occurred_at) AS at_ms"


def live_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows that stand: those whose state of the call was not taken back, in the order they came.

    A row that takes back is an exact copy but for its sign, so it has the same place in the ledger's order.
    """
    signs: dict[tuple[int, str, int], int] = {}
    first: dict[tuple[int, str, int], Mapping[str, Any]] = {}
    for row in rows:
        state = (row["at_ms"], row["call_id"], row["version"])
        signs[state] = signs.get(state, 0) + row["sign"]
        first.setdefault(state, row)
    return [row for state, row in first.items() if signs[state] > 0]


def record_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat record of a ledger row. `source` is the source whose token counts stand in it."""
    fields = {name: row[_DERIVED.get(name, name)] for name in _EVENT_FIELDS}
    fields["cache_write_tokens"] = row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
    fields["reported_cost_usd"] = usd(row["reported_cost_nano"])
    return {
        **fields,
        "cost_usd": usd(row["cost_nano"]),
        "price_version": row["price_version"],
        "unpriced": row["unpriced"],
        "sources": row["sources"],
    }


def observations_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each source said: kept where several spoke, and where one did, the row is what it said."""
    if row["observations"]:
        said: list[dict[str, Any]] = msgspec.json.decode(row["observations"])
        return [_observation(one) for one in said]
    split_known = row["cache_split_known"]
    record = {name: value for name, value in record_of(row).items() if name in _EVENT_FIELDS}
    if not split_known:
        record |= {"cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0}
    said_one = {name: value for name, value in record.items() if value not in ("", 0, "0", None, {}, False)}
    return [_observation({**said_one, "source": (row["sources"] or [row["token_source"]])[0]})]


def _observation(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return one observation, who and when first, without the organisation: it is the caller's own."""
    rest = {k: v for k, v in said.items() if k not in ("source", "observed_at", "org_id")}
    return {"source": said["source"], "observed_at": said.get("observed_at"), **rest}
