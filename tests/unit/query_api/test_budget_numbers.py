"""Which period a budget is for, which thresholds are crossed, and when it runs out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.accounts.people import Organization
from tokentide_query_api.money.alerts import Alert, body_of, wording
from tokentide_query_api.money.budget_spans import crossed, runs_out, span_at, span_before, zone_of
from tokentide_query_api.money.budget_words import Channel, amount_of, text_of
from tokentide_query_api.money.deliveries import signature
from tokentide_query_api.money.trend import Expectation

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("daily", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),  # of 25 hours
        ("weekly", "2026-10-26T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
        ("monthly", "2026-11-01T00:00:00-04:00", "2026-12-01T00:00:00-05:00"),
    ],
)
def test_periods_are_local_days_weeks_and_months(period, start, end):
    span = span_at(period, datetime(2026, 11, 1, 23, tzinfo=UTC), NEW_YORK)
    assert (span.start, span.end) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_of_a_zone_that_is_not_known_here_the_periods_are_of_utc():
    zones = [zone_of(Organization("Acme", name, "open")) for name in ("Europe/Berlin", "Mars/Olympus")]
    assert [zone.key for zone in (*zones, zone_of(None))] == ["Europe/Berlin", "UTC", "UTC"]


@given(
    st.sampled_from(["daily", "weekly", "monthly"]), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1))
)
def test_periods_touch_and_hold_their_moment(period, naive):
    at = naive.replace(tzinfo=UTC)
    span = span_at(period, at, NEW_YORK)
    assert span.start <= at < span.end
    assert span_before(period, span).end == span.start
    assert span_at(period, span.end, NEW_YORK).start == span.end


def test_a_threshold_is_crossed_when_it_is_reached():
    assert crossed(899, 1000, [1000, 900]) == []
    assert crossed(900, 1000, [1000, 900]) == [900]
    assert crossed(1000, 1000, [1000, 900]) == [900, 1000]
    assert crossed(1, 3, [333]) == [333]


def test_a_budget_runs_out_on_the_day_on_which_the_rest_is_used():
    monday = date(2026, 11, 2)
    expect = Expectation({monday: 10.0})
    today, end = monday + timedelta(1), monday + timedelta(7)
    assert runs_out(24, (today, 0.5), end, expect) == today + timedelta(2)  # 5 today, 10 and 10 after
    assert runs_out(26, (today, 0.5), end, expect) == today + timedelta(3)
    assert runs_out(4, (today, 0.5), end, expect) == today
    assert runs_out(0, (today, 0.5), end, expect) == today
    assert runs_out(1000, (today, 0.5), end, expect) is None


@pytest.mark.parametrize(("text", "unit"), [("0", "usd"), ("0.5", "tokens"), ("9999999999999", "usd")])
def test_what_is_no_amount_is_refused(text, unit):
    with pytest.raises(InvalidRequest):
        amount_of(text, unit)
    assert text_of(amount_of("12.000000001", "usd"), "usd") == "12.000000001"


@pytest.mark.parametrize(
    "parts",
    [
        {"kind": "webhook", "url": "https://x.example/hook"},
        {"kind": "slack", "url": "https://x.example", "secret": "s" * 16},
        {"kind": "email"},
        {"kind": "email", "address": "a@x.org", "url": "https://x.example"},
    ],
)
def test_a_channel_has_what_its_kind_needs_and_nothing_else(parts):
    with pytest.raises(ValueError, match="has"):
        Channel(**parts)


def test_chats_read_an_alert_in_words_and_no_marks_of_theirs():
    at = datetime(2026, 11, 1, tzinfo=UTC)
    alert = Alert(
        alert_id="alert_1", budget_id="budget_1", budget="<!channel> & co", organisation="org_a",
        scope="team", scope_value="@everyone", period="monthly", period_start=at, period_end=at, unit="usd",
        amount="100", used="91.5", threshold=0.9, decided_at=at,
    )  # fmt: skip
    assert wording(alert) == (
        "Budget <!channel> & co of team @everyone: 91.5 of 100 USD used in the month that began on"
        " 2026-11-01, which is over 90 %."
    )
    slack = body_of(alert, Channel(kind="slack", url="https://x.example"))
    assert b"&lt;!channel&gt; &amp; co" in slack
    discord = body_of(alert, Channel(kind="discord", url="https://x.example"))
    assert b'"allowed_mentions":{"parse":[]}' in discord


def test_a_signature_is_the_digest_of_time_and_body():
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
    found = signature("0123456789abcdef", 1_700_000_000, b"{}")
    assert found == ("t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e")
    assert found != signature("0123456789abcdef", 1_700_000_001, b"{}")
