"""How many different tags a door lets through, so that no sender can fill the store with ever new words.

A value beyond the bound is left out of its event or fact, which is counted without it. To merging that is a
source that does not say: it never beats a value that another source, another replica or an earlier process
let through. So each process keeps its own count, and no two have to agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Final, Generic, TypeVar

import msgspec
import structlog

from tokentide_common.metrics import Metrics

DEFAULT_TAG_VALUES: Final = 1000
TagValues = Annotated[
    int,
    msgspec.Meta(
        ge=1,
        le=100_000,
        description="Different values that a tag of an organisation may have within a day, and 64 different "
        "tags; each process counts for itself. Beyond that calls are counted without the tag.",
    ),
]
Tags = dict[str, str]
KeepTags = Callable[[str, Tags], Tags]
"""Returns what is kept of the tags that are said for an organisation."""

T = TypeVar("T")
MAX_NAMES: Final = 64
_DAY_S: Final = 86_400.0
_FRESH_S: Final = 60.0
_MOST_FRESH: Final = 10_000
_log = structlog.get_logger(__name__)


def every_tag(_org_id: str, tags: Tags) -> Tags:
    """Keep all tags: for what is no door."""
    return tags


class _Recent(Generic[T]):
    """What belongs to each of the words that were said within a day, and to no more words than so many."""

    def __init__(self, most: int, make: Callable[[], T]) -> None:
        self._most = most
        self._make = make
        # The longest unheard first.
        self._known: dict[str, tuple[float, T]] = {}

    def of(self, word: str, now: float) -> T | None:
        """Take note of a word and return what belongs to it; None: it is one too many."""
        known = self._known
        _, found = known.pop(word, (0.0, None))
        if found is None:
            if len(known) >= self._most:
                oldest, (said_at, _) = next(iter(known.items()))
                if now - said_at < _DAY_S:
                    return None
                del known[oldest]
            found = self._make()
        known[word] = now, found
        return found


class TagBound:
    """Bounds the tags of every organisation at one door. Safe in several threads."""

    def __init__(
        self, metrics: Metrics, *, source: str, values: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._values = values
        self._clock = clock
        self._organizations: dict[str, _Recent[_Recent[bool]]] = {}
        self._told: dict[str, float] = {}
        # Most events say what the one before said: until when a tag needs no second look.
        self._fresh: dict[tuple[str, str, str], float] = {}
        self._dropped = metrics.counter("tokentide_tag_values_dropped_total", source=source)
        self._lock = threading.Lock()

    def kept(self, org_id: str, tags: Tags) -> Tags:
        """Return the tags that are kept: the very same ones if all are."""
        if not tags:
            return tags
        now = self._clock()
        for name, value in tags.items():
            if self._fresh.get((org_id, name, value), -_FRESH_S) < now:
                break
        else:
            return tags
        with self._lock:
            kept = {name: value for name, value in tags.items() if self._admits(org_id, name, value, now)}
        if len(kept) == len(tags):
            return tags
        self._dropped.inc(len(tags) - len(kept))
        return kept

    def _admits(self, org_id: str, name: str, value: str, now: float) -> bool:
        names = self._organizations.get(org_id)
        if names is None:
            names = self._organizations[org_id] = _Recent(MAX_NAMES, self._values_of_a_tag)
        values = names.of(name, now)
        if values is not None and values.of(value, now):
            if len(self._fresh) >= _MOST_FRESH:
                self._fresh.clear()
            self._fresh[org_id, name, value] = now + _FRESH_S
            return True
        if now - self._told.get(org_id, -_DAY_S) >= _DAY_S:
            self._told[org_id] = now
            # One of its tags: what the others are the metric and a look at the tags will tell.
            _log.warning(
                "tag_values_dropped",
                org_id=org_id,
                tag=name if values is not None else "",
                reason="too_many_values" if values is not None else "too_many_tags",
                most=self._values if values is not None else MAX_NAMES,
            )
        return False

    def _values_of_a_tag(self) -> _Recent[bool]:
        return _Recent(self._values, lambda: True)
