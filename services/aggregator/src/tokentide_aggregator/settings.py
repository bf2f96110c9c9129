"""The aggregator's settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.retention import KeptActivity, KeptCalls, KeptMinutes
from tokentide_common.settings import ConsumerSettings


class AggregatorSettings(ConsumerSettings, frozen=True, kw_only=True):
    """What the aggregator may be told; the defaults suit one machine and a cluster."""

    consumer_group: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="Consumer group of the aggregators that share the work; those for activity "
            "and limits have `-activity` and `-limits` at their end.",
        ),
    ] = "tokentide-aggregator"
    session_timeout_ms: Annotated[
        int,
        msgspec.Meta(ge=1000, le=300_000, description="How long a silent aggregator keeps its partitions."),
    ] = 10_000
    batch_max_records: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=500_000,
            description="Most records of one block. Larger blocks cost less per call, and 5 kB of memory a "
            "record.",
        ),
    ] = 10_000
    batch_linger_ms: Annotated[
        int,
        msgspec.Meta(
            ge=0, le=60_000, description="How long a block waits for more records: freshness against cost."
        ),
    ] = 100
    store_timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, description="How long one call of the store may take before it is tried again."),
    ] = 30.0
    recent_rows_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=0, description="Memory for the rows written last, over all partitions: saves look-ups."
        ),
    ] = 16 << 20
    price_overrides: Annotated[
        str, msgspec.Meta(description="A dated price file on top of the shipped one; empty: none.")
    ] = ""
    retention_calls: KeptCalls = ()
    retention_minutes: KeptMinutes = ()
    retention_activity: KeptActivity = ()
    dead_letter_max_ratio: Annotated[
        float,
        msgspec.Meta(ge=0, le=1, description="Share of unreadable records at which a partition stops."),
    ] = 0.5
    dead_letter_window: Annotated[
        int, msgspec.Meta(ge=1, description="Records over which that share is taken, at least.")
    ] = 1000
    failpoint: Annotated[
        str,
        msgspec.Meta(description="For fault tests: `<point>:<kill|stop>[@n]` at a named point of a batch."),
    ] = ""
