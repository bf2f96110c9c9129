-- Hours of people, with what `usage_day_person` has of their days and with their models: no day of most zones is one of UTC, and a period
-- that begins at midnight there read both its ends from quarters of an hour of all projects and machines, or call by call.
CREATE TABLE IF NOT EXISTS usage_hour_person (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  -- Plain text, as in 0011.
  user_id String CODEC(LZ4),
  model LowCardinality(String),
  account_id LowCardinality(String),
  key_id LowCardinality(String),
  user_email LowCardinality(String),
  cost_center LowCardinality(String),
  identity_provider LowCardinality(String),
  team LowCardinality(String),
  department LowCardinality(String),
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
  unpriced_calls      Int64 CODEC(T64, ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, user_id, model, account_id, key_id, user_email, cost_center, identity_provider, team, department)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_hour_person_mv TO usage_hour_person AS
SELECT
  l.org_id AS org_id,
  toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  l.user_id AS user_id,
  l.model AS model,
  l.account_id AS account_id,
  l.key_id AS key_id,
  l.user_email AS user_email,
  l.cost_center AS cost_center,
  l.identity_provider AS identity_provider,
  l.team AS team,
  l.department AS department,
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
  sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, bucket, user_id, model, account_id, key_id, user_email, cost_center, identity_provider, team, department;

-- What was counted before: as quarters of an hour have it, taken back without and put in with the other columns as far as the ledger
-- holds it. The sums of each hour stay whatever it holds. Exact if nobody inserts meanwhile: see 0010.
INSERT INTO usage_hour_person (org_id, bucket, user_id, model, account_id, key_id, user_email, cost_center, identity_provider, team, department, calls, errors, input_tokens,
    cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, web_search_requests, cost_nano,
    reported_cost_nano, unpriced_calls)
SELECT z.org_id AS org_id, z.bucket AS bucket, z.user_id AS user_id, z.model AS model, z.account_id AS account_id, z.key_id AS key_id, z.user_email AS user_email,
    z.cost_center AS cost_center, z.identity_provider AS identity_provider, z.team AS team, z.department AS department,
  sum(z.calls) AS calls, sum(z.errors) AS errors, sum(z.input_tokens) AS input_tokens, sum(z.cache_read_tokens) AS cache_read_tokens,
  sum(z.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(z.cache_write_1h_tokens) AS cache_write_1h_tokens,
  sum(z.output_tokens) AS output_tokens, sum(z.reasoning_tokens) AS reasoning_tokens, sum(z.web_search_requests) AS web_search_requests,
  sum(z.cost_nano) AS cost_nano, sum(z.reported_cost_nano) AS reported_cost_nano, sum(z.unpriced_calls) AS unpriced_calls
FROM (
  SELECT l.org_id AS org_id, toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
    toString(l.user_id) AS user_id, l.model AS model, l.account_id AS account_id, l.key_id AS key_id, l.user_email AS user_email,
    l.cost_center AS cost_center, l.identity_provider AS identity_provider, l.team AS team, l.department AS department,
    sum(toInt64(l.sign)) AS calls, sum(l.sign * toInt64(l.status != 'ok')) AS errors, sum(l.sign * l.input_tokens) AS input_tokens,
    sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(l.sign * l.output_tokens) AS output_tokens,
    sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, sum(l.sign * l.web_search_requests) AS web_search_requests,
    sum(l.sign * l.cost_nano) AS cost_nano, sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT l.org_id AS org_id, toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
    toString(l.user_id) AS user_id, l.model AS model, '' AS account_id, l.key_id AS key_id, '' AS user_email, '' AS cost_center,
    '' AS identity_provider, l.team AS team, l.department AS department,
    -sum(toInt64(l.sign)) AS calls, -sum(l.sign * toInt64(l.status != 'ok')) AS errors, -sum(l.sign * l.input_tokens) AS input_tokens,
    -sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, -sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    -sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, -sum(l.sign * l.output_tokens) AS output_tokens,
    -sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, -sum(l.sign * l.web_search_requests) AS web_search_requests,
    -sum(l.sign * l.cost_nano) AS cost_nano, -sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    -sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT u.org_id AS org_id, toStartOfHour(u.bucket) AS bucket,
    toString(u.user_id) AS user_id, u.model AS model, '' AS account_id, u.key_id AS key_id, '' AS user_email, '' AS cost_center,
    '' AS identity_provider, u.team AS team, u.department AS department,
    sum(u.calls) AS calls, sum(u.errors) AS errors, sum(u.input_tokens) AS input_tokens, sum(u.cache_read_tokens) AS cache_read_tokens,
    sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(u.output_tokens) AS output_tokens, sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.web_search_requests) AS web_search_requests,
    sum(u.cost_nano) AS cost_nano, sum(u.reported_cost_nano) AS reported_cost_nano, sum(u.unpriced_calls) AS unpriced_calls
  FROM usage_15m AS u GROUP BY ALL
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0021_person_hours.sql') = 0
GROUP BY ALL HAVING calls != 0 ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0021', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0
