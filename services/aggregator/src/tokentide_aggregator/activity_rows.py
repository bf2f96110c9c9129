"""Rows of `activity`: what a series added before and adds now, as signed differences. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from tokentide_aggregator.activity_people import described
from tokentide_aggregator.activity_series import QUARTER_S, Series, amount_of, increments
from tokentide_aggregator.fold import Key

_encoder: Final = msgspec.json.Encoder()
_Amount = tuple[int, int]
"""A quarter and an amount above zero, in billionths."""


def signed_rows(key: Key, before: Series, now: Series) -> tuple[list[bytes], list[bytes]]:
    """Return the rows to take back and the rows to add, so that the sum is what `now` adds.

    As long as a series is described in the same way only differences are written; else all of it moves.
    """
    old, new = increments(before), increments(now)
    if (described(before), before.tags) != (described(now), now.tags):
        return _rows(key, before, old.items(), sign=-1), _rows(key, now, new.items(), sign=1)
    moved = [(quarter, new.get(quarter, 0) - old.get(quarter, 0)) for quarter in sorted({*old, *new})]
    less = [(quarter, -amount) for quarter, amount in moved if amount < 0]
    more = [(quarter, amount) for quarter, amount in moved if amount > 0]
    return _rows(key, now, less, sign=-1), _rows(key, now, more, sign=1)


def _rows(key: Key, series: Series, amounts: Iterable[_Amount], *, sign: int) -> list[bytes]:
    org_id, series_id = key
    fields = {"org_id": org_id, "series_id": series_id, **described(series), "tags": series.tags}
    return [
        _encoder.encode(
            fields
            | {
                "bucket": datetime.fromtimestamp(quarter * QUARTER_S, UTC),
                "value": amount_of(amount),
                "sign": sign,
            }
        )
        for quarter, amount in amounts
    ]
