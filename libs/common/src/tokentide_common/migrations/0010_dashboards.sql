-- Two narrow rollups for what dashboards ask most: few rows to read where many calls are.

-- Quarters of an hour without users, machines and projects: time series in zones whose days are not UTC's,
-- both ends of a long period, and totals with their latencies.
CREATE TABLE IF NOT EXISTS usage_15m_model (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  client LowCardinality(String),
  provider LowCardinality(String),
  model LowCardinality(String),
  calls               Int64 CODEC(T64, ZSTD(1)),
  errors              Int64 CODEC(T64, ZSTD(1)),
  input_tokens        Int64 CODEC(T64, ZSTD(1)),
  cache_read_tokens   Int64 CODEC(T64, ZSTD(1)),
  cache_write_5m_tokens Int64 CODEC(T64, ZSTD(1)),
  cache_write_1h_tokens Int64 CODEC(T64, ZSTD(1)),
  output_tokens       Int64 CODEC(T64, ZSTD(1)),
  reasoning_tokens    Int64 CODEC(T64, ZSTD(1)),
  web_search_requests Int64 CODEC(T64, ZSTD(1)),
  cost_nano           Int64 CODEC(T64, ZSTD(1)),
  reported_cost_nano  Int64 CODEC(T64, ZSTD(1)),
  unpriced_calls      Int64 CODEC(T64, ZSTD(1)),
  duration_histogram  SimpleAggregateFunction(sumMap, Map(Int16, Int64)),
  ttft_histogram      SimpleAggregateFunction(sumMap, Map(Int16, Int64))
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, client, provider, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_15m_model_mv TO usage_15m_model AS
SELECT
  l.org_id AS org_id,
  toStartOfFifteenMinutes(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  l.client AS client,
  l.provider AS provider,
  l.model AS model,
  sum(toInt64(l.sign)) AS calls,
  sum(l.sign * toInt64(l.status != 'ok')) AS errors,
  sum(l.sign * l.input_tokens) AS input_tokens,
  sum(l.sign * l.cache_read_tokens) AS cache_read_tokens,
  sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
  sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens,
  sum(l.sign * l.output_tokens) AS output_tokens,
  sum(l.sign * l.reasoning_tokens) AS reasoning_tokens,
  sum(l.sign * l.web_search_requests) AS web_search_requests,
  sum(l.sign * l.cost_nano) AS cost_nano,
  sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
  sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls,
  sumMapIf(map(toInt16(ceil(log(greatest(l.duration_ms, 1)) / log(1.02))), toInt64(l.sign)), l.duration_ms > 0) AS duration_histogram,
  sumMapIf(map(toInt16(ceil(log(greatest(l.ttft_ms, 1)) / log(1.02))), toInt64(l.sign)), l.ttft_ms > 0) AS ttft_histogram
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, bucket, client, provider, model;

-- Which session had live calls in which hour: how many sessions there are, and where in the ledger those of a
-- page are. 64 bits in place of the id (0: no session) take a fraction of the time to tell apart: of ten million
-- sessions of a period two have the same with a chance of one in 370,000, and count as one; nothing else relies on it.
CREATE TABLE IF NOT EXISTS usage_hour_session (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  session_key UInt64 CODEC(NONE),
  calls Int64 CODEC(T64, ZSTD(1)),
  -- The sum of their milliseconds into the hour: of a single call, when it was.
  into_ms Int64 CODEC(T64, ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, session_key)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_hour_session_mv TO usage_hour_session AS
SELECT
  l.org_id AS org_id,
  toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  if(l.session_id = '', 0, sipHash64(l.session_id)) AS session_key,
  sum(toInt64(l.sign)) AS calls,
  sum(l.sign * (toUnixTimestamp64Milli(l.occurred_at) % 3600000)) AS into_ms
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, bucket, session_key;

-- The same digest where calls and days are read.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS session_key UInt64 ALIAS if(session_id = '', 0, sipHash64(session_id));
ALTER TABLE usage_session ADD COLUMN IF NOT EXISTS session_key UInt64 ALIAS if(session_id = '', 0, sipHash64(session_id));

-- More values than one dictionary holds (8192): plain text takes half the time to read and to group by.
ALTER TABLE usage_day_machine MODIFY COLUMN machine_id String CODEC(LZ4);

-- What was counted before. From the rollups that had it, since calls may be deleted by now. Exact if nobody
-- inserts meanwhile who does not know these views: aggregators of an earlier version are stopped before the first
-- one of this version starts. Of those that start together each inserts the same block under the same token, which
-- counts once, and who comes after one of them has recorded this file, before which none counts, finds nothing to do.
INSERT INTO usage_15m_model
SELECT
  u.org_id, u.bucket, u.client, u.provider, u.model,
  sum(u.calls), sum(u.errors), sum(u.input_tokens), sum(u.cache_read_tokens), sum(u.cache_write_5m_tokens),
  sum(u.cache_write_1h_tokens), sum(u.output_tokens), sum(u.reasoning_tokens), sum(u.web_search_requests),
  sum(u.cost_nano), sum(u.reported_cost_nano), sum(u.unpriced_calls),
  sumMap(u.duration_histogram), sumMap(u.ttft_histogram)
FROM usage_15m AS u
WHERE (SELECT count() FROM schema_migrations WHERE name = '0010_dashboards.sql') = 0
GROUP BY u.org_id, u.bucket, u.client, u.provider, u.model
HAVING sum(u.calls) != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0010', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1, min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

-- Calls that were deleted for their age are told by usage_session alone: in the first hour of their day, where
-- every question about whole days finds them, and others find no calls of theirs in the ledger either.
-- Both readings of the ledger cancel each other out but for the hour of the day.
INSERT INTO usage_hour_session
SELECT org_id, bucket, session_key, sum(n) AS calls, sum(ms) AS into_ms
FROM (
  SELECT l.org_id AS org_id, toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket, l.session_key AS session_key, toInt64(l.sign) AS n, l.sign * (toUnixTimestamp64Milli(l.occurred_at) % 3600000) AS ms
  FROM ledger AS l WHERE l.same_as = ''
  UNION ALL
  SELECT l.org_id AS org_id, toStartOfDay(toDateTime(l.occurred_at, 'UTC')) AS bucket, l.session_key AS session_key, -toInt64(l.sign) AS n, toInt64(0) AS ms
  FROM ledger AS l WHERE l.same_as = ''
  UNION ALL
  SELECT u.org_id AS org_id, toDateTime(u.day, 'UTC') AS bucket, u.session_key AS session_key, u.calls AS n, toInt64(0) AS ms
  FROM usage_session AS u
)
WHERE (SELECT count() FROM schema_migrations WHERE name = '0010_dashboards.sql') = 0
GROUP BY org_id, bucket, session_key
HAVING calls != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0010', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1, min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0
