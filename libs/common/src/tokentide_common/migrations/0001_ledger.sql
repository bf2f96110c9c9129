-- The signed ledger of calls: append-only, the source of every rollup.
-- A new call inserts +1; an upgraded call inserts -1 of the row it had and +1 of the row it has now.
-- Plain MergeTree on purpose: a collapsing engine could remove, between a crash and its replay,
-- the very row that the replay must take back.
-- ORDER BY starts with time inside an organisation: the request log reads newest first without a sort,
-- and `seen` finds a row to take back by (org_id, occurred_at, call_id).
CREATE TABLE IF NOT EXISTS ledger (
  call_id             String CODEC(ZSTD(1)),
  message_id          String CODEC(ZSTD(1)),
  request_id          String CODEC(ZSTD(1)),
  -- Not empty: this call is counted under that id, and in no rollup under its own ('?': nobody saw it yet).
  same_as             String CODEC(ZSTD(1)),
  sources             Array(LowCardinality(String)) CODEC(ZSTD(1)),
  token_source        LowCardinality(String),
  client              LowCardinality(String),
  occurred_at         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  observed_at         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
  org_id              LowCardinality(String),
  user_id             LowCardinality(String),
  user_email          LowCardinality(String),
  account_id          LowCardinality(String),
  device_id           LowCardinality(String),
  machine_id          LowCardinality(String),
  key_id              LowCardinality(String),
  session_id          String CODEC(ZSTD(1)),
  session_started_at  Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
  project             LowCardinality(String),
  git_branch          LowCardinality(String),
  team                LowCardinality(String),
  department          LowCardinality(String),
  cost_center         LowCardinality(String),
  identity_provider   LowCardinality(String),
  agent               LowCardinality(String),
  is_sidechain        Bool,
  prompt_id           String CODEC(ZSTD(1)),
  tags                Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  provider            LowCardinality(String),
  model               LowCardinality(String),
  status              LowCardinality(String) DEFAULT 'ok',
  http_status         UInt16 CODEC(T64, ZSTD(1)),
  error_type          LowCardinality(String),
  stop_reason         LowCardinality(String),
  service_tier        LowCardinality(String),
  speed               LowCardinality(String),
  effort              LowCardinality(String),
  inference_geo       LowCardinality(String),
  query_source        LowCardinality(String),
  duration_ms         Int64 CODEC(T64, ZSTD(1)),
  ttft_ms             Int64 CODEC(T64, ZSTD(1)),
  input_tokens        Int64 CODEC(T64, ZSTD(1)),
  cache_read_tokens   Int64 CODEC(T64, ZSTD(1)),
  cache_write_5m_tokens Int64 CODEC(T64, ZSTD(1)),
  cache_write_1h_tokens Int64 CODEC(T64, ZSTD(1)),
  -- false: the source knew only the total, and 5 minutes is what the price assumes
  cache_split_known   Bool DEFAULT true,
  output_tokens       Int64 CODEC(T64, ZSTD(1)),
  reasoning_tokens    Int64 CODEC(T64, ZSTD(1)),
  web_search_requests Int64 CODEC(T64, ZSTD(1)),
  cost_nano           Int64 CODEC(T64, ZSTD(1)),
  reported_cost_nano  Int64 CODEC(T64, ZSTD(1)),
  unpriced            Bool,
  price_version       LowCardinality(String),
  -- What each source said, as JSON, where more than one spoke; empty: the row itself is what its source said.
  observations        String CODEC(ZSTD(1)),
  -- 1, 2, 3 … per call: which state of the call the row is.
  version             UInt32 CODEC(T64, ZSTD(1)),
  sign                Int8 DEFAULT 1,
  -- Of the row as it was put in, where one plain observation is all that is known; 0: it must be read to be known.
  digest              UInt64 CODEC(NONE),
  INDEX session_filter session_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (org_id, occurred_at, call_id)
-- Small granules in small compressed blocks: a row to take back is a point look-up, which reads a whole granule
-- of each column. Measured at 3.6 million calls: 1,500 rows cost 1.2 s of CPU instead of 1.9, for 4 % more disk.
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024, min_compress_block_size = 8192;

-- The index of counted calls, written after the ledger and its views: what it says is complete.
-- 128 bits over (org_id, call_id): no collision worth naming below 10^15 calls.
CREATE TABLE IF NOT EXISTS seen (
  call_hash   FixedString(16) CODEC(NONE),
  version     UInt32 CODEC(T64, ZSTD(1)),
  occurred_ms Int64 CODEC(ZSTD(1)),
  -- Digests, 8 bytes each and 4 of output tokens, of at most four observations that the call holds, and the time
  -- by which all of them were made: a later repeat of one, or what it was before it had all its output, says
  -- nothing new, and no row of the ledger is read to find that out.
  observed_ms Int64 CODEC(T64, ZSTD(1)),
  digests     String CODEC(NONE)
) ENGINE = ReplacingMergeTree(version)
ORDER BY call_hash
-- Every question is a point look-up in each part. Measured at 10 million calls in 8 parts: 55 microseconds of CPU
-- a call instead of 147 with 512 rows in blocks of 64 KiB, for 1 % more disk and 0.1 microseconds more an insert.
SETTINGS index_granularity = 128, min_compress_block_size = 4096;
