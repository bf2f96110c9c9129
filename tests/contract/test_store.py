"""The store's contract: read, insert, command; refusals and outages told apart; schema applied once."""

import asyncio
import time
import traceback

import msgspec
import pytest

from infra.ledger import block_of_calls, expected, totals
from infra.stores import ClickHouseProcess
from tokentide_common.errors import InvalidEvent, InvalidRequest, Unavailable
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import Store, rows

HOSTILE = (
    "x' OR 1=1 --",
    "x'); DROP TABLE ledger; --",
    "\\' OR 1=1 --",
    "{other:String}",
    'tab\tnewline\nquote"back`tick%',
    "\\N",
    "ünïcödé 🜁",
    "",
)


async def test_an_inserted_row_is_read_back_with_its_types(any_empty_store: Store) -> None:
    await any_empty_store.command(
        "CREATE TABLE t (name String, at DateTime64(3, 'UTC'), big UInt64, money Decimal(38, 9)) "
        "ENGINE = MergeTree ORDER BY name"
    )
    line = b'{"name":"a","at":"2026-11-01T10:00:00.250Z","big":18446744073709551615,"money":"0.000000001"}\n'
    await any_empty_store.insert("t", line)
    assert await rows(any_empty_store, "SELECT * FROM t") == [
        {"name": "a", "at": "2026-11-01T10:00:00.250Z", "big": 2**64 - 1, "money": "0.000000001"}
    ]


async def test_an_insert_may_name_columns_and_a_format(any_empty_store: Store) -> None:
    await any_empty_store.command(
        "CREATE TABLE t (a String, b UInt8 DEFAULT 7) ENGINE = MergeTree ORDER BY a"
    )
    await any_empty_store.insert("t", b"x\ny\n", fmt="TSV", columns=["a"])
    assert await any_empty_store.read("SELECT a, b FROM t ORDER BY a", fmt="CSV") == b'"x",7\n"y",7\n'


async def test_results_come_in_the_format_that_was_asked_for(any_empty_store: Store) -> None:
    assert await any_empty_store.read("SELECT 1 AS a, 2 AS b", fmt="CSVWithNames") == b'"a","b"\n1,2\n'
    assert (await any_empty_store.read("SELECT 1 AS a", fmt="Parquet")).startswith(b"PAR1")
    columnar = await any_empty_store.read("SELECT 1 AS a", fmt="JSONCompact")
    assert msgspec.json.decode(columnar)["data"] == [[1]]


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_value_never_becomes_sql(any_store: Store, value: str) -> None:
    await any_store.insert("ledger", block_of_calls(3))
    matching = "SELECT count() AS n FROM ledger WHERE user_id = {value:String}"
    assert await rows(any_store, matching, {"value": value}) == [{"n": 0}]
    assert await rows(any_store, "SELECT {value:String} AS v", {"value": value}) == [{"v": value}]


async def test_a_list_of_hostile_values_is_one_parameter(any_empty_store: Store) -> None:
    values = [value for value in HOSTILE if value != "\\N"]
    answer = await rows(any_empty_store, "SELECT {values:Array(String)} AS v", {"values": values})
    assert answer == [{"v": values}]


async def test_reads_run_at_the_same_time(any_store: Store) -> None:
    await any_store.insert("ledger", block_of_calls(300))
    answers = await asyncio.gather(*(totals(any_store) for _ in range(8)))
    assert all(answer == expected((0, 300)) for answer in answers)


@pytest.mark.parametrize(
    "block",
    [
        b"this is not JSON\n",
        b'{"cost_nano":"twelve"}\n',
        b'{"occurred_at":"yesterday"}\n',
        b'{"sign":{"a":1}}\n',
    ],
    ids=["syntax", "number", "time", "type"],
)
async def test_a_block_that_cannot_be_parsed_is_poison_not_outage(any_store: Store, block: bytes) -> None:
    with pytest.raises(InvalidEvent):
        await any_store.insert("ledger", block_of_calls(3) + block, token="poison")
    assert await totals(any_store) == expected()


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT nothing FROM ledger",
        "SELECT no_function(1)",
        "SELECT toUInt8({n:UInt8}) -- {m:UInt8}",
    ],
)
async def test_a_refused_query_is_the_callers_mistake(any_store: Store, sql: str) -> None:
    with pytest.raises(InvalidRequest):
        await any_store.read(sql, {"n": "not a number"})


async def test_a_query_over_its_limits_is_refused(any_store: Store) -> None:
    with pytest.raises(InvalidRequest):
        await any_store.read("SELECT number FROM numbers(1000)", settings={"max_result_rows": 10})
    assert await rows(any_store, "SELECT count() AS n FROM numbers(1000)") == [{"n": 1000}]


async def test_migrations_apply_once_and_are_recorded(any_empty_store: Store) -> None:
    names = [name for name, _ in migrations()]
    assert await migrate(any_empty_store) == names
    assert await migrate(any_empty_store) == []
    recorded = await rows(any_empty_store, "SELECT name FROM schema_migrations ORDER BY name")
    assert [row["name"] for row in recorded] == names


async def test_services_that_migrate_at_the_same_time_do_not_hurt_each_other(
    any_empty_store_url: str,
) -> None:
    first, second = Store(any_empty_store_url), Store(any_empty_store_url)
    try:
        await asyncio.gather(migrate(first), migrate(second))
        await first.insert("ledger", block_of_calls(2), token="t")
        assert await totals(second) == expected((0, 2))
    finally:
        await first.close()
        await second.close()


async def test_a_store_that_is_away_fails_calls_and_serves_again_without_a_new_start(
    clickhouse_process: ClickHouseProcess,
) -> None:
    store = Store(clickhouse_process.database_url("db"))
    try:
        await migrate(store)
        clickhouse_process.kill()
        with pytest.raises(Unavailable):
            await store.insert("ledger", block_of_calls(5), token="t")
        with pytest.raises(Unavailable):
            await store.read("SELECT 1")
        clickhouse_process.restart()
        await store.insert("ledger", block_of_calls(5), token="t")
        assert await totals(store) == expected((0, 5))
    finally:
        await store.close()


async def test_a_store_that_is_away_at_the_start_fails_calls_not_the_start(
    clickhouse_process: ClickHouseProcess,
) -> None:
    clickhouse_process.kill()
    store = Store(clickhouse_process.database_url("db"))
    try:
        with pytest.raises(Unavailable):
            await store.read("SELECT 1")
        clickhouse_process.restart()
        assert await rows(store, "SELECT 1 AS one") == [{"one": 1}]
    finally:
        await store.close()


async def test_a_frozen_store_is_unavailable_within_the_timeout(
    clickhouse_process: ClickHouseProcess,
) -> None:
    store = Store(clickhouse_process.database_url("db"), timeout_s=1.0)
    try:
        await store.read("SELECT 1")
        clickhouse_process.pause()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await store.read("SELECT 1")
        assert time.monotonic() - begun < 5
        clickhouse_process.resume()
        assert await rows(store, "SELECT 1 AS one") == [{"one": 1}]
    finally:
        await store.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"readonly": True},
        {"code": 243, "message": "Cannot reserve 1.00 MiB, not enough space"},
        {"code": 252, "message": "Too many parts"},
        {"code": 241, "message": "Memory limit exceeded", "inserts_only": True},
        {"code": 1000, "message": "POCO exception"},
        {"delay": 5, "inserts_only": True},
        {"drop_after": True, "inserts_only": True},
    ],
    ids=["read-only", "disk-full", "too-many-parts", "out-of-memory", "unknown", "slow", "answer-lost"],
)
async def test_an_insert_into_a_failing_store_is_retried_with_its_token_and_counts_once(
    clickhouse_process: ClickHouseProcess, fault: dict[str, object]
) -> None:
    store = Store(clickhouse_process.database_url("db"), timeout_s=2.0)
    try:
        await migrate(store)
        clickhouse_process.fault(**fault)
        with pytest.raises(Unavailable):
            await store.insert("ledger", block_of_calls(50), token="t")
        clickhouse_process.fault()
        await store.insert("ledger", block_of_calls(50), token="t")
        assert await totals(store) == expected((0, 50))
    finally:
        await store.close()


async def test_an_error_about_a_block_never_quotes_it(any_store: Store) -> None:
    block = b'{"call_id":"c","org_id":"o","occurred_at":"CANARY","input_tokens":"CANARY"}'
    with pytest.raises(InvalidEvent) as refused:
        await any_store.insert("ledger", block)
    assert "CANARY" not in "".join(traceback.format_exception(refused.value))
