"""Generators of observations for property tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from tokentide_common.events import UsageEvent
from tokentide_common.merge import canonical

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
few_words = st.sampled_from(["", "a", "b", "c"])
few_counts = st.sampled_from([0, 1, 2, 500, 1000])
times = st.integers(0, 3).map(lambda s: NOON + timedelta(seconds=s))


@st.composite
def observations(
    draw: st.DrawFn, call_id: str = "req_1", org_id: str = "o", links: tuple[str, ...] = ()
) -> UsageEvent:
    """An observation out of few values, so that observations of one call agree, differ and contradict.

    It may be one that was only concluded, and may say that the call is one of `links`.
    """
    words = {
        n: draw(few_words)
        for n in ("session_id", "machine_id", "user_id", "project", "model", "stop_reason", "agent")
    }
    words |= {n: draw(few_words) for n in ("user_email", "account_id", "device_id", "team")}
    counts = {
        n: draw(few_counts)
        for n in (
            "input_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "duration_ms",
            "retry_attempt",
            "web_search_requests",
        )
    }
    output = draw(few_counts)
    return canonical(
        UsageEvent(
            call_id=call_id,
            org_id=org_id,
            source=draw(st.sampled_from(["cli", "otlp", "proxy", "api", "link"])),
            same_as=draw(st.sampled_from(["", "", "", *links])),
            status=draw(st.sampled_from(["ok", "error", "aborted"])),
            occurred_at=draw(times),
            observed_at=draw(st.none() | times),
            session_started_at=draw(st.none() | times),
            output_tokens=output,
            reasoning_tokens=draw(st.sampled_from([0, output])),
            is_sidechain=draw(st.booleans()),
            reported_cost_usd=draw(st.sampled_from(["", "0.1", "0.10", "0.09", "12.5"])),
            tags=draw(st.dictionaries(few_words.filter(bool), few_words, max_size=2)),
            **words,
            **counts,
        )
    )
