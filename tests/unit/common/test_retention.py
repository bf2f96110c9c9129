"""For how many days rows are kept: as it is set, as the store is told, and what of a table is whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.retention import Applied, Days, DaysEntry, whole_from_ms

NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
ENTRIES = st.lists(
    st.builds(
        lambda org, days: f"{org}{days}",
        st.sampled_from(["", "org_a=", "o-2="]),
        st.sampled_from(["forever", "60", "400", "9999"]),
    ),
    max_size=5,
)


def kept(days: str, ago: int = 0) -> Applied:
    return Applied(NOW - timedelta(days=ago), Days.read(days.split(",")))


def midnight(days_ago: int) -> int:
    return int((NOW.replace(hour=0, minute=0) - timedelta(days=days_ago)).timestamp() * 1000)


@given(ENTRIES)
def test_what_is_written_down_reads_back_as_the_same_days(entries: list[str]) -> None:
    days = Days.read(entries)
    assert Days.read(days.text().split(",")) == days


@pytest.mark.parametrize("wrong", ["59", "10000", "0", "-90", "org a=90", "a'=90", "90\n", "=90", "x=y", ""])
def test_less_than_sixty_days_and_what_is_no_organisation_is_no_setting(wrong: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([wrong], tuple[DaysEntry, ...])


def test_the_store_deletes_ten_days_after_the_last_one_that_is_relied_upon() -> None:
    assert Days.read(()).ttl("at") == Days.read(["forever"]).ttl("at") == ""
    assert Days.read(["90"]).ttl("at") == "toDate(at) + toIntervalDay(100)"
    assert Days.read(["90", "b=forever", "a=60", "c=90"]).ttl("at") == (
        "toDate(at) + toIntervalDay(transform(toString(org_id), ['a', 'b'], [70, 15000], 100))"
    )


def test_of_each_organisation_whole_days_are_kept() -> None:
    history = [kept("90,org_b=forever,org_c=60", ago=1)]
    found = [whole_from_ms(history, org_id, NOW) for org_id in ("org_a", "org_b", "org_c")]
    assert found == [midnight(90), 0, midnight(60)]


def test_what_was_deleted_does_not_come_back_with_a_longer_setting() -> None:
    history = [kept("60", ago=100), kept("400", ago=30), kept("forever", ago=10)]
    assert whole_from_ms(history[:1], "o", NOW) == midnight(60)
    assert whole_from_ms(history[:2], "o", NOW) == midnight(90), "sixty days before it was made longer"
    assert whole_from_ms(history, "o", NOW) == midnight(90)
    assert whole_from_ms(history, "o", NOW + timedelta(days=3000)) == midnight(90)
    assert whole_from_ms([*history, kept("80")], "o", NOW) == midnight(80)
    before = NOW - timedelta(days=101)
    assert whole_from_ms(history, "o", before) == 0, "who asks for then is told what was true then"
