"""The rates of one model, in one context, over its price periods."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from tokentide_common.pricing.overrides import Rule
from tokentide_common.pricing.pricelist import Listing
from tokentide_common.pricing.rates import TieredRates, UnitRates

_MIDNIGHT = time(0, tzinfo=UTC)
_ANY_DAY = date(2026, 1, 1)


class Plan:
    """Rates by UTC day and, for vendors with peak hours, by UTC time of day.

    Prices change at midnights and at the same times every day, so periods × slots is the whole history.
    """

    __slots__ = ("_days", "_grid", "_times", "constant")

    def __init__(
        self, days: Sequence[date], times: Sequence[time], grid: list[list[TieredRates | None]]
    ) -> None:
        self._days = [datetime.combine(day, _MIDNIGHT) for day in days]
        self._times = list(times)
        self._grid = grid
        self.constant = grid[0][0] if len(grid) == 1 and len(grid[0]) == 1 else None
        """The rates, where they never changed."""

    @property
    def prompt_steps(self) -> set[int]:
        """The sizes of a prompt above which other rates hold, in any period."""
        return {
            start for slots in self._grid for tiers in slots if tiers is not None for start in tiers.starts
        }

    @property
    def changes_within_days(self) -> bool:
        """Whether rates depend on the time of day."""
        return bool(self._times)

    def rates_at(self, moment: datetime) -> TieredRates | None:
        """Return the rates at an aware moment, None where no price is known for it."""
        slots = self._grid[bisect_right(self._days, moment)]
        if len(slots) == 1:
            return slots[0]
        return slots[bisect_right(self._times, moment.astimezone(UTC).timetz())]


def make_plan(listing: Listing | None, rules: Sequence[Rule], context: Mapping[str, str]) -> Plan:
    """Work out the rates of every price period; the rules are those that concern the model."""
    days = sorted(
        (listing.change_days() if listing else set())
        | {day for rule in rules for day in (rule.since, rule.until) if day is not None}
    )
    times = sorted((listing.change_times() if listing else set()) - {_MIDNIGHT})
    period_days = [days[0] - timedelta(days=1) if days else _ANY_DAY, *days]
    grid = [
        [_rates_at(listing, rules, context, datetime.combine(day, slot)) for slot in (_MIDNIGHT, *times)]
        for day in period_days
    ]
    return Plan(days, times, grid)


def _rates_at(
    listing: Listing | None, rules: Sequence[Rule], context: Mapping[str, str], moment: datetime
) -> TieredRates | None:
    active = [rule for rule in rules if rule.holds_on(moment.date())]
    steps = _base(listing, active, context, moment)
    if steps is None:
        return None
    for rule in active:
        factor = rule.factor
        if factor is not None:
            steps = [(above, usd.times(factor)) for above, usd in steps]
    return TieredRates.from_usd(steps)


def _base(
    listing: Listing | None, active: Sequence[Rule], context: Mapping[str, str], moment: datetime
) -> list[tuple[int, UnitRates]] | None:
    """Rates before factors: the last rule that states them or withdraws them, else the price list."""
    for rule in reversed(active):
        if rule.unpriced:
            return None
        if rule.rates:
            return rule.steps()
    return listing.rates_at(moment, context) if listing else None
