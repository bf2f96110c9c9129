"""Whom conclusions name for a series, joined in the way that calls have. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent
from tokentide_common.merge import join

NAMES: Final = ("user_id", "user_email")
PLACES: Final = ("team", "department", "cost_center")
_PERSON: Final = ("session_id", "account_id", "device_id", *NAMES, *PLACES)
_ANY_TIME: Final = datetime(2020, 1, 1, tzinfo=UTC)
Person = dict[str, str]
"""What is known of a person, and what it was concluded from."""


def person_in(said: ActivityFact | UsageEvent) -> Person:
    """Return what a conclusion says of a person."""
    return {name: value for name in _PERSON if (value := getattr(said, name))}


def as_event(person: Person) -> UsageEvent:
    """Return a person as the conclusion of a call: what the join of calls takes."""
    event = UsageEvent(call_id="-", source="link", occurred_at=_ANY_TIME)
    for name, value in person.items():
        setattr(event, name, value)
    return event


def joined_people(one: Person, other: Person) -> Person:
    """Return whom two conclusions name together."""
    if not (one and other) or one == other:
        return one or other
    return person_in(join(as_event(one), as_event(other)))
