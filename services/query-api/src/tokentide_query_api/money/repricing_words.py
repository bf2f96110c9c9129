"""What pricing history anew is asked for, and what it answers."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which calls are to be priced anew; absent: all of the organisation."""

    from_: Annotated[str, msgspec.Meta(max_length=64)] | None = msgspec.field(name="from", default=None)
    to: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    tz: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    model: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    dry_run: bool = False
    """Only tell what would change."""
    cursor: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    """`next_cursor` of the page before."""


class RepricedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one model, by the prices that they had and by those of today."""

    provider: str
    model: str
    calls: int
    changed: int
    unpriced_before: int
    unpriced_after: int
    old_cost_usd: str
    new_cost_usd: str
    difference_usd: str


class Repricing(msgspec.Struct, frozen=True, kw_only=True):
    """A page of calls, newest first, and what is asked to be priced anew of them."""

    price_version: str
    """The prices of today."""
    dry_run: bool
    calls: int
    changed: int
    """Calls that now cost something else; without `dry_run` these are being priced anew."""
    models: list[RepricedModel]
    next_cursor: str | None
