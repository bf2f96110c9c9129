-- The latest word on each limit that a provider has told. `latest` begins with when it was observed, so that its
-- maximum is the newest fact whatever the order and the repeats. What was not told again for a month goes.
CREATE TABLE IF NOT EXISTS limits (
  org_id      LowCardinality(String),
  provider    LowCardinality(String),
  account     String CODEC(ZSTD(1)),
  model       LowCardinality(String),
  kind        LowCardinality(String),
  observed_at SimpleAggregateFunction(max, DateTime('UTC')),
  latest      SimpleAggregateFunction(max, String) CODEC(ZSTD(1))
) ENGINE = AggregatingMergeTree
ORDER BY (org_id, provider, account, model, kind)
TTL observed_at + INTERVAL 30 DAY;
