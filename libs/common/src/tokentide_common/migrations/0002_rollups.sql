-- Rollups: each an incremental materialized view of the ledger that sums sign * measure,
-- so that at every moment a rollup equals the sum over the merged calls. A row with `same_as` is a call that is
-- counted under another id: no view may sum it.
-- Always read with sum(...) GROUP BY: a SummingMergeTree may hold several rows for one key.
-- Minimum, maximum and distinct states cannot be taken back by a -1 row and are not here.
-- Latency is a histogram with logarithmic buckets (bucket k holds (1.02^(k-1), 1.02^k] ms, so a quantile
-- is right within 1 %): counts can be taken back, which quantile sketches of the engine cannot.

-- 15 minutes is the finest step that every IANA zone's days and hours are made of (+05:45 included).
CREATE TABLE IF NOT EXISTS usage_15m (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  user_id LowCardinality(String),
  machine_id LowCardinality(String),
  project LowCardinality(String),
  client LowCardinality(String),
  provider LowCardinality(String),
  model LowCardinality(String),
  key_id LowCardinality(String),
  team LowCardinality(String),
  department LowCardinality(String),
  token_source LowCardinality(String),
  agent LowCardinality(String),
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
ORDER BY (org_id, bucket, user_id, machine_id, project, client, provider, model, key_id, team, department, token_source, agent)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_15m_mv TO usage_15m AS
SELECT
  l.org_id AS org_id,
  toStartOfFifteenMinutes(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  l.user_id AS user_id,
  l.machine_id AS machine_id,
  l.project AS project,
  l.client AS client,
  l.provider AS provider,
  l.model AS model,
  l.key_id AS key_id,
  l.team AS team,
  l.department AS department,
  l.token_source AS token_source,
  l.agent AS agent,
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
GROUP BY org_id, bucket, user_id, machine_id, project, client, provider, model, key_id, team, department, token_source, agent;

-- Per minute, for rate analysis: requests and tokens per minute by user and model.
CREATE TABLE IF NOT EXISTS usage_minute (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  user_id LowCardinality(String),
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
ORDER BY (org_id, bucket, user_id, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_minute_mv TO usage_minute AS
SELECT
  l.org_id AS org_id,
  toStartOfMinute(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  l.user_id AS user_id,
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
GROUP BY org_id, bucket, user_id, model;

-- Per session and UTC day; `seen_by` names the sources that saw a call, e.g. 'cli+otlp'.
CREATE TABLE IF NOT EXISTS usage_session (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  session_id String CODEC(ZSTD(1)),
  user_id LowCardinality(String),
  machine_id LowCardinality(String),
  project LowCardinality(String),
  client LowCardinality(String),
  model LowCardinality(String),
  seen_by LowCardinality(String),
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
ORDER BY (org_id, day, session_id, user_id, machine_id, project, client, model, seen_by)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_session_mv TO usage_session AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.session_id AS session_id,
  l.user_id AS user_id,
  l.machine_id AS machine_id,
  l.project AS project,
  l.client AS client,
  l.model AS model,
  arrayStringConcat(l.sources, '+') AS seen_by,
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
GROUP BY org_id, day, session_id, user_id, machine_id, project, client, model, seen_by;

-- Per UTC day, for rankings and long periods: whole days come from here, a period's edges from usage_15m.
CREATE TABLE IF NOT EXISTS usage_day (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  user_id LowCardinality(String),
  project LowCardinality(String),
  machine_id LowCardinality(String),
  team LowCardinality(String),
  department LowCardinality(String),
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
ORDER BY (org_id, day, user_id, project, machine_id, team, department, client, provider, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_mv TO usage_day AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.user_id AS user_id,
  l.project AS project,
  l.machine_id AS machine_id,
  l.team AS team,
  l.department AS department,
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
GROUP BY org_id, day, user_id, project, machine_id, team, department, client, provider, model;

-- Per UTC day and few dimensions: what organisation-wide rankings and breakdowns are read from.
-- A day of `usage_day` has a row for every combination of person, project, machine and model; a day of these has
-- a row for each person, or machine, or project and model. Rankings read 3 to 300 times fewer rows.

CREATE TABLE IF NOT EXISTS usage_day_user (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  user_id LowCardinality(String),
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
ORDER BY (org_id, day, user_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_user_mv TO usage_day_user AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.user_id AS user_id,
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
GROUP BY org_id, day, user_id;

CREATE TABLE IF NOT EXISTS usage_day_machine (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  machine_id LowCardinality(String),
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
ORDER BY (org_id, day, machine_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_machine_mv TO usage_day_machine AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.machine_id AS machine_id,
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
GROUP BY org_id, day, machine_id;

CREATE TABLE IF NOT EXISTS usage_day_project (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  project LowCardinality(String),
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
  unpriced_calls      Int64 CODEC(T64, ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, day, project, client, provider, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_project_mv TO usage_day_project AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.project AS project,
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
  sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, day, project, client, provider, model;

CREATE TABLE IF NOT EXISTS usage_day_team (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  team LowCardinality(String),
  department LowCardinality(String),
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
  unpriced_calls      Int64 CODEC(T64, ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, day, team, department, client, provider, model)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_team_mv TO usage_day_team AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  l.team AS team,
  l.department AS department,
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
  sum(l.sign * toInt64(l.unpriced)) AS unpriced_calls
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, day, team, department, client, provider, model;
