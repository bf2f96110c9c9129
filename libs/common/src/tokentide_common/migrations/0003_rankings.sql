-- Rankings: one row is one whole ranking (organisation, period, scope, metric), so that a newer one replaces
-- an older one in one step and an entity that left a ranking cannot linger in it.
-- `version` is fence << 32 | sequence. The fence of a ranker's lease sits in the high bits: whatever a ranker
-- that lost its lease still writes is below every row of its successor, and is never read.
-- Read with FINAL (see tokentide_common/rankings.py): a merge drops what was replaced, a reader must not wait for it.
-- Small granules: reading one ranking must not decompress the arrays of thousands of its neighbours.
CREATE TABLE IF NOT EXISTS rankings (
  org_id       LowCardinality(String),
  -- day | week (ISO, from Monday) | month | year | all
  period       LowCardinality(String),
  -- First local day of the period in `time_zone`; 1970-01-01 for `all`.
  period_start Date CODEC(Delta, ZSTD(1)),
  -- users | projects | machines | models | teams
  scope        LowCardinality(String),
  -- cost (nano-USD) | tokens | calls
  metric       LowCardinality(String),
  version      UInt64 CODEC(ZSTD(1)),
  time_zone    LowCardinality(String),
  computed_at  DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  -- Sum of the values of all entries.
  total        Int64 CODEC(ZSTD(1)),
  -- Best first; equal values share a rank (1, 2, 2, 4) and are ordered by entity.
  -- percentile: 100 * entries with a smaller value / other entries; 100 when alone. share: value / total, 0..1.
  -- previous_rank: rank in the period before this one; NULL when absent there.
  entries Nested (
    entity        String,
    value         Int64,
    rank          UInt32,
    previous_rank Nullable(UInt32),
    percentile    Float64,
    share         Float64
  )
) ENGINE = ReplacingMergeTree(version)
ORDER BY (org_id, period, period_start, scope, metric)
SETTINGS index_granularity = 16;
