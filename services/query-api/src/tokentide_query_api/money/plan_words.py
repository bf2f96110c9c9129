"""What a plan is: what somebody pays for a tool by the month, whatever they use. Pure."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts.words import PLAIN
from tokentide_query_api.measures import usd

PlanName: TypeAlias = Literal["pro", "max5x", "max20x", "team", "custom"]
MONTHLY_USD: Final[dict[str, int]] = {"pro": 20, "max5x": 100, "max20x": 200}
"""What Claude's plans for single persons cost in a month; the price of a team's seat is agreed."""
Dollars: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$(?!\n)")]
Subject: TypeAlias = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=254, pattern=PLAIN + r".*\S", description="A user id or e-mail."),
]
Provider: TypeAlias = Annotated[str, msgspec.Meta(max_length=64, pattern=PLAIN)]
Day: TypeAlias = Annotated[date, msgspec.Meta(description="A day, YYYY-MM-DD.")]
_FIRST: Final = date(2000, 1, 1)
_LAST: Final = date(2100, 1, 1)
_NANO: Final = 10**9


class NewPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan as it is asked for. `monthly_usd` is known of `pro`, `max5x` and `max20x`."""

    user: Subject
    plan: PlanName
    valid_from: Day
    valid_until: Day | None = None
    provider: Provider = "anthropic"
    monthly_usd: Dollars | None = None


class PlanChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What changes of a plan; what is absent stays."""

    monthly_usd: Dollars | msgspec.UnsetType = msgspec.UNSET
    valid_from: Day | msgspec.UnsetType = msgspec.UNSET
    valid_until: Day | msgspec.UnsetType | None = msgspec.UNSET


class ShownPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan."""

    plan_id: str
    user: str
    provider: str
    plan: str
    monthly_usd: str
    valid_from: date
    valid_until: date | None
    created_at: datetime
    version: int


class PlanPage(msgspec.Struct, frozen=True):
    """A page of plans, by user."""

    items: list[ShownPlan]
    next_cursor: str | None


def subject_of(user: str) -> str:
    """Return how a user is kept: an e-mail address in lower case."""
    return user.lower() if "@" in user else user


def monthly_nano(plan: str, told: str | None) -> int:
    """Return what a plan costs in a month. Raises `InvalidRequest` where nobody knows."""
    if told is not None:
        return int(Decimal(told) * _NANO)
    if plan not in MONTHLY_USD:
        raise InvalidRequest(
            f"what a {plan} plan costs is agreed: say it",
            code="invalid_request",
            fields={"monthly_usd": "is missing"},
        )
    return MONTHLY_USD[plan] * _NANO


def checked_days(valid_from: date, valid_until: date | None) -> None:
    """Raise `InvalidRequest` for days that are none of a plan."""
    if not _FIRST <= valid_from < (valid_until or _LAST) <= _LAST:
        raise InvalidRequest(
            "valid_from must be before valid_until, both between 2000 and 2100",
            code="invalid_request",
            fields={"valid_until": "a day after valid_from"},
        )


def shown(row: Any) -> ShownPlan:  # noqa: ANN401 -- a row of the table
    """Return a plan as it is answered."""
    names = ("plan_id", "provider", "plan", "valid_from", "valid_until", "created_at", "version")
    kept = {name: getattr(row, name) for name in names}
    return ShownPlan(user=row.subject, monthly_usd=usd(row.monthly_nano), **kept)
