-- What telemetry says of a session besides its calls: who used it, and that some of its calls have no id of the
-- provider. A set of facts: every column is part of the key, so a fact that is written again changes nothing,
-- and what follows from the set does not depend on the order in which it was written.
CREATE TABLE IF NOT EXISTS session_links (
  org_id      LowCardinality(String),
  session_id  String CODEC(ZSTD(1)),
  kind        LowCardinality(String),
  user_email  LowCardinality(String),
  user_id     LowCardinality(String),
  account_id  LowCardinality(String),
  device_id   LowCardinality(String),
  team        LowCardinality(String),
  department  LowCardinality(String),
  cost_center LowCardinality(String)
) ENGINE = ReplacingMergeTree
PRIMARY KEY (org_id, session_id)
ORDER BY (org_id, session_id, kind, user_email, user_id, account_id, device_id, team, department, cost_center)
-- Small granules: it is only ever asked about a handful of sessions.
SETTINGS index_granularity = 512;
