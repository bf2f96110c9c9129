"""What telemetry amounts to: usage events, activity facts, and what could not be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent

_MAX_REASONS: Final = 10


class Mapped(msgspec.Struct):
    """The outcome of a request, without the organisation and the key: the receiver stamps them."""

    events: list[UsageEvent] = []
    facts: list[ActivityFact] = []
    rejected: int = 0
    """Records, points or spans that meant something and said it wrongly. What means nothing is no fault."""
    reasons: list[str] = []
    """Why, each once and at most ten; names a field, never quotes a value."""
    told_by: list[int] = []
    """For each fact which of the records tells it, by any number: of one record several facts can come."""

    def take(self, facts: Sequence[ActivityFact]) -> None:
        """Take in what one record tells."""
        self.told_by.extend([len(self.facts)] * len(facts))
        self.facts.extend(facts)

    def reject(self, reason: str) -> None:
        """Count one more that is refused, and keep why."""
        self.rejected += 1
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)
