"""The ids of a stream's events, as its caller gets them and gives them back."""

from __future__ import annotations

from tokentide_query_api.accounts.safe import Safe


class EventIds:
    """Seals places of the topic for one organisation.

    The topic is everybody's: in clear, its offsets and times would tell what other organisations do. Sealed
    anew each time, two ids do not even tell whether they name the same place.
    """

    def __init__(self, safe: Safe, org_id: str) -> None:
        self._safe = safe
        self._org_id = org_id

    def sealed(self, event_id: str) -> str:
        """Return the id that is told; empty where there is none."""
        return self._safe.seal("live places", self._org_id, event_id).decode() if event_id else ""

    def opened(self, told: str) -> str:
        """Return the id that was sealed; empty for one that was told to nobody of this organisation."""
        return self._safe.open("live places", self._org_id, told.encode()) or ""
