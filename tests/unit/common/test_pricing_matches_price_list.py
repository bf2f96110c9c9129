"""Our linear rates give, to the nano-dollar, what genai-prices' own `calc_price` gives."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN
from functools import cache
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide_common.pricing import Prices

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONTEXTS: list[dict[str, str]] = [
    {},
    {"service_tier": "batch"},
    {"service_tier": "priority"},
    {"service_tier": "flex"},
    {"service_tier": "fast"},
    {"service_tier": "default"},
    {"service_tier": "standard"},
    {"speed": "fast"},
    {"speed": "normal", "service_tier": "standard", "inference_geo": "not_available"},
]
COUNTED = {"input_mtok", "output_mtok", "requests_kcount"}


@cache
def prices() -> Prices:
    return Prices()


@cache
def models() -> list[tuple[str, str]]:
    """Every (provider, model id) of the list that its own lookup finds."""
    snapshot = get_snapshot()
    found = []
    for provider in snapshot.providers:
        for model in provider.models:
            try:
                snapshot.find_provider_model(model.id, None, provider.id, None)
            except LookupError:
                continue
            found.append((provider.id, model.id))
    return found


def listed(provider: str, model: str) -> ModelInfo:
    return get_snapshot().find_provider_model(model, None, provider, None)[1]


def stated_prices(info: ModelInfo) -> Iterator[tuple[ModelPrice, Any]]:
    if isinstance(info.prices, ModelPrice):
        yield info.prices, None
    else:
        yield from ((c.prices, c.constraint) for c in info.prices)
    yield from ((v.prices, v.constraint) for v in info.price_variants or ())


def thresholds(info: ModelInfo) -> list[int]:
    return sorted(
        {
            tier.start
            for price, _ in stated_prices(info)
            for value in vars(price).values()
            if isinstance(value, TieredPrices)
            for tier in value.tiers
        }
    )


def moments_of_change(info: ModelInfo) -> list[datetime]:
    moments = []
    for _, constraint in stated_prices(info):
        if isinstance(constraint, StartDateConstraint):
            moments.append(datetime.combine(constraint.start_date, time(0), UTC))
        if isinstance(constraint, TimeOfDateConstraint):
            moments += [datetime.combine(NOW, t) for t in (constraint.start_time, constraint.end_time)]
    return moments


def expected(
    provider: str, model: str, moment: datetime, tokens: dict[str, int], context: dict[str, str]
) -> int | None:
    """What `calc_price` says, in nano-USD; None where it charges by something that calls do not carry."""
    price_context = dict(context)
    if price_context.get("service_tier") == "batch":
        price_context = {"processing": "batch"}
    writes = tokens["cache_write_5m_tokens"] + tokens["cache_write_1h_tokens"]
    usage = Usage(
        input_tokens=tokens["input_tokens"] + tokens["cache_read_tokens"] + writes,
        cache_read_tokens=tokens["cache_read_tokens"],
        cache_write_tokens=writes,
        cache_write_5m_tokens=tokens["cache_write_5m_tokens"],
        cache_write_1h_tokens=tokens["cache_write_1h_tokens"],
        output_tokens=tokens["output_tokens"],
        output_reasoning_tokens=tokens["reasoning_tokens"],
        web_searches=tokens["web_search_requests"],
    )
    result = calc_price(
        usage,
        model,
        provider_id=provider,
        genai_request_timestamp=moment,
        price_context=price_context or None,
    )
    keys = {key for key, value in vars(result.model_price).items() if value is not None}
    if keys and not keys & COUNTED:
        return None
    return int((result.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, datetime, dict[str, int], dict[str, str]]:
    provider, model = draw(st.sampled_from(models()))
    info = listed(provider, model)
    counts = st.integers(0, 400_000) | st.integers(0, 9) | st.integers(0, 2**40)
    tokens = {
        name: draw(counts)
        for name in ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    }
    starts = thresholds(info)
    if starts and draw(st.booleans()):
        # Land within a token of a cliff, by any mix of buckets.
        target = draw(st.sampled_from(starts)) + draw(st.integers(-1, 2))
        for name in ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"):
            tokens[name] = draw(st.integers(0, max(0, target // 3 - 1)))
        tokens["input_tokens"] = max(0, target - sum(tokens.values()) + tokens["input_tokens"])
    tokens["output_tokens"] = draw(counts)
    tokens["reasoning_tokens"] = draw(st.integers(0, tokens["output_tokens"]))
    tokens["web_search_requests"] = draw(st.integers(0, 5))
    anywhen = st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
    changes = moments_of_change(info)
    if changes:
        nearby = st.sampled_from([timedelta(microseconds=-1), timedelta(0), timedelta(seconds=1)])
        moment = draw(st.builds(lambda at, by: at + by, st.sampled_from(changes), nearby) | anywhen)
    else:
        moment = draw(anywhen)
    return provider, model, moment, tokens, draw(st.sampled_from(CONTEXTS))


@settings(max_examples=600, deadline=None)
@given(call=calls())
def test_any_call_costs_what_the_price_list_calculates(
    call: tuple[str, str, datetime, dict[str, int], dict[str, str]],
) -> None:
    provider, model, moment, tokens, context = call
    assert prices().price(provider, model, moment, **tokens, **context) == expected(*call)


@pytest.mark.parametrize("provider", sorted(provider.id for provider in get_snapshot().providers))
def test_every_model_of_the_list_is_priced_as_the_list_says(provider: str) -> None:
    tokens = {
        "input_tokens": 1009,
        "cache_read_tokens": 20011,
        "cache_write_5m_tokens": 307,
        "cache_write_1h_tokens": 401,
        "output_tokens": 5003,
        "reasoning_tokens": 601,
        "web_search_requests": 2,
    }
    wrong = []
    for name, model in models():
        if name == provider:
            ours = prices().price(provider, model, NOW, **tokens)
            if ours != expected(provider, model, NOW, tokens, {}):
                wrong.append(model)
    assert wrong == []


def with_peak_hours() -> list[str]:
    return [
        model
        for provider, model in models()
        if provider == "deepseek"
        and any(
            isinstance(constraint, TimeOfDateConstraint)
            for _, constraint in stated_prices(listed(provider, model))
        )
    ]


def test_peak_hours_are_told_from_the_rest_of_the_day_at_every_minute_that_matters() -> None:
    tokens = dict.fromkeys(
        ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens"), 0
    )
    tokens |= {"input_tokens": 1_000_003, "output_tokens": 7, "web_search_requests": 0}
    peaks = []
    for model in with_peak_hours():
        costs = set()
        for half_hour in range(48):
            for second in (-1, 0, 1):
                moment = NOW.replace(hour=0) + timedelta(minutes=30 * half_hour, seconds=second)
                cost = prices().price("deepseek", model, moment, **tokens)
                assert cost == expected("deepseek", model, moment, tokens, {}), (model, moment)
                costs.add(cost)
        peaks.append(len(costs))
    # Some vendor prices of today do have peak hours, or this test would say nothing.
    assert 2 in peaks


def test_a_moment_in_another_time_zone_is_the_same_moment() -> None:
    from zoneinfo import ZoneInfo

    for model in with_peak_hours():
        for hour in range(24):
            moment = NOW.replace(hour=hour)
            there = moment.astimezone(ZoneInfo("Asia/Kathmandu"))
            args = (1_000_003, 0, 0, 0, 7)
            assert prices().price("deepseek", model, there, *args) == prices().price(
                "deepseek", model, moment, *args
            )


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("provider", "model"), [("azure", "claude-opus-5-5"), ("azure", "gpt-5.5-pro")])
def test_a_model_borrowed_from_another_providers_list_has_no_context_prices(
    provider: str, model: str, context: dict[str, str]
) -> None:
    # The platform did not publish those, so calc_price keeps to the standard rates and so do we.
    tokens = dict.fromkeys(("cache_read_tokens", "reasoning_tokens", "web_search_requests"), 0)
    tokens |= {"cache_write_5m_tokens": 3, "cache_write_1h_tokens": 5, "input_tokens": 7, "output_tokens": 11}
    assert prices().price(provider, model, NOW, **tokens, **context) == expected(
        provider, model, NOW, tokens, context
    )


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-4-6", "claude-haiku-5-5"])
def test_cache_writes_beyond_the_known_split_cost_what_the_list_takes_for_them(model: str) -> None:
    usage = Usage(
        input_tokens=50_000,
        cache_read_tokens=30_000,
        cache_write_tokens=15_000,
        cache_write_5m_tokens=4_000,
        cache_write_1h_tokens=6_000,
    )
    theirs = calc_price(usage, model, provider_id="anthropic", genai_request_timestamp=NOW).total_price
    assert prices().price("anthropic", model, NOW, 5_000, 30_000, 4_000 + 5_000, 6_000, 0) == theirs * 10**9
