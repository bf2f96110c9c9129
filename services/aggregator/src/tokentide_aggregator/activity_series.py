"""A series: all that is known of one counter, and what it adds to each quarter of an hour. Pure.

The state is a map from quarter to the highest value seen in it, joined by pointwise maximum, so that order,
repeats and batching do not matter. A quarter adds what the running maximum rises by in it: a point that
comes late moves that amount from the quarter after it into its own, and the sum stays the highest value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from tokentide_aggregator.concluded_people import Person, joined_people, person_in
from tokentide_common.activity import ActivityFact
from tokentide_common.errors import InvalidEvent

QUARTER_S: Final = 900
MAX_STEPS: Final = 3000
"""A month without a pause; a state is read and written whole, so its size must have an end."""
_MAX_TAGS: Final = 32
_NANO: Final = 10**9
LABELS: Final = tuple(
    name
    for name in ActivityFact.__struct_fields__
    if name not in ("org_id", "series_id", "at", "value", "tags")
)
"""What describes a series. The organisation and the id are its key and never change."""

Step = tuple[int, int]
"""A quarter (number since 1970) and the highest value by its end, in billionths."""


class Series(msgspec.Struct, frozen=True, gc=False):
    """The state of a series."""

    labels: dict[str, str] = {}
    """What is known of `LABELS`, in their order."""
    tags: dict[str, str] = {}
    steps: tuple[Step, ...] = ()
    """Rising in both: a quarter that does not exceed those before it adds nothing, and is forgotten."""
    person: Person = {}
    """Whom other sources name for its session, and by what."""


NOTHING: Final = Series()
"""What is known before the first fact. Whoever counted something has a step."""


def series_of(fact: ActivityFact) -> Series:
    """Return what one fact says of its series; a zero says nothing at all."""
    if fact.source == "link":
        return Series(person=person_in(fact))
    height = nano_of(fact.value)
    if not height:
        return NOTHING
    labels = {name: value for name in LABELS if (value := getattr(fact, name))}
    quarter = int(fact.at.timestamp()) // QUARTER_S
    tags = {key: value for key, value in sorted(fact.tags.items()) if value}
    return Series(labels, tags, ((quarter, height),))


def joined(one: Series, other: Series) -> Series:
    """Return what two states know together: commutative, associative and idempotent."""
    labels = _smallest(one.labels, other.labels)
    tags = _smallest(one.tags, other.tags)
    return Series(
        {name: labels[name] for name in LABELS if name in labels},
        {key: tags[key] for key in sorted(tags)[:_MAX_TAGS]},
        one.steps if one.steps == other.steps else _rising([*one.steps, *other.steps]),
        joined_people(one.person, other.person),
    )


def increments(series: Series) -> dict[int, int]:
    """Return what each quarter adds, in billionths; the sum is the highest value of the series."""
    added: dict[int, int] = {}
    before = 0
    for quarter, height in series.steps:
        added[quarter] = height - before
        before = height
    return added


def nano_of(amount: str) -> int:
    """Return a decimal text of at most nine places in billionths."""
    return int(Decimal(amount) * _NANO)


def amount_of(nano: int) -> str:
    """Return billionths as a decimal text, without an exponent or needless zeros."""
    whole, rest = divmod(nano, _NANO)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)


def encode_series(series: Series) -> bytes:
    """Return the text in which the index keeps a state."""
    steps = [(quarter, amount_of(height)) for quarter, height in series.steps]
    return _encoder.encode(_Kept(series.labels, series.tags, steps, series.person))


def decode_series(raw: bytes) -> Series:
    """Read a state back."""
    kept = _decoder.decode(raw)
    steps = tuple((q, nano_of(amount)) for q, amount in kept.steps)
    return Series(kept.labels, kept.tags, steps, kept.person)


def require_bounded(series: Series) -> None:
    """Raise `InvalidEvent` for a state that must not be kept."""
    if len(series.steps) > MAX_STEPS:
        raise InvalidEvent("the series rose in too many quarters of an hour", code="series_too_long")


class _Kept(msgspec.Struct, array_like=True):
    labels: dict[str, str]
    tags: dict[str, str]
    # As text: billionths may exceed what JSON parsers take for a whole number.
    steps: list[tuple[int, str]]
    person: Person = {}


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Kept)


def _rising(points: Iterable[Step]) -> tuple[Step, ...]:
    """Return the staircase over the points: all that the running maximum depends on."""
    steps: list[Step] = []
    height = 0
    for quarter, value in sorted(points, key=lambda p: (p[0], -p[1])):
        if value > height:
            steps.append((quarter, value))
            height = value
    return tuple(steps)


def _smallest(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Join texts: a known one beats none, the smaller of two different ones the other."""
    return {**one, **{k: min(v, one[k]) if k in one else v for k, v in other.items()}}
