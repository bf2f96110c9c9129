"""Whose a series is where its own facts name nobody: the person of its session, as for calls. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from tokentide_aggregator.activity_series import LABELS, QUARTER_S, Series
from tokentide_aggregator.concluded_people import NAMES, PLACES, as_event, joined_people, person_in
from tokentide_aggregator.fold import Key
from tokentide_aggregator.session_facts import SessionFact, Unnamed, person_of
from tokentide_common.activity import ActivityFact
from tokentide_common.merge import TELEMETRY


def names_its_person(series: Series) -> bool:
    """Tell whether telemetry itself says whose the series is: then nothing that was concluded counts."""
    return bool(series.labels.get("user_email")) and series.labels.get("source") in TELEMETRY


def described(series: Series) -> dict[str, str]:
    """Return the labels under which a series counts: its own, with the person who was concluded for it."""
    if not series.person.get("user_email") or names_its_person(series):
        return series.labels
    said = {name: series.person[name] for name in (*NAMES, *PLACES) if name in series.person}
    if series.labels.get("source") in TELEMETRY:
        # Its own word of a team goes before the session's, and that before what a log's key stands for.
        said |= {name: series.labels[name] for name in PLACES if name in series.labels}
    labels = series.labels | said
    return {name: labels[name] for name in LABELS if name in labels}


def conclusion(key: Key, series: Series, facts: Iterable[SessionFact]) -> ActivityFact | None:
    """Return the fact that gives a series the person of its session; None where it would add nothing."""
    org_id, series_id = key
    if names_its_person(series) or not series.steps:
        return None
    at = datetime.fromtimestamp(series.steps[0][0] * QUARTER_S, UTC)
    event = person_of(Unnamed(series_id, at, as_event(series.person) if series.person else None), facts)
    if event is None or joined_people(series.person, person := person_in(event)) == series.person:
        return None
    said = {"series_id": series_id, "metric": series.labels["metric"], "at": at, "org_id": org_id, **person}
    return msgspec.convert({**said, "value": "0", "source": "link"}, ActivityFact)
