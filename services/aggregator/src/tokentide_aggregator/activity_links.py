"""What follows from blocks of activity: persons whom metrics alone name, persons for facts that name none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tokentide_aggregator.links import Concluded, Links
from tokentide_aggregator.notice import Notice


class _Row(msgspec.Struct):
    org_id: str
    series_id: str
    session_id: str = ""


_row: Final = msgspec.json.Decoder(_Row)


class ActivityLinks:
    """Draws conclusions from the same facts as `Links` does for calls, and shares what is settled of them."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def conclude(self, notice: Notice) -> Concluded:
        """Return what follows from facts of activity that are stored."""
        return await self._links.conclude(notice)

    async def conclude_rows(self, rows: Sequence[bytes]) -> Concluded:
        """Return what follows from stored rows; those of a series stand one a line.

        They name no person: whom they count for may itself be a conclusion.
        """
        notice = Notice()
        for row in map(_row.decode, filter(None, b"\n".join(rows).splitlines())):
            if row.session_id:
                notice.series[row.org_id, row.session_id].add(row.series_id)
        return await self._links.conclude(notice)

    async def repair(self) -> list[Concluded]:
        """Return nothing: what is concluded again for calls is so for activity too."""
        return []

    def settle(self, concluded: Concluded) -> None:
        """Take note that the conclusions are published."""
        self._links.settle(concluded)
