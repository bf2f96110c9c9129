"""A ranking as a row of the store and as a record on the topic."""

from __future__ import annotations

from datetime import date, datetime
from itertools import islice

import msgspec

from tokentide_common.rankings import Metric, PeriodKind, Scope
from tokentide_ranker.periods import Period
from tokentide_ranker.ranks import Ranking


class Pass(msgspec.Struct, frozen=True):
    """What all rankings written by one pass over an organisation share."""

    org_id: str
    time_zone: str
    computed_at: datetime
    fence: int
    sequence: int

    @property
    def version(self) -> int:
        """The order of writes: first by fence, so that a successor's rows are above whatever comes late."""
        return self.fence << 32 | self.sequence


class StoredRanking(msgspec.Struct, frozen=True):
    """A row of `rankings`, by column."""

    org_id: str
    period: PeriodKind
    period_start: date
    scope: Scope
    metric: Metric
    version: int
    time_zone: str
    computed_at: datetime
    total: int
    entity: list[str] = msgspec.field(name="entries.entity")
    value: list[int] = msgspec.field(name="entries.value")
    rank: list[int] = msgspec.field(name="entries.rank")
    previous_rank: list[int | None] = msgspec.field(name="entries.previous_rank")
    percentile: list[float] = msgspec.field(name="entries.percentile")
    share: list[float] = msgspec.field(name="entries.share")


class RankedEntity(msgspec.Struct, frozen=True):
    """One place of a published ranking."""

    entity: str
    value: int
    """Nano-USD, tokens or calls, by the ranking's metric."""
    rank: int
    previous_rank: int | None
    percentile: float
    share: float


class RankingPublished(msgspec.Struct, frozen=True):
    """A record on `tokentide.rankings`. Of two for the same ranking the higher (fence, sequence) is right."""

    org_id: str
    period: PeriodKind
    period_start: date
    time_zone: str
    scope: Scope
    metric: Metric
    fence: int
    sequence: int
    computed_at: datetime
    total: int
    entity_count: int
    entries: list[RankedEntity]
    """The best ones, at most as many as the setting says."""


def stored(run: Pass, period: Period, scope: Scope, metric: Metric, ranking: Ranking) -> StoredRanking:
    """Return the row of a ranking."""
    return StoredRanking(
        org_id=run.org_id,
        period=period.kind,
        period_start=period.start,
        scope=scope,
        metric=metric,
        version=run.version,
        time_zone=run.time_zone,
        computed_at=run.computed_at,
        total=ranking.total,
        entity=ranking.entities,
        value=ranking.values,
        rank=ranking.ranks,
        previous_rank=ranking.previous_ranks,
        percentile=ranking.percentiles,
        share=ranking.shares,
    )


def published(
    run: Pass, period: Period, scope: Scope, metric: Metric, ranking: Ranking, *, entries: int
) -> RankingPublished:
    """Return what the topic is told of a ranking: its best `entries`."""
    columns = zip(
        ranking.entities,
        ranking.values,
        ranking.ranks,
        ranking.previous_ranks,
        ranking.percentiles,
        ranking.shares,
        strict=True,
    )
    return RankingPublished(
        org_id=run.org_id,
        period=period.kind,
        period_start=period.start,
        time_zone=run.time_zone,
        scope=scope,
        metric=metric,
        fence=run.fence,
        sequence=run.sequence,
        computed_at=run.computed_at,
        total=ranking.total,
        entity_count=len(ranking.entities),
        entries=[RankedEntity(*row) for row in islice(columns, entries)],
    )
