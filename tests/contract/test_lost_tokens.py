"""An engine that was killed between the token of an insert and its rows takes the insert when it is repeated.

The state that such a kill leaves is made here by hand, as `strace` shows it: tables are written one after the
other, each first its token, then the name of its part.
"""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from infra.ledger import MEASURES, ROLLUPS, block_of_calls, totals
from infra.stores import ClickHouseProcess
from tokentide_common.errors import Unavailable
from tokentide_common.lost_tokens import forget_lost_tokens
from tokentide_common.migrate import migrate
from tokentide_common.store import Store

PART = "202611_7_7_0"
TABLES = len(ROLLUPS) + 1


@pytest.mark.parametrize("died_at", [0, 1, TABLES // 2, TABLES - 1])
async def test_a_kill_between_a_token_and_its_rows_costs_no_table_a_row(
    clickhouse_process: ClickHouseProcess, died_at: int
) -> None:
    store = Store(clickhouse_process.database_url("db"))
    try:
        await migrate(store)
        await store.insert("ledger", _of_one_month(300, start=0), token="before")
        written = _sizes(clickhouse_process.folder)
        await store.insert("ledger", _of_one_month(300, start=600), token="torn")
        clickhouse_process.kill()
        _undo(clickhouse_process.folder, written, died_at)
        clickhouse_process.restart()
        await store.insert("ledger", _of_one_month(300, start=600), token="torn")
        await store.insert("ledger", _of_one_month(300, start=600), token="torn")
        await store.insert("ledger", _of_one_month(300, start=0), token="before")
        both = _of_one_month(300, start=0) + _of_one_month(300, start=600)
        assert await totals(store) == dict.fromkeys(["ledger", *ROLLUPS], _sums(both))
    finally:
        await store.close()


def _of_one_month(count: int, *, start: int) -> bytes:
    """Return calls of September alone: each table then gets one part."""
    lines = block_of_calls(2 * count, start=start).splitlines()
    return b"\n".join(line for line in lines if b'"2026-09' in line) + b"\n"


def _sums(block: bytes) -> tuple[int, ...]:
    calls = [json.loads(line) for line in block.splitlines()]
    return len(calls), *(sum(call[measure] for call in calls) for measure in MEASURES)


def _logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("store/*/*/deduplication_logs/*.txt"))


def _sizes(folder: Path) -> dict[Path, int]:
    return {log: log.stat().st_size for log in _logs(folder)}


def _undo(folder: Path, written: dict[Path, int], died_at: int) -> None:
    """Take back what the last insert did from its n-th table on, but for the token of that."""
    touched = [log for log in _logs(folder) if log.stat().st_size > written.get(log, 0)]
    touched.sort(key=lambda log: log.stat().st_mtime_ns)
    assert len(touched) == TABLES
    for log in touched[died_at:]:
        content = log.read_bytes()[written.get(log, 0) :]
        part = content.split(b"\t")[1].decode()
        table = log.parent.parent
        (table / part).rename(table / f"tmp_insert_{part}")
        if log != touched[died_at]:
            with log.open("r+b") as file:
                file.truncate(written.get(log, 0))


@pytest.mark.parametrize(
    "kept",
    [PART, "202611_3_9_2", "202611_7_7_0_12", "202611_7_8_1"],
    ids=["as it is", "merged", "mutated", "merged with the next"],
)
async def test_a_token_whose_part_is_there_is_kept(tmp_path: Path, kept: str) -> None:
    log = _table(tmp_path, [PART], kept)
    await forget_lost_tokens(tmp_path)
    assert log.read_text() == _lines([PART])


@pytest.mark.parametrize(
    "other", ["202610_7_7_0", "202611_1_6_2", "202611_8_8_0", f"tmp_insert_{PART}", "detached"]
)
async def test_a_token_whose_part_is_nowhere_is_forgotten_and_no_other(tmp_path: Path, other: str) -> None:
    log = _table(tmp_path, ["202611_6_6_0", PART], other)
    await forget_lost_tokens(tmp_path)
    assert log.read_text() == _lines(["202611_6_6_0"])


async def test_the_log_before_is_meant_where_the_newest_is_empty(tmp_path: Path) -> None:
    log = _table(tmp_path, ["202611_6_6_0", PART], "202611_6_6_0")
    (log.parent / "deduplication_log_10.txt").touch()
    await forget_lost_tokens(tmp_path)
    assert log.read_text() == _lines(["202611_6_6_0"])


async def test_a_line_that_was_not_written_to_its_end_goes_and_the_one_before_stays_whole(
    tmp_path: Path,
) -> None:
    log = _table(tmp_path, ["202611_6_6_0"], "202611_6_6_0")
    whole = log.read_text()
    log.write_text(f"{whole}1\t{PART}\t2026")
    await forget_lost_tokens(tmp_path)
    assert log.read_text() == whole


async def test_a_part_that_was_dropped_is_no_lost_one(tmp_path: Path) -> None:
    log = _table(tmp_path, [PART], "detached")
    dropped = log.read_text() + f"2\t{PART}\t202611_t\n"
    log.write_text(dropped)
    await forget_lost_tokens(tmp_path)
    assert log.read_text() == dropped


async def test_a_folder_that_no_engine_has_written_is_no_mistake(tmp_path: Path) -> None:
    await forget_lost_tokens(tmp_path / "none")


async def test_what_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    log = _table(tmp_path, [PART], "detached")
    log.rename(log.with_name("moved"))
    log.mkdir()
    (log / "file").touch()
    with pytest.raises(Unavailable, match="deduplication_log_9"):
        await forget_lost_tokens(tmp_path)


def test_the_command_behind_it_is_started_with_its_arguments(tmp_path: Path) -> None:
    script = files("tokentide_common") / "forget_lost_tokens.sh"
    done = subprocess.run(
        ["sh", str(script), str(tmp_path), "printf", "%s|", "a b", "c"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "a b|c|"


def _table(folder: Path, logged: list[str], part: str) -> Path:
    table = folder / "store" / "abc" / "abcdef"
    log = table / "deduplication_logs" / "deduplication_log_9.txt"
    log.parent.mkdir(parents=True)
    (table / part).mkdir()
    log.write_text(_lines(logged))
    return log


def _lines(parts: list[str]) -> str:
    return "".join(f"1\t{part}\t202611_{part}_token\n" for part in parts)
