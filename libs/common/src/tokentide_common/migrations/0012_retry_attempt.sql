-- How often the client had tried before, of calls counted from now on; no rollup sums it.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS retry_attempt UInt16 CODEC(T64, ZSTD(1)) AFTER ttft_ms;
