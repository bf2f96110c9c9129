-- Calls that are known by the id of their answer alone, such as those of a span: a set. A call whose source knows
-- the request too finds here whether anybody speaks of the same answer under its own id. By day, so that what is
-- asked about a block of new calls does not depend on how many there are in all.
CREATE TABLE IF NOT EXISTS message_calls (
  org_id      LowCardinality(String),
  day         Date CODEC(Delta, ZSTD(1)),
  call_id     String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree
ORDER BY (org_id, day, call_id)
SETTINGS index_granularity = 512;

-- The other way round: whose answer a span tells of. No measurable cost to an insert.
ALTER TABLE ledger ADD INDEX IF NOT EXISTS message_filter message_id TYPE bloom_filter(0.001) GRANULARITY 4;
