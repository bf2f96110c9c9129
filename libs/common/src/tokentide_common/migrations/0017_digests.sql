-- How many users, machines and projects there are: a digest of 64 bits each, 0 where there is nobody. Texts take four times as
-- long to read and to tell apart, and a table for each of them to plan. `what`: 0 a user, 1 a machine, 2 a project.
CREATE TABLE IF NOT EXISTS usage_day_digest (
  org_id LowCardinality(String),
  what UInt8,
  day Date CODEC(Delta, ZSTD(1)),
  digest UInt64 CODEC(NONE),
  calls Int64 CODEC(T64, LZ4)
) ENGINE = SummingMergeTree
ORDER BY (org_id, what, day, digest)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_day_digest_mv TO usage_day_digest AS
SELECT
  l.org_id AS org_id,
  what,
  toDate(l.occurred_at, 'UTC') AS day,
  digest,
  sum(toInt64(l.sign)) AS calls
FROM ledger AS l
ARRAY JOIN
  [toUInt8(0), 1, 2] AS what,
  [if(l.user_id = '', 0, xxh3(l.user_id)), if(l.machine_id = '', 0, xxh3(l.machine_id)), if(l.project = '', 0, xxh3(l.project))] AS digest
WHERE l.same_as = ''
GROUP BY org_id, what, day, digest;

-- The same by the hour, for both ends of a period.
CREATE TABLE IF NOT EXISTS usage_hour_digest (
  org_id LowCardinality(String),
  what UInt8,
  bucket DateTime('UTC') CODEC(Delta, ZSTD(1)),
  digest UInt64 CODEC(NONE),
  calls Int64 CODEC(T64, LZ4)
) ENGINE = SummingMergeTree
ORDER BY (org_id, what, bucket, digest)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_hour_digest_mv TO usage_hour_digest AS
SELECT
  l.org_id AS org_id,
  what,
  toStartOfHour(toDateTime(l.occurred_at, 'UTC')) AS bucket,
  digest,
  sum(toInt64(l.sign)) AS calls
FROM ledger AS l
ARRAY JOIN
  [toUInt8(0), 1, 2] AS what,
  [if(l.user_id = '', 0, xxh3(l.user_id)), if(l.machine_id = '', 0, xxh3(l.machine_id)), if(l.project = '', 0, xxh3(l.project))] AS digest
WHERE l.same_as = ''
GROUP BY org_id, what, bucket, digest;

-- What was counted before, from rollups that had it. Exact if nobody inserts meanwhile: see 0010.
INSERT INTO usage_day_digest (org_id, what, day, digest, calls)
SELECT z.org_id, z.told.1, z.day, z.told.2, sum(z.calls)
FROM (
  SELECT u.org_id AS org_id, u.day AS day, u.calls AS calls,
    arrayJoin([(toUInt8(0), if(u.user_id = '', 0, xxh3(u.user_id))), (1, if(u.machine_id = '', 0, xxh3(u.machine_id))),
      (2, if(u.project = '', 0, xxh3(u.project)))]) AS told
  FROM usage_day AS u
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0017_digests.sql') = 0
GROUP BY z.org_id, z.told.1, z.day, z.told.2
HAVING sum(z.calls) != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0017', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

INSERT INTO usage_hour_digest (org_id, what, bucket, digest, calls)
SELECT z.org_id, z.told.1, z.hour, z.told.2, sum(z.calls)
FROM (
  SELECT u.org_id AS org_id, toStartOfHour(u.bucket) AS hour, u.calls AS calls,
    arrayJoin([(toUInt8(0), if(u.user_id = '', 0, xxh3(u.user_id))), (1, if(u.machine_id = '', 0, xxh3(u.machine_id))),
      (2, if(u.project = '', 0, xxh3(u.project)))]) AS told
  FROM usage_15m AS u
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0017_digests.sql') = 0
GROUP BY z.org_id, z.told.1, z.hour, z.told.2
HAVING sum(z.calls) != 0
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0017', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0
