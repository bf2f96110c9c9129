"""What a budget is, as it is asked for, kept and answered. Pure."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts.words import PLAIN, Email, Name
from tokentide_query_api.measures import usd
from tokentide_query_api.money.outside import trouble_of

ScopeKind: TypeAlias = Literal["organisation", "team", "project", "user", "key"]
Interval: TypeAlias = Literal["monthly", "weekly", "daily"]
Unit: TypeAlias = Literal["usd", "tokens"]
Amount: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,15}(\.[0-9]{1,9})?$(?!\n)")]
Threshold: TypeAlias = Annotated[float, msgspec.Meta(ge=0.01, le=10)]
Thresholds: TypeAlias = Annotated[list[Threshold], msgspec.Meta(min_length=1, max_length=10)]
ScopeValue: TypeAlias = Annotated[str, msgspec.Meta(max_length=1000, pattern=PLAIN)]
Url: TypeAlias = Annotated[str, msgspec.Meta(max_length=2000, pattern=r"^https?://[^\s/?#]+(/\S*)?$(?!\n)")]
Secret: TypeAlias = Annotated[str, msgspec.Meta(min_length=16, max_length=200, pattern=PLAIN)]
_NANO: Final = 10**9
_MOST: Final = 9 * 10**18


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where alerts go: to a webhook, which checks the signature made with `secret`, or to people."""

    kind: Literal["webhook", "slack", "discord", "email"]
    url: Url | None = None
    secret: Secret | None = None
    address: Email | None = None

    def __post_init__(self) -> None:
        needed = {"webhook": ("url", "secret"), "email": ("address",)}.get(self.kind, ("url",))
        for name in ("url", "secret", "address"):
            if (getattr(self, name) is not None) is not (name in needed):
                raise ValueError(f"a channel of kind {self.kind} has {' and '.join(needed)}")


Channels: TypeAlias = Annotated[list[Channel], msgspec.Meta(max_length=10)]


class NewBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A budget as it is asked for."""

    name: Name
    scope: ScopeKind = "organisation"
    scope_value: ScopeValue = ""
    period: Interval = "monthly"
    unit: Unit = "usd"
    amount: Amount
    thresholds: Thresholds = msgspec.field(default_factory=lambda: [0.9, 1.0])
    channels: Channels = []
    hard_stop: bool = False


class BudgetChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What changes of a budget; what is absent stays."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    amount: Amount | msgspec.UnsetType = msgspec.UNSET
    thresholds: Thresholds | msgspec.UnsetType = msgspec.UNSET
    channels: Channels | msgspec.UnsetType = msgspec.UNSET
    hard_stop: bool | msgspec.UnsetType = msgspec.UNSET


class ShownChannel(msgspec.Struct, frozen=True):
    """Where alerts go, without what is secret of it."""

    kind: str
    target: str


class ShownBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget."""

    budget_id: str
    name: str
    scope: str
    scope_value: str
    period: str
    unit: str
    amount: str
    thresholds: list[float]
    channels: list[ShownChannel]
    hard_stop: bool
    created_at: datetime
    version: int


class BudgetPage(msgspec.Struct, frozen=True):
    """A page of budgets, by name."""

    items: list[ShownBudget]
    next_cursor: str | None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a budget is used."""

    budget_id: str
    period_start: datetime
    period_end: datetime
    unit: str
    amount: str
    used: str
    left: str
    share: float
    projected: str | None
    projected_low: str | None
    projected_high: str | None
    runs_out_on: date | None
    """The day on which it is used up: today where it is; null: not in this period, as far as one can tell."""
    crossed: list[float]
    """The thresholds for which an alert was decided in this period."""
    stopped: bool
    """It is used up, and has a hard stop: the proxy refuses its calls."""


def amount_of(text: str, unit: str) -> int:
    """Return an amount in nano-dollars or tokens. Raises `InvalidRequest` for what is none."""
    exact = Decimal(text) * (_NANO if unit == "usd" else 1)
    if exact != int(exact) or not 0 < exact <= _MOST:
        raise InvalidRequest(
            "the amount is above 0, and tokens are whole",
            code="invalid_request",
            fields={"amount": "an amount above 0"},
        )
    return int(exact)


def text_of(amount: int, unit: str) -> str:
    """Return an amount as it is answered."""
    return usd(amount) if unit == "usd" else str(amount)


def checked_scope(scope: str, value: str) -> None:
    """Raise `InvalidRequest` where a team, project, user or key is not named, or an organisation is."""
    if (scope == "organisation") is bool(value):
        wrong = "must be left out" if value else "is missing"
        raise InvalidRequest(
            "scope_value says which team, project, user or key; for the organisation it is left out",
            code="invalid_request",
            fields={"scope_value": wrong},
        )


def checked_channels(channels: list[Channel]) -> None:
    """Raise `InvalidRequest` for a channel to which nothing can be sent."""
    for number, channel in enumerate(channels):
        trouble = channel.url is not None and trouble_of(channel.url)
        if trouble:
            raise InvalidRequest(
                f"the url of a channel {trouble}",
                code="invalid_request",
                fields={f"channels[{number}].url": trouble},
            )


def thousandths(thresholds: list[float]) -> list[int]:
    """Return thresholds as they are kept."""
    return sorted({round(threshold * 1000) for threshold in thresholds})


def shown(row: Any, channels: list[Channel]) -> ShownBudget:  # noqa: ANN401 -- a row of the table
    """Return a budget as it is answered."""
    kept = (
        "budget_id",
        "name",
        "scope",
        "scope_value",
        "period",
        "unit",
        "hard_stop",
        "created_at",
        "version",
    )
    return ShownBudget(
        **{name: getattr(row, name) for name in kept},
        amount=text_of(row.amount, row.unit),
        thresholds=[threshold / 1000 for threshold in msgspec.json.decode(row.thresholds)],
        channels=[
            ShownChannel(one.kind, one.address or urlsplit(one.url or "").hostname or "") for one in channels
        ],
    )
