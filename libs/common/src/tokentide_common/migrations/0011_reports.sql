-- What reports ask of a day, in place of two daily rollups that had fewer dimensions. Not by altering their views: a
-- view whose query is modified gives another token to its inserts once the store has started anew, so that a block
-- repeated after that would count twice. The old tables stay, empty of what comes, for whoever starts meanwhile.

-- Under which address, account and key each person worked, and at whose expense.
CREATE TABLE IF NOT EXISTS usage_day_person (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  -- More values than one dictionary holds (8192): plain text takes half the time to read and to group by.
  user_id String CODEC(LZ4),
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
ORDER BY (org_id, day, user_id, account_id, key_id, user_email, cost_center, identity_provider, team, department)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_person_mv TO usage_day_person AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.user_id AS user_id,
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
GROUP BY org_id, day, user_id, account_id, key_id, user_email, cost_center, identity_provider, team, department;

-- What else a price depends on: the tier, and the greatest of the sizes at which prices of the list have steps that
-- the prompt is larger than. A price that has a step elsewhere is looked up in the ledger.
CREATE TABLE IF NOT EXISTS usage_day_price (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  team LowCardinality(String),
  department LowCardinality(String),
  client LowCardinality(String),
  provider LowCardinality(String),
  model LowCardinality(String),
  service_tier LowCardinality(String),
  speed LowCardinality(String),
  inference_geo LowCardinality(String),
  prompt_over UInt32,
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
ORDER BY (org_id, day, team, department, client, provider, model, service_tier, speed, inference_geo, prompt_over)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_price_mv TO usage_day_price AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.team AS team,
  l.department AS department,
  l.client AS client,
  l.provider AS provider,
  l.model AS model,
  l.service_tier AS service_tier,
  l.speed AS speed,
  l.inference_geo AS inference_geo,
  toUInt32(roundDown(greatest(l.input_tokens + l.cache_read_tokens + l.cache_write_5m_tokens + l.cache_write_1h_tokens - 1, 0), [toInt64(0),
    32000, 100000, 128000, 199999, 200000, 256000, 272000, 512000, 524288])) AS prompt_over,
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
GROUP BY org_id, day, team, department, client, provider, model, service_tier, speed, inference_geo, prompt_over;

-- Minutes without users: the busiest of an organisation. A block of calls adds a few rows to it.
CREATE TABLE IF NOT EXISTS usage_minute_model (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
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
  unpriced_calls      Int64 CODEC(T64, ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_minute_model_mv TO usage_minute_model AS
SELECT
  l.org_id AS org_id,
  toStartOfMinute(toDateTime(l.occurred_at, 'UTC')) AS bucket,
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
  sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, bucket, model;

-- What was counted before: as the old rollups have it, taken back without and put in with the new columns as far as the
-- ledger holds it. The sums stay whatever it holds. Exact if nobody inserts meanwhile: see 0010.
INSERT INTO usage_day_person (org_id, day, user_id, account_id, key_id, user_email, cost_center, identity_provider, team, department, calls,
    errors, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, web_search_requests,
    cost_nano, reported_cost_nano, unpriced_calls)
SELECT z.org_id AS org_id, z.day AS day, z.user_id AS user_id, z.account_id AS account_id, z.key_id AS key_id, z.user_email AS user_email,
    z.cost_center AS cost_center, z.identity_provider AS identity_provider, z.team AS team, z.department AS department,
  sum(z.calls) AS calls, sum(z.errors) AS errors, sum(z.input_tokens) AS input_tokens, sum(z.cache_read_tokens) AS cache_read_tokens,
    sum(z.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(z.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(z.output_tokens) AS output_tokens, sum(z.reasoning_tokens) AS reasoning_tokens, sum(z.web_search_requests) AS web_search_requests,
    sum(z.cost_nano) AS cost_nano, sum(z.reported_cost_nano) AS reported_cost_nano, sum(z.unpriced_calls) AS unpriced_calls
FROM (
  SELECT l.org_id AS org_id, toDate(l.occurred_at, 'UTC') AS day, l.user_id AS user_id, l.account_id AS account_id, l.key_id AS key_id,
    l.user_email AS user_email, l.cost_center AS cost_center, l.identity_provider AS identity_provider, l.team AS team, l.department AS department,
    sum(toInt64(l.sign)) AS calls, sum(l.sign * toInt64(l.status != 'ok')) AS errors, sum(l.sign * l.input_tokens) AS input_tokens,
    sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(l.sign * l.output_tokens) AS output_tokens,
    sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, sum(l.sign * l.web_search_requests) AS web_search_requests,
    sum(l.sign * l.cost_nano) AS cost_nano, sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT l.org_id AS org_id, toDate(l.occurred_at, 'UTC') AS day, l.user_id AS user_id, '' AS account_id, '' AS key_id, '' AS user_email,
    '' AS cost_center, '' AS identity_provider, '' AS team, '' AS department,
    -sum(toInt64(l.sign)) AS calls, -sum(l.sign * toInt64(l.status != 'ok')) AS errors, -sum(l.sign * l.input_tokens) AS input_tokens,
    -sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, -sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    -sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, -sum(l.sign * l.output_tokens) AS output_tokens,
    -sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, -sum(l.sign * l.web_search_requests) AS web_search_requests,
    -sum(l.sign * l.cost_nano) AS cost_nano, -sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    -sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT u.org_id AS org_id, u.day AS day, u.user_id AS user_id, '' AS account_id, '' AS key_id, '' AS user_email,
    '' AS cost_center, '' AS identity_provider, '' AS team, '' AS department,
    sum(u.calls) AS calls, sum(u.errors) AS errors, sum(u.input_tokens) AS input_tokens,
    sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(u.output_tokens) AS output_tokens, sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.web_search_requests) AS web_search_requests,
    sum(u.cost_nano) AS cost_nano, sum(u.reported_cost_nano) AS reported_cost_nano, sum(u.unpriced_calls) AS unpriced_calls
  FROM usage_day_user AS u GROUP BY ALL
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0011_reports.sql') = 0
GROUP BY ALL ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0011', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

INSERT INTO usage_day_price (org_id, day, team, department, client, provider, model, service_tier, speed, inference_geo, prompt_over, calls,
    errors, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, web_search_requests,
    cost_nano, reported_cost_nano, unpriced_calls)
SELECT z.org_id AS org_id, z.day AS day, z.team AS team, z.department AS department, z.client AS client, z.provider AS provider,
    z.model AS model, z.service_tier AS service_tier, z.speed AS speed, z.inference_geo AS inference_geo, z.prompt_over AS prompt_over,
  sum(z.calls) AS calls, sum(z.errors) AS errors, sum(z.input_tokens) AS input_tokens, sum(z.cache_read_tokens) AS cache_read_tokens,
    sum(z.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(z.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(z.output_tokens) AS output_tokens, sum(z.reasoning_tokens) AS reasoning_tokens, sum(z.web_search_requests) AS web_search_requests,
    sum(z.cost_nano) AS cost_nano, sum(z.reported_cost_nano) AS reported_cost_nano, sum(z.unpriced_calls) AS unpriced_calls
FROM (
  SELECT l.org_id AS org_id, toDate(l.occurred_at, 'UTC') AS day, l.team AS team, l.department AS department, l.client AS client,
    l.provider AS provider, l.model AS model, l.service_tier AS service_tier, l.speed AS speed, l.inference_geo AS inference_geo,
    toUInt32(roundDown(greatest(l.input_tokens + l.cache_read_tokens + l.cache_write_5m_tokens + l.cache_write_1h_tokens - 1, 0), [toInt64(0),
    32000, 100000, 128000, 199999, 200000, 256000, 272000, 512000, 524288])) AS prompt_over,
    sum(toInt64(l.sign)) AS calls, sum(l.sign * toInt64(l.status != 'ok')) AS errors, sum(l.sign * l.input_tokens) AS input_tokens,
    sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(l.sign * l.output_tokens) AS output_tokens,
    sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, sum(l.sign * l.web_search_requests) AS web_search_requests,
    sum(l.sign * l.cost_nano) AS cost_nano, sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT l.org_id AS org_id, toDate(l.occurred_at, 'UTC') AS day, l.team AS team, l.department AS department, l.client AS client,
    l.provider AS provider, l.model AS model, '' AS service_tier, '' AS speed, '' AS inference_geo, toUInt32(0) AS prompt_over,
    -sum(toInt64(l.sign)) AS calls, -sum(l.sign * toInt64(l.status != 'ok')) AS errors, -sum(l.sign * l.input_tokens) AS input_tokens,
    -sum(l.sign * l.cache_read_tokens) AS cache_read_tokens, -sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
    -sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens, -sum(l.sign * l.output_tokens) AS output_tokens,
    -sum(l.sign * l.reasoning_tokens) AS reasoning_tokens, -sum(l.sign * l.web_search_requests) AS web_search_requests,
    -sum(l.sign * l.cost_nano) AS cost_nano, -sum(l.sign * l.reported_cost_nano) AS reported_cost_nano,
    -sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
  FROM ledger AS l WHERE l.same_as = '' GROUP BY ALL
  UNION ALL
  SELECT u.org_id AS org_id, u.day AS day, u.team AS team, u.department AS department, u.client AS client, u.provider AS provider,
    u.model AS model, '' AS service_tier, '' AS speed, '' AS inference_geo, toUInt32(0) AS prompt_over,
    sum(u.calls) AS calls, sum(u.errors) AS errors, sum(u.input_tokens) AS input_tokens,
    sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(u.output_tokens) AS output_tokens, sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.web_search_requests) AS web_search_requests,
    sum(u.cost_nano) AS cost_nano, sum(u.reported_cost_nano) AS reported_cost_nano, sum(u.unpriced_calls) AS unpriced_calls
  FROM usage_day_team AS u GROUP BY ALL
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0011_reports.sql') = 0
GROUP BY ALL ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0011', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

-- From the minutes that had users: calls may be deleted by now.
INSERT INTO usage_minute_model (org_id, bucket, model, calls, errors, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    output_tokens, reasoning_tokens, web_search_requests, cost_nano, reported_cost_nano, unpriced_calls)
SELECT u.org_id AS org_id, u.bucket AS bucket, u.model AS model, sum(u.calls) AS calls, sum(u.errors) AS errors, sum(u.input_tokens) AS input_tokens,
    sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_5m_tokens) AS cache_write_5m_tokens, sum(u.cache_write_1h_tokens) AS cache_write_1h_tokens, sum(u.output_tokens) AS output_tokens,
    sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.web_search_requests) AS web_search_requests, sum(u.cost_nano) AS cost_nano, sum(u.reported_cost_nano) AS reported_cost_nano, sum(u.unpriced_calls) AS unpriced_calls
FROM usage_minute AS u
WHERE (SELECT count() FROM schema_migrations WHERE name = '0011_reports.sql') = 0
GROUP BY ALL ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0011', max_threads = 1, max_block_size = 100000000,
    max_insert_threads = 1, min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

DROP VIEW IF EXISTS usage_day_user_mv;
DROP VIEW IF EXISTS usage_day_team_mv;
