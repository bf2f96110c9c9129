-- Digests of whose a call is and of its session, where single calls are read: whoever looks for 200 sessions of 180 people in the
-- copy by person reads a thousand short stretches of each column, and of texts from a list of values the whole list anew for
-- each. 32 bits are enough to find calls by, and nothing is told apart by them; those of sessions are as in 0010.
-- Rows that are there already have them computed where they are read, until they are merged.
ALTER TABLE ledger ADD COLUMN IF NOT EXISTS user_key UInt32 MATERIALIZED toUInt32(sipHash64(user_id)) CODEC(LZ4) AFTER digest;
ALTER TABLE ledger MODIFY COLUMN session_key UInt64 MATERIALIZED if(session_id = '', 0, sipHash64(session_id)) CODEC(LZ4);

-- In place of 0016's, which has neither. As there, parts that have none yet are read as before.
ALTER TABLE ledger DROP PROJECTION IF EXISTS by_person;

ALTER TABLE ledger ADD PROJECTION IF NOT EXISTS by_user (
  SELECT
    org_id, user_key, key_id, occurred_at, session_key, user_id, session_id, account_id, machine_id, agent, is_sidechain, provider, model,
    status, service_tier, speed, inference_geo, input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    output_tokens, cost_nano, same_as, sign
  ORDER BY org_id, user_key, key_id, occurred_at
) WITH SETTINGS (index_granularity = 512, min_compress_block_size = 8192);

-- In the background, as in 0016. The columns too: to compute them takes longer than to read them.
ALTER TABLE ledger MATERIALIZE COLUMN user_key, MATERIALIZE COLUMN session_key, MATERIALIZE PROJECTION by_user
