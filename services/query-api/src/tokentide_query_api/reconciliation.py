"""A session's calls held against what its client says of itself: the difference, and its likely reason. Pure.

A client states its own totals in two places: in its metrics, and in the log that it writes. Neither knows
single calls, so neither is ever counted; but a call that no source has reported shows as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from tokentide_query_api.measures import usd

Against = Literal["metrics", "log"]
Reason = Literal[
    "equal",
    "still_running",
    "retried_stream",
    "possible_doubles",
    "log_lacks_calls",
    "log_output_is_partial",
    "telemetry_lacks_calls",
    "client_counts_other_calls",
    "client_stopped_counting",
    "unpriced",
    "cache_split_unknown",
    "price_differs",
    "unknown",
]
REASONS: Final[tuple[str, ...]] = get_args(Reason)
KINDS: Final = ("input", "cache_read", "cache_write", "output")
RECENT_MS: Final = 15 * 60_000
"""A session with a call this recent may have more on the way, from any source."""

# Clients add up binary fractions: what is closer than this is the same amount.
_ROUNDING_NANO: Final = 1_000


class Calls(msgspec.Struct, frozen=True):
    """What all calls of a session amount to."""

    calls: int
    tokens: Mapping[str, int]
    """By `KINDS`, cache writes of both durations together."""
    cost_nano: int
    reported_cost_nano: int = 0
    unpriced_calls: int = 0
    unsplit_calls: int = 0
    """How many of the calls wrote to the cache, and no source knows for how long, which is what it costs."""
    log_lacks: int = 0
    """How many of the calls no log has shown."""
    telemetry_lacks: int = 0
    """How many of the calls no telemetry has reported."""
    possible_doubles: int = 0
    last_ms: int = 0


class ClientTotals(msgspec.Struct, frozen=True):
    """What the client says that a session amounts to; `None` where it does not say."""

    against: Against
    tokens: Mapping[str, int] | None = None
    cost_nano: int | None = None
    forked_from: str = ""
    """The session whose totals these go on from."""


def reconciliation(
    calls: Calls, client: ClientTotals, others: list[ClientTotals], now_ms: int
) -> dict[str, Any]:
    """Return the comparison with one statement of the client; `others` are all that it made."""
    return {
        "against": client.against,
        **{f"{kind}_tokens": _counts(calls.tokens[kind], _said(client, kind)) for kind in KINDS},
        "cost_usd": _money(calls.cost_nano, client.cost_nano),
        "reported_cost_usd": _money(calls.reported_cost_nano or None, client.cost_nano),
        "likely_reason": likely_reason(calls, client, others, now_ms),
    }


def likely_reason(calls: Calls, client: ClientTotals, others: list[ClientTotals], now_ms: int) -> Reason:
    """Return the first reason that the numbers and the sources of the calls speak for."""
    differences = _differences(calls, client)
    more, less = any(d > 0 for d in differences.values()), any(d < 0 for d in differences.values())
    recent = abs(now_ms - calls.last_ms) < RECENT_MS
    if not (more or less):
        return _why_cost_differs(calls, client)
    if more and _counts_an_attempt_twice(calls, client):
        return "retried_stream"
    if recent:
        return "still_running"
    if more and less:
        return "unknown"
    if more:
        return _why_client_has_more(calls, client, others, differences)
    return _why_client_has_less(calls, client)


def _why_cost_differs(calls: Calls, client: ClientTotals) -> Reason:
    if client.cost_nano is None or _same_money(calls.cost_nano, client.cost_nano):
        return "equal"
    if calls.unpriced_calls:
        return "unpriced"
    # Five minutes are what costs least: it can only be our cost that is too low.
    too_low = calls.unsplit_calls and calls.cost_nano < client.cost_nano
    return "cache_split_unknown" if too_low else "price_differs"


def _counts_an_attempt_twice(calls: Calls, client: ClientTotals) -> bool:
    """Say whether the client's own cost of the calls is its total, though it counted more tokens.

    An answer that broke off and was asked for again is one call, whose cost covers both attempts.
    """
    return bool(client.cost_nano) and _same_money(calls.reported_cost_nano, client.cost_nano or 0)


def _why_client_has_more(
    calls: Calls, client: ClientTotals, others: list[ClientTotals], differences: Mapping[str, int]
) -> Reason:
    if client.forked_from or any(
        o is not client and o.tokens and not any(_differences(calls, o).values()) for o in others
    ):
        # Where one of its statements agrees with the calls, it is the other one that counts too much.
        return "client_counts_other_calls"
    if calls.telemetry_lacks < calls.calls and calls.log_lacks < calls.calls:
        # Both have seen this session, and a call that both lack is rarer than telemetry that lost some.
        return "telemetry_lacks_calls" if calls.telemetry_lacks else "client_counts_other_calls"
    if calls.log_lacks == calls.calls:
        return "telemetry_lacks_calls"
    only_output = all(d == 0 for kind, d in differences.items() if kind != "output")
    return "log_output_is_partial" if only_output else "log_lacks_calls"


def _why_client_has_less(calls: Calls, client: ClientTotals) -> Reason:
    if calls.possible_doubles:
        return "possible_doubles"
    if client.against == "metrics" and calls.telemetry_lacks:
        return "telemetry_lacks_calls"
    return "client_stopped_counting"


def _differences(calls: Calls, client: ClientTotals) -> dict[str, int]:
    """Return by how much the client has more, for what it says."""
    if client.tokens is None:
        return {}
    return {kind: client.tokens.get(kind, 0) - calls.tokens[kind] for kind in KINDS}


def _said(client: ClientTotals, kind: str) -> int | None:
    return None if client.tokens is None else client.tokens.get(kind, 0)


def _same_money(one: int, other: int) -> bool:
    return abs(one - other) <= max(_ROUNDING_NANO, other // 1_000_000)


def _counts(ours: int, theirs: int | None) -> dict[str, int | None]:
    return {"calls": ours, "client": theirs, "difference": None if theirs is None else theirs - ours}


def _money(ours: int | None, theirs: int | None) -> dict[str, str | None]:
    difference = None if ours is None or theirs is None else theirs - ours
    amounts = {"calls": ours, "client": theirs, "difference": difference}
    return {name: None if nano is None else usd(nano) for name, nano in amounts.items()}
