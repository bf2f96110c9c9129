"""For how many days rows of a table are kept, organisation by organisation. Pure.

A rollup outlives the rows that it sums: deleting those tells no view anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import msgspec

Kind: TypeAlias = Literal["calls", "minutes", "activity"]
TABLES: Final[Mapping[Kind, tuple[str, str]]] = {
    "calls": ("ledger", "occurred_at"),
    "minutes": ("usage_day_minutes", "day"),
    "activity": ("activity", "bucket"),
}
"""The table of each kind, and the column that tells how old a row is."""
FOREVER: Final = "forever"
# At least 60 days: budgets are judged by the raw calls of two months.
DaysEntry: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^([A-Za-z0-9_.-]{1,64}=)?(forever|[6-9][0-9]|[1-9][0-9]{2,3})$(?!\n)")
]
_EXPECTED: Final = {"expected": "days from 60 to 9999 or forever, and organisation=days, with commas"}
KeptCalls: TypeAlias = Annotated[
    tuple[DaysEntry, ...],
    msgspec.Meta(
        max_length=1000,
        description="Days for which single calls are kept, for ever unless told: `400,org_a=90`. Sums "
        "outlive them.",
        extra=_EXPECTED,
    ),
]
KeptMinutes: TypeAlias = Annotated[
    tuple[DaysEntry, ...],
    msgspec.Meta(
        max_length=1000,
        description="The same for sums by the minute; those by the quarter of an hour stay.",
        extra=_EXPECTED,
    ),
]
KeptActivity: TypeAlias = Annotated[
    tuple[DaysEntry, ...],
    msgspec.Meta(
        max_length=1000,
        description="The same for single facts of activity; their sums stay.",
        extra=_EXPECTED,
    ),
]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Rows are deleted so much later than they are last relied upon: what has waited on the topic for all of its
# seven days is judged by when it arrived, and still finds them.
_GRACE_DAYS: Final = 10
# "For ever" beside organisations with an end. Later than any row by days that the store can still count.
_FOREVER_DAYS: Final = 15_000


class Days(NamedTuple):
    """For how many days rows of one kind are kept; None: for ever."""

    default: int | None
    own: Mapping[str, int | None]
    """Of organisations that have a word of their own."""

    @classmethod
    def read(cls, entries: Iterable[str]) -> Days:
        """Read a setting, or the text of one."""
        default, own = None, {}
        for entry in entries:
            org_id, _, text = entry.rpartition("=")
            days = None if text == FOREVER else int(text)
            if org_id:
                own[org_id] = days
            else:
                default = days
        return cls(default, {org_id: days for org_id, days in sorted(own.items()) if days != default})

    def text(self) -> str:
        """Return the one text of these days."""
        entries = [(self.default, ""), *((days, f"{org_id}=") for org_id, days in self.own.items())]
        return ",".join(f"{whose}{FOREVER if days is None else days}" for days, whose in entries)

    def of(self, org_id: str) -> int | None:
        """Return the days of an organisation."""
        return self.own.get(org_id, self.default)

    def ttl(self, column: str) -> str:
        """Return the store's expression of when a row is deleted, "" if none ever is.

        As the store itself writes it, so that it is found again; ids and numbers are checked above.
        """
        if self.default is None and not self.own:
            return ""
        if not self.own:
            return f"toDate({column}) + toIntervalDay({_late(self.default)})"
        ids = ", ".join(f"'{org_id}'" for org_id in self.own)
        numbers = ", ".join(str(_late(days)) for days in self.own.values())
        days = f"transform(toString(org_id), [{ids}], [{numbers}], {_late(self.default)})"
        return f"toDate({column}) + toIntervalDay({days})"


class Applied(NamedTuple):
    """Days that were in force from a moment on, until the next ones."""

    at: datetime
    days: Days


def whole_from_ms(history: Sequence[Applied], org_id: str, now: datetime) -> int:
    """Return from which moment on every row of an organisation is there, in milliseconds since 1970.

    0: all of them. What was deleted under an earlier setting does not come back with a longer one, and what
    was set after `now` is not known yet.
    """
    known = [each for each in history if each.at <= now]
    ends = [*(later.at for later in known[1:]), now]
    found = 0
    for (_, days), end in zip(known, ends, strict=bool(known)):
        kept = days.of(org_id)
        if kept is not None:
            midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
            first = midnight - timedelta(days=kept)
            found = max(found, (first - _EPOCH) // timedelta(milliseconds=1))
    return found


def _late(days: int | None) -> int:
    return _FOREVER_DAYS if days is None else days + _GRACE_DAYS
