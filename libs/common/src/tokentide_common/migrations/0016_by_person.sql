-- Single calls of few people: the windows of accounts, and sessions that lose their cache. The ledger is ordered by time, so
-- that calls of twenty people are in nearly all of its granules. A projection is the ledger's own: what is deleted or put in
-- twice is the same in it, and a part that has none yet is read as before.
ALTER TABLE ledger ADD PROJECTION IF NOT EXISTS by_person (
  SELECT
    org_id, user_id, key_id, occurred_at, session_id, account_id, machine_id, agent, is_sidechain, provider, model, status, service_tier, speed,
    inference_geo, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, cost_nano, same_as, sign
  ORDER BY org_id, user_id, key_id, occurred_at
) WITH SETTINGS (index_granularity = 512, min_compress_block_size = 8192);

-- In the background: ten million calls take 20 seconds.
ALTER TABLE ledger MATERIALIZE PROJECTION by_person;

-- Which sessions sent most, and whose they are. Digests as in usage_hour_session.
CREATE TABLE IF NOT EXISTS usage_day_session (
  org_id LowCardinality(String),
  day Date CODEC(Delta, ZSTD(1)),
  session_key UInt64 CODEC(NONE),
  user_id LowCardinality(String),
  calls               Int64 CODEC(T64, LZ4),
  input_tokens        Int64 CODEC(T64, LZ4),
  cache_read_tokens   Int64 CODEC(T64, LZ4),
  cache_write_5m_tokens Int64 CODEC(T64, LZ4),
  cache_write_1h_tokens Int64 CODEC(T64, LZ4)
) ENGINE = SummingMergeTree
ORDER BY (org_id, day, session_key, user_id)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_session_mv TO usage_day_session AS
SELECT
  l.org_id AS org_id,
  toDate(l.occurred_at, 'UTC') AS day,
  if(l.session_id = '', 0, sipHash64(l.session_id)) AS session_key,
  l.user_id AS user_id,
  sum(toInt64(l.sign)) AS calls,
  sum(l.sign * l.input_tokens) AS input_tokens,
  sum(l.sign * l.cache_read_tokens) AS cache_read_tokens,
  sum(l.sign * l.cache_write_5m_tokens) AS cache_write_5m_tokens,
  sum(l.sign * l.cache_write_1h_tokens) AS cache_write_1h_tokens
FROM ledger AS l WHERE l.same_as = ''
GROUP BY org_id, day, session_key, user_id;

-- What was counted before, from the rollup that had it. Exact if nobody inserts meanwhile: see 0010.
INSERT INTO usage_day_session (org_id, day, session_key, user_id, calls, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens)
SELECT u.org_id, u.day, u.session_key, u.user_id,
  sum(u.calls), sum(u.input_tokens), sum(u.cache_read_tokens), sum(u.cache_write_5m_tokens), sum(u.cache_write_1h_tokens)
FROM usage_session AS u
WHERE (SELECT count() FROM schema_migrations WHERE name = '0016_by_person.sql') = 0
GROUP BY u.org_id, u.day, u.session_key, u.user_id
HAVING sum(u.calls) != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0016', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0
