-- Ledgers made before 0001 had it: what is in them already has no digest, and is read when it is asked for.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS digest UInt64 CODEC(NONE) AFTER sign;
