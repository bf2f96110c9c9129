"""The status line: what is read of Claude Code's input, what is shown, and what is remembered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.status_line import Status, Window, read_status, status_line
from tokentide.status_memory import StatusMemory

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
RESET = NOW + timedelta(hours=3, minutes=30)
SAID: dict[str, Any] = {
    "session_id": "s1",
    "model": {"id": "claude-opus-5-5", "display_name": "Opus 5.5"},
    "cost": {"total_cost_usd": 1.2345},
    "rate_limits": {
        "five_hour": {"used_percentage": 42.5, "resets_at": RESET.timestamp()},
        "seven_day": {"used_percentage": 18, "resets_at": int((NOW + timedelta(days=5)).timestamp())},
    },
}
WINDOW = Window("unified_5h", "0.425", 300, RESET)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "session_id": JSON,
        "model": JSON | st.fixed_dictionaries({"display_name": JSON}),
        "cost": JSON | st.fixed_dictionaries({"total_cost_usd": JSON}),
        "rate_limits": JSON
        | st.fixed_dictionaries(
            {"five_hour": JSON | st.fixed_dictionaries({"used_percentage": JSON, "resets_at": JSON})}
        ),
    },
)


def test_the_line_says_model_costs_and_windows() -> None:
    status = read_status(json.dumps(SAID).encode(), NOW)
    assert status.windows[0] == WINDOW
    assert status_line(status, Decimal("12.5"), UTC) == (
        "Opus 5.5 · session $1.23 · today $12.50 · 5h 42 % until 14:00 · 7d 18 % until Fri 10:30"
    )


@pytest.mark.parametrize("raw", [b"", b"garbage", b"[]", b"\xff", b"[" * 100_000, b'{"model": null}'])
def test_whatever_comes_there_is_a_line(raw: bytes) -> None:
    assert status_line(read_status(raw, NOW), None, UTC) == "tokentide"


@given(SHAPES)
def test_no_shape_of_input_breaks_the_line(said: object) -> None:
    status = read_status(json.dumps(said).encode(), NOW)
    line = status_line(status, None, UTC)
    assert line
    assert line.isprintable()


def test_what_a_terminal_would_obey_is_left_out() -> None:
    status = read_status(json.dumps({"model": {"display_name": "a\x1b[2J\nb"}}).encode(), NOW)
    assert status_line(status, None, UTC) == "a[2Jb"


@pytest.mark.parametrize("percent", [-1, "42", True, None, float("nan"), 1e9])
def test_a_window_that_cannot_be_read_is_none(percent: object) -> None:
    said = {"rate_limits": {"five_hour": {"used_percentage": percent}}}
    assert read_status(json.dumps(said).encode(), NOW).windows == ()


def test_a_session_has_news_when_its_own_windows_change(tmp_path: Path) -> None:
    memory, first = StatusMemory(tmp_path), Status(session="a", windows=(WINDOW,))
    assert memory.has_news(first)
    memory.told("a", first.windows)
    # An idle session repeats itself: told again, its old word would overrule newer ones.
    assert not memory.has_news(first)
    assert memory.has_news(Status(session="b", windows=(WINDOW,)))
    assert not memory.has_news(Status(session="c"))


def test_a_server_that_is_away_is_not_asked_at_every_line(tmp_path: Path) -> None:
    memory, status = StatusMemory(tmp_path), Status(session="../../a", windows=(WINDOW,))
    memory.tries(status)
    assert not memory.has_news(status)
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "status-line"}


def test_today_is_known_for_its_day_only(tmp_path: Path) -> None:
    memory = StatusMemory(tmp_path)
    assert memory.today_is_old("2026-11-22")
    memory.costs("2026-11-22", Decimal("1.5"))
    assert (memory.today("2026-11-22"), memory.today("2026-11-23")) == (Decimal("1.5"), None)
    assert not memory.today_is_old("2026-11-22")
    assert memory.today_is_old("2026-11-23")


def test_a_memory_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "status-line"
    folder.write_text("a file where the folder should be")
    memory, status = StatusMemory(tmp_path), Status(session="a", windows=(WINDOW,))
    memory.tries(status)
    memory.costs("2026-11-22", Decimal(1))
    assert memory.has_news(status)
    assert memory.today("2026-11-22") is None
