-- Users, machines and projects by the month, each with the days on which it has calls, in place of a row for each of its days:
-- most call on most days, so that few digests have to be told apart. As in 0015 not by altering a view. The old table stays as
-- it is: a query API of the version before still asks it while an upgrade lasts, and a later migration empties it.
CREATE TABLE IF NOT EXISTS usage_month_digest (
  org_id LowCardinality(String),
  -- As in 0017.
  what UInt8,
  -- Its first day.
  month Date CODEC(Delta, ZSTD(1)),
  digest UInt64 CODEC(NONE),
  -- By its name the engine sums up what is of the same day, and drops days that have nothing left. A day is its number since 1970.
  `daysMap.day` Array(UInt16) CODEC(T64, LZ4),
  `daysMap.calls` Array(Int64) CODEC(T64, LZ4)
) ENGINE = SummingMergeTree
ORDER BY (org_id, what, month, digest)
SETTINGS non_replicated_deduplication_window = 10000;

-- A row for each day: the engine puts these together in each block that it writes.
CREATE MATERIALIZED VIEW IF NOT EXISTS usage_month_digest_mv TO usage_month_digest AS
SELECT
  l.org_id AS org_id,
  what,
  toStartOfMonth(toDate(l.occurred_at, 'UTC')) AS month,
  digest,
  [toUInt16(toDate(l.occurred_at, 'UTC'))] AS `daysMap.day`,
  [sum(toInt64(l.sign))] AS `daysMap.calls`
FROM ledger AS l
ARRAY JOIN
  [toUInt8(0), 1, 2] AS what,
  [if(l.user_id = '', 0, xxh3(l.user_id)), if(l.machine_id = '', 0, xxh3(l.machine_id)), if(l.project = '', 0, xxh3(l.project))] AS digest
WHERE l.same_as = ''
GROUP BY org_id, what, month, digest, `daysMap.day`;

-- What was counted before, from the rollup that had it. Exact if nobody inserts meanwhile: see 0010. In one chunk, as all of
-- these: the engine knows a repeat by its token only if it has as many chunks, and another starter may find fewer rows.
INSERT INTO usage_month_digest (org_id, what, month, digest, daysMap.day, daysMap.calls)
SELECT z.org_id, z.what, toStartOfMonth(z.day), z.digest, groupArray(toUInt16(z.day)), groupArray(z.calls)
FROM (
  -- No day may be in a list twice.
  SELECT d.org_id AS org_id, d.what AS what, d.day AS day, d.digest AS digest, sum(d.calls) AS calls
  FROM usage_day_digest AS d
  GROUP BY d.org_id, d.what, d.day, d.digest
  HAVING sum(d.calls) != 0
) AS z
WHERE (SELECT count() FROM schema_migrations WHERE name = '0018_month_digests.sql') = 0
GROUP BY z.org_id, z.what, toStartOfMonth(z.day), z.digest
ORDER BY ALL
SETTINGS insert_deduplicate = 1, insert_deduplication_token = '0018', max_threads = 1, max_block_size = 100000000, max_insert_threads = 1,
    min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0;

DROP VIEW IF EXISTS usage_day_digest_mv
