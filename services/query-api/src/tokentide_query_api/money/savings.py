"""What a plan cost for a span of days, beside what its usage would have cost at list prices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from tokentide_query_api.periods import month_start


class Plan(msgspec.Struct, frozen=True):
    """A plan of somebody."""

    plan_id: str
    subject: str
    provider: str
    plan: str
    monthly_nano: int
    valid_from: date
    valid_until: date | None


class Share(msgspec.Struct, frozen=True):
    """The days of one month on which a plan held, and what they cost."""

    plan: Plan
    first: date
    after: date
    price_nano: int

    @property
    def days(self) -> int:
        """How many."""
        return (self.after - self.first).days


def shares(plan: Plan, first: date, after: date) -> Iterator[Share]:
    """Yield a plan's part of each month from `first` to the day before `after`."""
    start, end = max(plan.valid_from, first), min(plan.valid_until or after, after)
    while start < end:
        month, following = month_start(start), month_start(start, 1)
        stop = min(end, following)
        price = rounded(plan.monthly_nano * (stop - start).days, (following - month).days)
        yield Share(plan, start, stop, price)
        start = stop


def edges(plans: Iterable[Plan], first: date, after: date) -> list[date]:
    """Return the days on which a month or a plan begins or ends, `first` among them, in order."""
    found = {first}
    for plan in plans:
        for share in shares(plan, first, after):
            found |= {share.first, share.after}
    return sorted(day for day in found if first <= day < after)


class Owners:
    """Whose plan a call belongs to."""

    def __init__(self, found: Sequence[Share]) -> None:
        self._by_subject: dict[tuple[str, str], list[Share]] = {}
        for share in found:
            self._by_subject.setdefault((share.plan.subject, share.plan.provider), []).append(share)

    def share_of(self, row: Mapping[str, Any], day: date) -> Share | None:
        """Return the share of a plan that covers calls of a user, address and provider on a day.

        A user id goes before an address, and a plan of the provider before one of any: no call is in two.
        """
        for subject in (row["user_id"], row["user_email"].lower()):
            for provider in (row["provider"], ""):
                for share in self._by_subject.get((subject, provider), ()) if subject else ():
                    if share.first <= day < share.after:
                        return share
        return None


def rounded(amount: int, parts: int) -> int:
    """Return an amount over so many parts, rounded half to even."""
    whole, rest = divmod(amount, parts)
    return whole + 1 if 2 * rest > parts or (2 * rest == parts and whole & 1) else whole
