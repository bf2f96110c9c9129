-- What was done besides calling a model, as signed increments: sign * value sums to the highest value of each
-- series, in the quarters of an hour in which the series rose. A late point takes from one quarter what it
-- gives to an earlier one. Append-only, the source of both rollups. No row here ever adds to calls.
CREATE TABLE IF NOT EXISTS activity (
  org_id              LowCardinality(String),
  bucket              DateTime('UTC') CODEC(Delta, ZSTD(1)),
  series_id           String CODEC(ZSTD(1)),
  metric              LowCardinality(String),
  source              LowCardinality(String),
  client              LowCardinality(String),
  user_id             LowCardinality(String),
  user_email          LowCardinality(String),
  account_id          LowCardinality(String),
  device_id           LowCardinality(String),
  machine_id          LowCardinality(String),
  key_id              LowCardinality(String),
  session_id          String CODEC(ZSTD(1)),
  project             LowCardinality(String),
  team                LowCardinality(String),
  department          LowCardinality(String),
  cost_center         LowCardinality(String),
  tags                Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  kind                LowCardinality(String),
  model               LowCardinality(String),
  tool                LowCardinality(String),
  decision            LowCardinality(String),
  decided_by          LowCardinality(String),
  language            LowCardinality(String),
  query_source        LowCardinality(String),
  value               Decimal(38, 9) CODEC(ZSTD(1)),
  sign                Int8,
  INDEX session_filter session_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = MergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (org_id, bucket, metric)
SETTINGS non_replicated_deduplication_window = 10000;

-- The index of counted series with the state of each, written after the ledger and its views: what it says is
-- complete. Named like that of calls, since the steps that count exactly once are the same.
CREATE TABLE IF NOT EXISTS activity_seen (
  call_hash   FixedString(16) CODEC(NONE),
  version     UInt32 CODEC(T64, ZSTD(1)),
  state       String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
ORDER BY call_hash
SETTINGS index_granularity = 128, min_compress_block_size = 4096;

CREATE TABLE IF NOT EXISTS activity_15m (
  org_id LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  metric LowCardinality(String),
  user_id LowCardinality(String),
  project LowCardinality(String),
  team LowCardinality(String),
  department LowCardinality(String),
  machine_id LowCardinality(String),
  client LowCardinality(String),
  kind LowCardinality(String),
  model LowCardinality(String),
  tool LowCardinality(String),
  decision LowCardinality(String),
  decided_by LowCardinality(String),
  language LowCardinality(String),
  value Decimal(38, 9) CODEC(ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, metric, user_id, project, team, department, machine_id, client, kind, model, tool, decision, decided_by, language)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS activity_15m_mv TO activity_15m AS
SELECT
  a.org_id AS org_id,
  a.bucket AS bucket,
  a.metric AS metric,
  a.user_id AS user_id,
  a.project AS project,
  a.team AS team,
  a.department AS department,
  a.machine_id AS machine_id,
  a.client AS client,
  a.kind AS kind,
  a.model AS model,
  a.tool AS tool,
  a.decision AS decision,
  a.decided_by AS decided_by,
  a.language AS language,
  sum(a.sign * a.value) AS value
FROM activity AS a
GROUP BY org_id, bucket, metric, user_id, project, team, department, machine_id, client, kind, model, tool, decision, decided_by, language;

-- Per session and UTC day: to hold against calls, and for sessions of which only metrics are known.
CREATE TABLE IF NOT EXISTS activity_session (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  session_id String CODEC(ZSTD(1)),
  metric LowCardinality(String),
  user_id LowCardinality(String),
  machine_id LowCardinality(String),
  project LowCardinality(String),
  client LowCardinality(String),
  kind LowCardinality(String),
  model LowCardinality(String),
  query_source LowCardinality(String),
  value Decimal(38, 9) CODEC(ZSTD(1))
) ENGINE = SummingMergeTree
ORDER BY (org_id, day, session_id, metric, user_id, machine_id, project, client, kind, model, query_source)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS activity_session_mv TO activity_session AS
SELECT
  a.org_id AS org_id,
  toDate(a.bucket, 'UTC') AS day,
  a.session_id AS session_id,
  a.metric AS metric,
  a.user_id AS user_id,
  a.machine_id AS machine_id,
  a.project AS project,
  a.client AS client,
  a.kind AS kind,
  a.model AS model,
  a.query_source AS query_source,
  sum(a.sign * a.value) AS value
FROM activity AS a
GROUP BY org_id, day, session_id, metric, user_id, machine_id, project, client, kind, model, query_source;
