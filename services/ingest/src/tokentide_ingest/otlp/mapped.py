"""What telemetry amounts to: usage events, activity facts, and what could not be one."""

from __future__ import annotations

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

    def reject(self, reason: str) -> None:
        """Count one more that is refused, and keep why."""
        self.rejected += 1
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)
