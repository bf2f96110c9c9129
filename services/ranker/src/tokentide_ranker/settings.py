"""What the ranker may be told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import ConsumerSettings


class RankerSettings(ConsumerSettings, frozen=True, kw_only=True):
    """The ranker's own settings, besides the shared ones."""

    rank_linger_ms: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=60_000,
            description="Shortest pause between two passes over changed periods. What is announced "
            "meanwhile is ranked together.",
        ),
    ] = 500
    rank_lease_seconds: Annotated[
        float,
        msgspec.Meta(
            ge=1,
            le=300,
            description="After how long a silent ranker is replaced by one that stands by.",
        ),
    ] = 5.0
    rank_published_entries: Annotated[
        int,
        msgspec.Meta(ge=1, le=100, description="Entries of a ranking, best first, that go on the topic."),
    ] = 100
