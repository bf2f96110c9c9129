"""Known amounts, and the prices that real clients reported for the same usage."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tokentide_common.pricing import Prices

DATA = Path(__file__).parents[2] / "data" / "pricing"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BUCKETS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
)


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.load()


def nano(usd: str) -> int:
    amount = Decimal(usd) * 10**9
    assert amount == int(amount)
    return int(amount)


def reported_nano(usd: str) -> int:
    """Clients add floats up (0.006822099999999999): what they meant is the nearest nano-dollar."""
    return round(Decimal(usd) * 10**9)


def captured() -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = json.loads((DATA / "claude_code_calls.json").read_text())
    return calls


def price_of(prices: Prices, call: dict[str, Any], **changed: int) -> int | None:
    return prices.price(
        "anthropic",
        call["model"],
        datetime.fromisoformat(call["occurred_at"]),
        **{name: call[name] for name in BUCKETS} | changed,
        service_tier=call["service_tier"],
        speed=call["speed"],
        inference_geo=call["inference_geo"],
    )


@pytest.mark.parametrize(
    ("model", "tokens", "usd"),
    [
        ("claude-fable-5", (5263, 0, 0, 21865, 4), "0.49013"),
        ("claude-sonnet-4-6", (14, 645085, 0, 54213, 27313), "0.9285405"),
        ("claude-sonnet-4-5", (200000, 0, 0, 0, 0), "0.60"),
        ("claude-sonnet-4-5", (200001, 0, 0, 0, 0), "1.200006"),
        ("claude-haiku-5-5", (15, 12395, 627, 0, 66), "0.000236825"),
    ],
)
def test_known_calls_cost_what_is_known(
    prices: Prices, model: str, tokens: tuple[int, int, int, int, int], usd: str
) -> None:
    assert prices.price("anthropic", model, NOW, *tokens) == nano(usd)


def test_claude_codes_own_figure_equals_ours_for_the_exact_usage(prices: Prices) -> None:
    # 1.0.128 (run 24) and the call with two attempts (run 16) are explained by the tests below.
    calls = [call for call in captured() if not call["run"].startswith(("16-", "24-"))]
    assert {call["model"] for call in calls} == {"claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"}
    wrong = [
        call["request_id"]
        for call in calls
        if price_of(prices, call) != reported_nano(call["reported_cost_usd"])
    ]
    assert wrong == []
    assert len(calls) == 43


def test_an_old_clients_figure_is_ours_with_every_cache_write_at_the_5_minute_rate(prices: Prices) -> None:
    calls = [call for call in captured() if call["run"].startswith("24-")]
    assert len(calls) == 4
    for call in calls:
        writes = call["cache_write_5m_tokens"] + call["cache_write_1h_tokens"]
        theirs = price_of(prices, call, cache_write_5m_tokens=writes, cache_write_1h_tokens=0)
        assert theirs == reported_nano(call["reported_cost_usd"])
        assert (price_of(prices, call) == theirs) == (call["cache_write_1h_tokens"] == 0)


def test_the_figure_of_a_retried_call_is_the_sum_of_both_attempts(prices: Prices) -> None:
    (second,) = (call for call in captured() if call["run"].startswith("16-"))
    # Of the cut attempt the client had counted 16 output tokens (its metrics: 91 for both, 75 of the second).
    first = prices.price(
        "anthropic", second["model"], datetime.fromisoformat(second["occurred_at"]), 19, 10451, 0, 1806, 16
    )
    ours = price_of(prices, second)
    assert first is not None
    assert ours is not None
    assert first + ours == reported_nano(second["reported_cost_usd"])


def test_opencodes_own_figure_equals_ours(prices: Prices) -> None:
    assert prices.price("anthropic", "claude-sonnet-4-5", NOW, 25, 5460, 2169, 0, 148) == nano("0.01206675")
    assert prices.price("anthropic", "claude-sonnet-4-5", NOW, 8, 6924, 845, 0, 89) == nano("0.00660495")


def test_half_a_nano_dollar_rounds_to_the_even_one(prices: Prices) -> None:
    # $0.0125 per million 5-minute... a batch cache read of Haiku 5.5 is 5 nano-dollars: odd multiples of
    # half a nano-dollar come from $0.0625 per million, 62.5 nano-dollars a token.
    def writes(count: int) -> int | None:
        return prices.price("anthropic", "claude-haiku-5-5", NOW, 0, 0, count, 0, 0, service_tier="batch")

    assert [writes(count) for count in (1, 2, 3, 4)] == [62, 125, 188, 250]


def test_a_price_change_takes_effect_at_midnight_utc(prices: Prices) -> None:
    # The long-context surcharge of Opus 4.6 ended on 2026-03-13.
    before = datetime(2026, 3, 12, 23, 59, 59, 999999, tzinfo=UTC)
    after = datetime(2026, 3, 13, tzinfo=UTC)
    assert prices.price("anthropic", "claude-opus-4-6", before, 200_001, 0, 0, 0, 0) == nano("2.00001")
    assert prices.price("anthropic", "claude-opus-4-6", after, 200_001, 0, 0, 0, 0) == nano("1.000005")


def test_web_searches_are_charged_per_search(prices: Prices) -> None:
    assert prices.price("anthropic", "claude-opus-5-5", NOW, 0, 0, 0, 0, 0, 0, 3) == nano("0.03")


def test_the_version_names_the_price_data(prices: Prices) -> None:
    name, _, overrides = prices.version.partition("+")
    assert name.startswith("genai-prices ")
    assert overrides.startswith("overrides ")
    assert Prices.load().version == prices.version


@pytest.mark.parametrize(
    "model", ["<synthetic>", "", "claude-opus-9", "codex-auto-review", "🦀", "whisper-1"]
)
@pytest.mark.parametrize("provider", ["", "anthropic", "openai", "somebody's gateway"])
def test_an_unknown_model_is_unpriced_and_never_gets_a_default(
    prices: Prices, provider: str, model: str
) -> None:
    assert prices.price(provider, model, NOW, 1000, 0, 0, 0, 1000) is None
    assert prices.price(provider, model, NOW, 1000, 0, 0, 0, 1000) is None


def test_names_from_outside_cannot_grow_the_memo_without_bound() -> None:
    prices = Prices()
    for number in range(9000):
        assert (
            prices.price("anthropic", "claude-opus-5-5", NOW, 1, 0, 0, 0, 0, service_tier=f"t{number}")
            == 4000
        )
    assert len(prices._recent) + len(prices._older) <= 4096
    assert len(prices._plans) == 1


def test_a_model_in_use_stays_right_when_others_push_it_out_of_the_memo() -> None:
    prices = Prices()
    for number in range(5000):
        assert prices.price("nobody", f"no-such-model-{number}", NOW, 1, 0, 0, 0, 0) is None
        assert prices.price("anthropic", "claude-opus-5-5", NOW, 1, 0, 0, 0, 0) == 4000
