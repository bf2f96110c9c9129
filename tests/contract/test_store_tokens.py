"""The promise under every exact count: a block under its token reaches each table exactly once.

The controls at the end show what happens without the store's insert settings or by another road. They fail
on the day the engine changes: then the settings in `tokentide_common.store` deserve a second look.
"""

import pytest

from infra.ledger import block_of_calls, expected, same_calls_in_other_bytes, totals
from infra.stores import ClickHouseProcess
from tokentide_common.errors import TokentideError
from tokentide_common.migrate import migrate
from tokentide_common.store import Store, connect

SIZES = (1, 2, 300, 5_000, 50_000)
PRODUCTION_SIZE = 500_000


@pytest.mark.parametrize("size", SIZES)
async def test_a_repeated_token_with_the_same_bytes_changes_no_table(any_store: Store, size: int) -> None:
    block = block_of_calls(size)
    for _ in range(3):
        await any_store.insert("ledger", block, token="t")
        assert await totals(any_store) == expected((0, size))


@pytest.mark.parametrize("size", SIZES)
async def test_a_repeated_token_with_other_bytes_changes_no_table(any_store: Store, size: int) -> None:
    block = block_of_calls(size)
    await any_store.insert("ledger", block, token="t")
    await any_store.insert("ledger", same_calls_in_other_bytes(block), token="t")
    await any_store.insert("ledger", block + block, token="t")
    assert await totals(any_store) == expected((0, size))


async def test_the_largest_block_counts_once_whatever_its_bytes(any_store: Store) -> None:
    block = block_of_calls(PRODUCTION_SIZE)
    await any_store.insert("ledger", block, token="t")
    await any_store.insert("ledger", block, token="t")
    await any_store.insert("ledger", same_calls_in_other_bytes(block), token="t")
    assert await totals(any_store) == expected((0, PRODUCTION_SIZE))


async def test_different_tokens_both_count_even_with_the_same_bytes(any_store: Store) -> None:
    block = block_of_calls(300)
    await any_store.insert("ledger", block, token="one")
    await any_store.insert("ledger", block, token="two")
    assert await totals(any_store) == expected((0, 300), (0, 300))


async def test_a_token_is_remembered_past_many_others(any_store: Store) -> None:
    for n in range(60):
        await any_store.insert("ledger", block_of_calls(2, start=2 * n), token=f"t{n}")
    await any_store.insert("ledger", block_of_calls(2), token="t0")
    assert await totals(any_store) == expected((0, 120))


async def test_trap_other_calls_under_a_used_token_are_dropped_without_an_error(any_store: Store) -> None:
    """Why a token must never repeat, and carries the topic's identity."""
    await any_store.insert("ledger", block_of_calls(300), token="t")
    await any_store.insert("ledger", block_of_calls(300, start=300), token="t")
    assert await totals(any_store) == expected((0, 300))


async def test_trap_a_token_is_known_per_month_of_the_ledger(any_store: Store) -> None:
    """Why a replayed block must hold the same calls: a month that it did not touch takes its new rows."""
    september, october = block_of_calls(1, start=0), block_of_calls(1, start=1)
    await any_store.insert("ledger", september, token="t")
    await any_store.insert("ledger", september + october, token="t")
    seen = await totals(any_store)
    assert seen["ledger"] == expected((0, 2))["ledger"]
    assert seen["usage_day"] == expected((0, 1))["usage_day"]


async def test_a_row_and_its_taking_back_in_one_block_sum_to_the_upgrade(any_store: Store) -> None:
    old, new = block_of_calls(1, start=10), block_of_calls(1, start=11)
    await any_store.insert("ledger", old, token="first")
    upgrade = new + old.replace(b'"sign":1', b'"sign":-1')
    await any_store.insert("ledger", upgrade, token="second")
    await any_store.insert("ledger", upgrade, token="second")
    assert await totals(any_store) == expected((11, 1))


@pytest.mark.parametrize("size", [2, 5_000])
async def test_an_insert_that_died_between_two_rollups_is_completed_by_its_retry(
    any_store: Store, size: int
) -> None:
    block = block_of_calls(size)
    await any_store.command("ALTER TABLE usage_session ADD CONSTRAINT broken CHECK calls < 0")
    with pytest.raises(TokentideError):
        await any_store.insert("ledger", block, token="t")
    torn = await totals(any_store)
    assert torn["ledger"] == expected((0, size))["ledger"], "the ledger is written before the views"
    assert torn["usage_session"][0] == 0
    await any_store.command("ALTER TABLE usage_session DROP CONSTRAINT broken")
    await any_store.insert("ledger", block, token="t")
    assert await totals(any_store) == expected((0, size))


async def test_a_missing_rollup_stops_the_insert_and_its_retry_completes_it(any_store: Store) -> None:
    await any_store.command("DETACH TABLE usage_day")
    with pytest.raises(TokentideError):
        await any_store.insert("ledger", block_of_calls(300), token="t")
    await any_store.command("ATTACH TABLE usage_day")
    await any_store.insert("ledger", block_of_calls(300), token="t")
    assert await totals(any_store) == expected((0, 300))


@pytest.mark.parametrize("size", [2, 50_000])
async def test_tokens_survive_a_killed_store(clickhouse_process: ClickHouseProcess, size: int) -> None:
    store = Store(clickhouse_process.database_url("db"))
    try:
        await migrate(store)
        block = block_of_calls(size)
        await store.insert("ledger", block, token="t")
        clickhouse_process.restart()
        await store.insert("ledger", block, token="t")
        await store.insert("ledger", same_calls_in_other_bytes(block), token="t")
        assert await totals(store) == expected((0, size))
    finally:
        await store.close()


async def test_control_several_parse_chunks_double_under_one_token(store: Store, store_url: str) -> None:
    """Why inserts are forced into one chunk: the engine's token is not a pure token."""
    block = block_of_calls(100_000)
    loose = {"async_insert": 0, "date_time_input_format": "best_effort", "insert_deduplication_token": "t"}
    client = connect(store_url, 30)
    for content in (block, same_calls_in_other_bytes(block)):
        client.raw_insert("ledger", insert_block=content, fmt="JSONEachRow", settings=loose)
    client.close()
    assert (await totals(store))["ledger"][0] == 200_000


async def test_control_insert_select_is_not_protected_by_a_token(store: Store) -> None:
    """Why no delta is ever carried by INSERT … SELECT."""
    for rows_per_chunk in (65_536, 1_000):
        await store.command(
            "INSERT INTO ledger (call_id, org_id, occurred_at) "
            "SELECT toString(number), 'org', toDateTime64('2026-09-01 00:00:00', 3, 'UTC') "
            "FROM numbers(20000) SETTINGS async_insert = 0, insert_deduplication_token = 't', "
            f"max_block_size = {rows_per_chunk}"
        )
    assert (await totals(store))["ledger"][0] == 40_000
