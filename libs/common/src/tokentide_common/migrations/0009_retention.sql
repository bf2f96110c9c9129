-- For how many days rows were kept, since when: one row for each change of a setting. What was deleted under an
-- earlier one stays deleted, so the whole history tells from which day on a table is whole.
CREATE TABLE IF NOT EXISTS retention (
  applied_at  DateTime64(3, 'UTC'),
  kind        LowCardinality(String),
  days        String
) ENGINE = MergeTree
ORDER BY (kind, applied_at)
SETTINGS non_replicated_deduplication_window = 10000;
