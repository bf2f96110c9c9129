"""Announcements: folded by organisation; what is not one is left aside."""

from __future__ import annotations

from datetime import date

import pytest

from tokentide_common.topics import PeriodsTouched
from tokentide_ranker.announcements import folded, readable


def test_many_announcements_of_a_day_ask_for_it_once() -> None:
    one = PeriodsTouched("org", ["2026-11-22", "2026-11-21"])
    assert folded([one, one, PeriodsTouched("other", ["2026-11-22"])]) == {
        "org": {date(2026, 11, 21), date(2026, 11, 22)},
        "other": {date(2026, 11, 22)},
    }


def test_an_announcement_of_a_newer_version_is_understood() -> None:
    value = b'{"org_id": "org", "days": ["2026-11-22"], "later": 1}'
    assert readable(value) == PeriodsTouched("org", ["2026-11-22"])


@pytest.mark.parametrize(
    "value",
    [None, b"", b"no json", b"\xff", b"[]", b'{"org_id": "o"}', b'{"org_id": "o", "days": ["today"]}',
     b'{"org_id": "o", "days": ["0001-01-01"]}', b'{"org_id": "o", "days": ["9999-12-31"]}'],
)  # fmt: skip
def test_what_is_no_announcement_is_left_aside(value: bytes | None) -> None:
    assert readable(value) is None
