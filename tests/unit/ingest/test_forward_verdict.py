from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_ingest.otlp.forward_verdict import pause_s, retry_after_s, verdict_on_grpc, verdict_on_http
from tokentide_ingest.otlp.forward_wire import WireAnswer

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, "delivered"), (202, "delivered"), (204, "delivered")]
    + [(status, "later") for status in (429, 502, 503, 504)]
    + [(status, "refused") for status in (301, 400, 401, 403, 404, 408, 413, 500, 501)],
)
def test_only_what_the_specification_calls_retryable_is_sent_again(status: int, kind: str) -> None:
    assert verdict_on_http(WireAnswer(status, (), b"")).kind == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0, "delivered")]
    + [(code, "later") for code in (1, 4, 10, 11, 14, 15)]
    + [(code, "refused") for code in (2, 3, 5, 6, 7, 8, 9, 12, 13, 16)],
)
def test_grpc_codes_are_sorted_as_the_specification_sorts_them(code: int, kind: str) -> None:
    assert verdict_on_grpc(WireAnswer(200, (), b"", code)).kind == kind


def test_an_exhausted_collector_that_says_when_to_come_back_is_tried_again() -> None:
    details = (b"grpc-status-details-bin", b"\x08\x08type.googleapis.com/google.rpc.RetryInfo")
    assert verdict_on_grpc(WireAnswer(200, (details,), b"", 8)).kind == "later"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b"Sun, 22 Nov 2026 08:00:30 GMT", 30.0),
        (b"Sun, 22 Nov 2026 07:00:00 GMT", 0.0),
        (b"86400", 300.0),
        (b"soon", 0.0),
        (b"-5", 0.0),
        (b"", 0.0),
    ],
)
def test_retry_after_is_honoured_in_both_forms_and_bounded(value: bytes, seconds: float) -> None:
    assert retry_after_s(((b"retry-after", value),), NOW) == seconds


@given(st.binary(max_size=40))
def test_no_retry_after_breaks_the_queue(value: bytes) -> None:
    assert 0 <= retry_after_s(((b"retry-after", value),), NOW) <= 300


@given(st.integers(1, 10_000), st.floats(0, 300))
def test_a_pause_is_never_shorter_than_asked_for_nor_much_longer(attempt: int, after_s: float) -> None:
    assert after_s <= pause_s(attempt, after_s) <= after_s + 15
