"""What part of a month a plan costs, and whose plan a call belongs to."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tokentide_query_api.money.savings import Owners, Plan, edges, shares

USD = 10**9
DAYS = st.dates(date(2025, 1, 1), date(2027, 12, 31))


def plan(first: date, until: date | None = None, subject: str = "u", provider: str = "p") -> Plan:
    return Plan(f"plan_{subject}_{provider}", subject, provider, "pro", 20 * USD, first, until)


def test_a_whole_month_costs_the_price_and_a_part_of_it_its_days():
    found = list(shares(plan(date(2026, 1, 17)), date(2026, 1, 1), date(2026, 3, 8)))
    assert [(s.first, s.after, s.days, s.price_nano) for s in found] == [
        (date(2026, 1, 17), date(2026, 2, 1), 15, 9_677_419_355),  # 20 · 15/31
        (date(2026, 2, 1), date(2026, 3, 1), 28, 20 * USD),
        (date(2026, 3, 1), date(2026, 3, 8), 7, 4_516_129_032),
    ]


@given(DAYS, DAYS, DAYS, st.none() | DAYS)
def test_shares_are_the_common_days_once_each(first, after, begins, until):
    held = plan(begins, until)
    found = list(shares(held, first, after))
    days = {date.fromordinal(n) for s in found for n in range(s.first.toordinal(), s.after.toordinal())}
    assert sum(s.days for s in found) == len(days)
    common = range(max(first, begins).toordinal(), min(after, until or after).toordinal())
    assert days == {date.fromordinal(n) for n in common}
    for share in found:
        last = date.fromordinal(share.after.toordinal() - 1)
        assert (share.first.year, share.first.month) == (last.year, last.month)
        assert {share.first} <= set(edges([held], first, after))


def test_a_call_belongs_to_the_plan_of_its_user_its_provider_and_its_day():
    first, after = date(2026, 1, 1), date(2026, 2, 1)
    held = [plan(first), plan(first, provider=""), plan(date(2026, 1, 10), subject="a@x.org")]
    owners = Owners([share for one in held for share in shares(one, first, after)])

    def owner(day: int, **call: Any) -> tuple[str, str] | None:
        told = {"user_id": "", "user_email": "", "provider": "p", **call}
        found = owners.share_of(told, date(2026, 1, day))
        return found and (found.plan.subject, found.plan.provider)

    assert owner(5, user_id="u") == ("u", "p")
    assert owner(5, user_id="u", provider="other") == ("u", "")
    assert owner(5, user_id="u", user_email="a@x.org") == ("u", "p")
    assert owner(15, user_id="v", user_email="A@x.org") == ("a@x.org", "p")
    assert owner(5, user_email="A@x.org") is None, "the plan had not begun"
    assert owner(15, user_email="a@x.org", provider="other") is None
    assert owner(15) is None
