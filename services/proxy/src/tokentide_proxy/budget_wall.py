"""Which requests are refused because a budget is used up. Pure but for the clock of the stops."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tokentide_common.errors import RateLimited
from tokentide_common.stop_directory import LiveStops, Stop
from tokentide_proxy.attribution import attribution_of
from tokentide_proxy.exchange import Admission
from tokentide_proxy.whom import Whom

_SPENDS: Final = b"POST"
_LONGEST_S: Final = 3600
"""Nobody is told to stay away for longer: the budget may be raised meanwhile."""
_PERIODS: Final = {"monthly": "this month", "weekly": "this week", "daily": "today"}


def over_budget(stops: LiveStops | None, admission: Admission, method: bytes) -> RateLimited | None:
    """Return why a request is refused, if it is.

    What only reads passes: the results of a batch are paid for already.
    """
    # The guarantee: where nothing of the organisation is stopped, this look is all that a call costs.
    if stops is None or not stops.stops_any_of(admission.key.org_id) or method != _SPENDS:
        return None
    parts = parts_of(Whom(admission.key, attribution_of(admission.headers)))
    stop = stops.stop_of(admission.key.org_id, parts)
    return None if stop is None else _refused(stop, stops.seconds_left(stop))


def parts_of(whom: Whom) -> list[tuple[str, str]]:
    """Return the scopes of budgets that a call falls under, by the same words that it is counted with."""
    return [
        ("organisation", ""),
        ("team", whom.team),
        ("project", whom.project),
        ("key", whom.key_id),
        ("user", whom.user_id),
        ("user", whom.user_email.lower()),
    ]


def _refused(stop: Stop, seconds_left: int) -> RateLimited:
    until = datetime.fromtimestamp(stop.until_s, UTC)
    return RateLimited(
        f"the budget {stop.name} for {_PERIODS[stop.period]} is used up; calls go on at "
        f"{until:%Y-%m-%dT%H:%MZ}, or when an administrator raises it",
        retry_after_s=min(seconds_left, _LONGEST_S),
        code="budget_used_up",
    )
