"""Limits from the headers of answers: what providers say is told, what they may say some day harms nobody."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.limit_facts import LimitFact, decode_limit_fact, encode_limit_fact
from tokentide_proxy.exchange import Observer
from tokentide_proxy.limit_headers import limit_facts, tells_limits

NOW = datetime(2026, 11, 22, 1, 18, 48, tzinfo=UTC)
SEEN = Observer("anthropic", NOW, org_id="org_1", key_id="key_1")
RESET = datetime(2026, 11, 22, 1, 19, 48, tzinfo=UTC)
# As an answer to a subscription's client carries them, together with those of an API organisation.
ANTHROPIC = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"request-id", b"req_011CUkLzsbQCj6T15bj1gJZt"),
    (b"anthropic-organization-id", b"00000000-0000-4000-8000-00000000abcd"),
    (b"anthropic-ratelimit-unified-status", b"allowed"),
    (b"anthropic-ratelimit-unified-5h-status", b"allowed_warning"),
    (b"anthropic-ratelimit-unified-5h-reset", b"1795320000"),
    (b"anthropic-ratelimit-unified-5h-utilization", b"0.55"),
    (b"anthropic-ratelimit-unified-7d-status", b"allowed"),
    (b"anthropic-ratelimit-unified-7d-reset", b"1795651200"),
    (b"anthropic-ratelimit-unified-7d-utilization", b"0.21"),
    (b"anthropic-ratelimit-unified-representative-claim", b"five_hour"),
    (b"anthropic-ratelimit-unified-fallback-percentage", b"0.5"),
    (b"anthropic-ratelimit-unified-reset", b"1795320000"),
    (b"anthropic-ratelimit-unified-overage-status", b"rejected"),
    (b"anthropic-ratelimit-unified-overage-disabled-reason", b"org_level_disabled"),
    (b"anthropic-ratelimit-requests-limit", b"4000"),
    (b"anthropic-ratelimit-requests-remaining", b"3500"),
    (b"anthropic-ratelimit-requests-reset", b"2026-11-22T01:19:48Z"),
    (b"anthropic-ratelimit-input-tokens-limit", b"2000000"),
    (b"anthropic-ratelimit-input-tokens-remaining", b"1999515"),
    (b"anthropic-ratelimit-input-tokens-reset", b"2026-11-22T01:19:48Z"),
    (b"anthropic-priority-input-tokens-limit", b"10000"),
    (b"anthropic-priority-input-tokens-remaining", b"9618"),
    (b"anthropic-priority-input-tokens-reset", b"2026-11-22T01:19:48Z"),
]


def by_kind(headers: list[tuple[bytes, bytes]], seen: Observer = SEEN) -> dict[str, LimitFact]:
    facts = limit_facts(headers, seen)
    found = {fact.kind: fact for fact in facts}
    assert len(found) == len(facts)
    return found


def test_an_answer_of_anthropic_tells_every_limit_with_all_its_measures():
    facts = by_kind(ANTHROPIC)
    assert facts.keys() == {
        "unified",
        "unified_5h",
        "unified_7d",
        "unified_overage",
        "requests",
        "input_tokens",
        "priority_input_tokens",
    }
    whose = {"provider": "anthropic", "observed_at": NOW, "org_id": "org_1", "key_id": "key_1"}
    account = "00000000-0000-4000-8000-00000000abcd"
    assert facts["unified_5h"] == LimitFact(
        kind="unified_5h",
        account_id=account,
        utilization="0.55",
        resets_at=datetime.fromtimestamp(1795320000, UTC),
        status="allowed_warning",
        **whose,
    )
    assert facts["input_tokens"] == LimitFact(
        kind="input_tokens", account_id=account, limit=2000000, remaining=1999515, resets_at=RESET, **whose
    )
    assert facts["priority_input_tokens"].remaining == 9618
    assert (facts["unified_overage"].status, facts["unified_overage"].resets_at) == ("rejected", None)


def test_limits_of_a_model_name_it_and_windows_of_a_subscription_do_not():
    facts = by_kind(ANTHROPIC, Observer("anthropic", NOW, model="claude-opus-4-5"))
    assert {kind for kind, fact in facts.items() if fact.model} == {
        "requests",
        "input_tokens",
        "priority_input_tokens",
    }


def test_an_answer_without_limits_is_told_apart_before_it_is_read():
    assert tells_limits(ANTHROPIC)
    assert tells_limits([(b"retry-after", b"1")])
    assert not tells_limits(ANTHROPIC[:3])


def test_an_answer_of_openai_tells_its_limits_with_durations():
    headers = [
        (b"openai-organization", b"org-abc"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"x-ratelimit-reset-requests", b"6ms"),
        (b"x-ratelimit-limit-tokens", b"2000000"),
        (b"x-ratelimit-remaining-tokens", b"1999000"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
        (b"x-ratelimit-limit-project-tokens", b"5"),
        (b"x-request-id", b"req_1"),
    ]
    facts = by_kind(headers, Observer("openai", NOW, account_id="ours"))
    assert facts.keys() == {"requests", "tokens", "project_tokens"}
    assert facts["requests"].resets_at == NOW + timedelta(milliseconds=6)
    assert facts["tokens"].resets_at == NOW + timedelta(minutes=6)
    assert {fact.account_id for fact in facts.values()} == {"org-abc"}


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("1s", 1),
        ("20ms", 0.02),
        ("1m30.951s", 90.951),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("2d", 172_800),
        ("1s500ms", 1.5),
        ("12", 12),
        ("0.5", 0.5),
        ("0s", 0),
        ("2026-11-22T01:19:48Z", 60),
        ("2026-11-22T02:19:48+01:00", 60),
        ("1795310388", 60),
    ],
)
def test_a_reset_is_a_duration_seconds_a_time_or_seconds_of_the_epoch(text, after):
    (fact,) = limit_facts([(b"x-ratelimit-reset-tokens", text.encode())], SEEN)
    assert fact.resets_at == NOW + timedelta(seconds=after)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "1x", "s", "1s1m", "9" * 30, "2026-13-01", "2026-11-22T01:19:48", "١s", "1_0"]
)
def test_a_reset_that_is_none_of_these_is_left_out(text):
    assert limit_facts([(b"x-ratelimit-reset-tokens", text.encode())], SEEN) == []


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ((b"retry-after", b"30"), 30),
        ((b"retry-after", b"0.5"), 0.5),
        ((b"retry-after-ms", b"1500"), 1.5),
        ((b"retry-after", b"Sun, 22 Nov 2026 01:19:48 GMT"), 60),
    ],
)
def test_a_request_to_wait_is_a_fact_of_its_own(header, after):
    (fact,) = limit_facts([header], SEEN)
    assert (fact.kind, fact.resets_at) == ("retry", NOW + timedelta(seconds=after))


@pytest.mark.parametrize(
    ("value", "remaining"),
    [
        (b"0", 0),
        (b"999999999999999", 10**15 - 1),
        (b"-1", None),
        (b"1.5", None),
        (b"lots", None),
        (b"1" * 40, None),
    ],
)
def test_amounts_are_whole_numbers_or_nothing(value, remaining):
    headers = [(b"x-ratelimit-limit-tokens", b"7"), (b"x-ratelimit-remaining-tokens", value)]
    (fact,) = limit_facts(headers, SEEN)
    assert (fact.limit, fact.remaining) == (7, remaining)


def test_headers_of_other_things_and_unknown_measures_tell_nothing():
    headers = [
        (b"x-ratelimit-policy", b"10;w=60"),
        (b"x-ratelimit-limit", b"10"),
        (b"anthropic-ratelimit-", b"1"),
        (b"anthropic-ratelimit-limit", b"1"),
        (b"retry-afterwards", b"1"),
        (b"set-cookie", b"a=b"),
    ]
    assert limit_facts(headers, SEEN) == []


def test_an_answer_cannot_tell_limits_without_end():
    headers = [(b"x-ratelimit-limit-%d" % n, b"1") for n in range(1000)]
    assert len(limit_facts(headers, SEEN)) == 32
    assert limit_facts([(b"x-ratelimit-limit-tokens", b"1" * 10_000)], SEEN) == []


_names = st.sampled_from([name for name, _ in ANTHROPIC]) | st.builds(
    bytes.__add__,
    st.sampled_from([b"anthropic-ratelimit-", b"anthropic-priority-", b"x-ratelimit-", b"retry-after", b""]),
    st.binary(max_size=40),
)
_values = (
    st.binary(max_size=60)
    | st.sampled_from([value for _, value in ANTHROPIC])
    | st.text("0123456789.-:TZdhms", max_size=40).map(str.encode)
)


@given(st.lists(st.tuples(_names, _values), max_size=30))
def test_whatever_the_headers_hold_the_facts_are_valid_on_the_wire(headers):
    for fact in limit_facts(headers, SEEN):
        assert decode_limit_fact(encode_limit_fact(fact)) == fact


def test_a_chatgpt_subscription_tells_its_windows_and_those_it_does_not_have_are_none():
    seen = Observer("openai", NOW, account_id="acct-1", model="gpt-5.5-codex")
    facts = by_kind(
        [
            (b"x-codex-active-limit", b"codex"),
            (b"x-codex-plan-type", b"plus"),
            (b"x-codex-primary-used-percent", b"42.5"),
            (b"x-codex-primary-window-minutes", b"300"),
            (b"x-codex-primary-reset-at", b"1795320000"),
            (b"x-codex-secondary-used-percent", b"100"),
            (b"x-codex-secondary-window-minutes", b"10080"),
            (b"x-codex-secondary-reset-after-seconds", b"60"),
            (b"x-codex-bengalfox-primary-used-percent", b"0"),
            (b"x-codex-bengalfox-secondary-used-percent", b"0"),
            (b"x-codex-bengalfox-secondary-window-minutes", b"0"),
            (b"x-codex-bengalfox-secondary-reset-at", b"0"),
            (b"x-codex-primary-over-secondary-limit-percent", b"9"),
        ],
        seen,
    )
    assert facts.keys() == {"codex_primary", "codex_secondary", "codex_bengalfox_primary"}
    assert {(fact.account_id, fact.model) for fact in facts.values()} == {("acct-1", "")}
    primary, secondary = facts["codex_primary"], facts["codex_secondary"]
    assert (primary.utilization, primary.window_minutes) == ("0.425", 300)
    assert primary.resets_at == datetime.fromtimestamp(1795320000, UTC)
    assert (secondary.utilization, secondary.window_minutes) == ("1", 10080)
    assert secondary.resets_at == NOW + timedelta(seconds=60)
    assert facts["codex_bengalfox_primary"].utilization == "0"
