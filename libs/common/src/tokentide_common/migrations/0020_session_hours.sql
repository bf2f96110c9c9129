-- What each session did in each hour, in place of two rollups that knew its calls by the hour and its tokens by the day: its sums, who and
-- what took part, and when its calls were. A page of sessions is told by this alone, and each insert has one view less. As in 0011
-- not by altering a view; the old tables stay as they are, for a query API of the version before while an upgrade lasts.
CREATE TABLE IF NOT EXISTS usage_session_hour (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  -- As the ledger's: 0 is no session.
  session_key UInt64 CODEC(NONE),
  session_id String CODEC(ZSTD(1)),
  user_id String CODEC(LZ4),
  calls               Int64 CODEC(T64, LZ4),
  errors              Int64 CODEC(T64, LZ4),
  input_tokens        Int64 CODEC(T64, LZ4),
  cache_read_tokens   Int64 CODEC(T64, LZ4),
  cache_write_5m_tokens Int64 CODEC(T64, LZ4),
  cache_write_1h_tokens Int64 CODEC(T64, LZ4),
  output_tokens       Int64 CODEC(T64, LZ4),
  reasoning_tokens    Int64 CODEC(T64, LZ4),
  web_search_requests Int64 CODEC(T64, LZ4),
  cost_nano           Int64 CODEC(T64, LZ4),
  reported_cost_nano  Int64 CODEC(T64, LZ4),
  unpriced_calls      Int64 CODEC(T64, LZ4),
  -- By their names the engine sums up what is of the same partakers and of the same moment, and drops what has nothing left. Partakers
  -- are a list of texts as JSON: user, machine, project, client, model, and sources with `+` between them. Of no session there are none.
  `whoMap.who`   Array(String) CODEC(LZ4),
  `whoMap.calls` Array(Int64) CODEC(T64, LZ4),
  -- How far into the hour.
  `momentsMap.into_ms` Array(UInt32) CODEC(T64, LZ4),
  `momentsMap.calls`   Array(Int64) CODEC(T64, LZ4)
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, session_key, session_id, user_id)
-- Small granules in small blocks: of a page's sessions a few rows are looked up, each in another place.
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 256, min_compress_block_size = 8192;

-- Not grouped: the engine sums up each block that it writes.
CREATE MATERIALIZED VIEW IF NOT EXISTS usage_session_hour_mv TO usage_session_hour AS
SELECT
  l.org_id AS org_id,
  toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  if(l.session_id = '', 0, sipHash64(l.session_id)) AS session_key,
  l.session_id AS session_id,
  l.user_id AS user_id,
  toInt64(l.sign) AS calls,
  l.sign * toInt64(l.status != 'ok') AS errors,
  l.sign * l.input_tokens AS input_tokens,
  l.sign * l.cache_read_tokens AS cache_read_tokens,
  l.sign * l.cache_write_5m_tokens AS cache_write_5m_tokens,
  l.sign * l.cache_write_1h_tokens AS cache_write_1h_tokens,
  l.sign * l.output_tokens AS output_tokens,
  l.sign * l.reasoning_tokens AS reasoning_tokens,
  l.sign * l.web_search_requests AS web_search_requests,
  l.sign * l.cost_nano AS cost_nano,
  l.sign * l.reported_cost_nano AS reported_cost_nano,
  l.sign * toInt64(l.unpriced) AS unpriced_calls,
  if(l.session_id = '', [], [toJSONString([l.user_id, l.machine_id, l.project, l.client, l.model, arrayStringConcat(l.sources, '+')])]) AS `whoMap.who`,
  if(l.session_id = '', [], [toInt64(l.sign)]) AS `whoMap.calls`,
  if(l.session_id = '', [], [toUInt32(toUnixTimestamp64Milli(l.occurred_at) % 3600000)]) AS `momentsMap.into_ms`,
  if(l.session_id = '', [], [toInt64(l.sign)]) AS `momentsMap.calls`
FROM ledger AS l WHERE l.same_as = '';

-- What was counted before, as the ledger tells it. Exact if nobody inserts meanwhile: see 0010. Calls that were deleted for their age are
-- told by usage_session alone: their sums, in the first hour of their day. Both readings of the ledger cancel each other out but for
-- the hour of the day.
INSERT INTO usage_session_hour (org_id, bucket, session_key, session_id, user_id, calls, errors, input_tokens, cache_read_tokens,
    cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, web_search_requests, cost_nano, reported_cost_nano,
    unpriced_calls, whoMap.who, whoMap.calls, momentsMap.into_ms, momentsMap.calls)
SELECT z.org_id, z.bucket, if(z.session_id = '', 0, sipHash64(z.session_id)), z.session_id, z.user_id,
  sum(z.calls), sum(z.errors), sum(z.input_tokens), sum(z.cache_read_tokens), sum(z.cache_write_5m_tokens),
  sum(z.cache_write_1h_tokens), sum(z.output_tokens), sum(z.reasoning_tokens), sum(z.web_search_requests), sum(z.cost_nano),
  sum(z.reported_cost_nano), sum(z.unpriced_calls),
  groupArrayIf(z.who, z.who != ''), groupArrayIf(z.calls, z.who != ''), groupArrayArray(z.into_ms), groupArrayArray(z.each)
FROM (
  SELECT l.org_id AS org_id, toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket, l.session_id AS session_id, toString(l.user_id) AS user_id,
    sum(toInt64(l.sign)) AS calls, sum(l.sign * toInt64(l.status != 'ok')) AS errors, sum(l.sign * l.input_tokens) AS input_tokens,
    sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(l.sign * l.output_tokens) AS output_tokens,
    sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, sum(l.sign * l.web_search_requests) AS web_search_requests,
    sum(l.sign * l.cost_nano) AS cost_nano, sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls,
    if(l.session_id = '', '', toJSONString([l.user_id, l.machine_id, l.project, l.client, l.model, arrayStringConcat(l.sources, '+')])) AS who,
    groupArrayIf(toUInt32(toUnixTimestamp64Milli(l.occurred_at) % 3600000), l.session_id != '') AS into_ms,
    groupArrayIf(toInt64(l.sign), l.session_id != '') AS each
  FROM ledger AS l WHERE l.same_as = '' GROUP BY org_id, bucket, session_id, user_id, who
  UNION ALL
  SELECT l.org_id AS org_id, toStartOfDay(toDateTime(l.occurred_at, 'UTC')) AS bucket, l.session_id AS session_id, toString(l.user_id) AS user_id,
    -sum(toInt64(l.sign)) AS calls, -sum(l.sign * toInt64(l.status != 'ok')) AS errors, -sum(l.sign * l.input_tokens) AS input_tokens,
    -sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, -sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    -sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, -sum(l.sign * l.output_tokens) AS output_tokens,
    -sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, -sum(l.sign * l.web_search_requests) AS web_search_requests,
    -sum(l.sign * l.cost_nano) AS cost_nano, -sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    -sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls,
    '' AS who, CAST([], 'Array(UInt32)') AS into_ms, CAST([], 'Array(Int64)') AS each
  FROM ledger AS l WHERE l.same_as = '' GROUP BY org_id, bucket, session_id, user_id
  UNION ALL
  SELECT u.org_id AS org_id, toDateTime(u.day, 'UTC') AS bucket, u.session_id AS session_id, toString(u.user_id) AS user_id,
    sum(u.calls) AS calls, sum(u.errors) AS errors, sum(u.input_tokens) AS input_tokens, sum(u.cache_read_tokens) AS cache_read_tokens,
    sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(u.output_tokens) AS output_tokens, sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.web_search_requests) AS web_search_requests,
    sum(u.cost_nano) AS cost_nano, sum(u.reported_cost_nano) AS reported_cost_nano, sum(u.unpriced_calls) AS unpriced_calls,
    '' AS who, CAST([], 'Array(UInt32)') AS into_ms, CAST([], 'Array(Int64)') AS each
  FROM usage_session AS u GROUP BY org_id, bucket, session_id, user_id
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0020_session_hours.sql') = 0
GROUP BY z.org_id, z.bucket, z.session_id, z.user_id
HAVING sum(z.calls) != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0020', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

DROP VIEW IF EXISTS usage_hour_session_mv;
DROP VIEW IF EXISTS usage_day_session_mv
