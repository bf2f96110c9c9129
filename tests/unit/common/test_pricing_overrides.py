"""Dated rules: what ships, what a user may add, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tokentide_common.pricing import InvalidOverrides, Prices
from tokentide_common.pricing.overrides import load_overrides, parse_rules

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALL = (1000, 20_000, 300, 400, 500)
NEW_MODELS = [
    "claude-opus-4-6",
    "claude-opus-4-7",
    "claude-opus-4-8",
    "claude-opus-5",
    "claude-opus-5-5",
    "claude-sonnet-4-6",
    "claude-sonnet-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-fable-5",
    "claude-fable-5-1",
    "claude-fable-5-2",
    "claude-mythos-5-2",
]
BASE = 'name = "x"\nsource = "contract"\nmodels = ["*"]\n'


@pytest.fixture(scope="module")
def shipped() -> Prices:
    return Prices.load()


def with_file(tmp_path: Path, text: str) -> Prices:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    return Prices.load(str(path))


@pytest.mark.parametrize("model", NEW_MODELS)
def test_us_only_inference_costs_a_tenth_more_on_tokens_and_nothing_on_searches(
    shipped: Prices, model: str
) -> None:
    standard = shipped.price("anthropic", model, NOW, *CALL)
    in_us = shipped.price("anthropic", model, NOW, *CALL, inference_geo="us")
    searched = shipped.price("anthropic", model, NOW, *CALL, 0, 2, inference_geo="us")
    assert standard is not None
    assert in_us is not None
    assert abs(in_us * 10 - standard * 11) <= 10
    assert searched == in_us + 20_000_000


@pytest.mark.parametrize("geo", ["", "global", "not_available", "eu"])
def test_any_other_geography_costs_the_standard_price(shipped: Prices, geo: str) -> None:
    assert shipped.price("anthropic", "claude-opus-5-5", NOW, *CALL, inference_geo=geo) == shipped.price(
        "anthropic", "claude-opus-5-5", NOW, *CALL
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-haiku-4-5"),
        ("google", "claude-opus-5-5"),
        ("", "us.anthropic.claude-opus-4-6-v1"),
    ],
)
def test_the_us_surcharge_spares_older_models_and_other_platforms(
    shipped: Prices, provider: str, model: str
) -> None:
    assert shipped.price(provider, model, NOW, *CALL, inference_geo="us") == shipped.price(
        provider, model, NOW, *CALL
    )


def test_surcharges_stack(shipped: Prices) -> None:
    fast = shipped.price("anthropic", "claude-opus-5-5", NOW, 1_000_000, 0, 0, 0, 0, speed="fast")
    both = shipped.price(
        "anthropic", "claude-opus-5-5", NOW, 1_000_000, 0, 0, 0, 0, speed="fast", inference_geo="us"
    )
    assert (fast, both) == (8_000_000_000, 8_800_000_000)


def test_fast_mode_of_opus_4_6_is_priced_only_while_its_price_is_known(shipped: Prices) -> None:
    def fast(day: date) -> int | None:
        moment = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        return shipped.price("anthropic", "claude-opus-4-6", moment, 1_000_000, 0, 0, 0, 0, speed="fast")

    assert fast(date(2026, 3, 12)) is None
    assert fast(date(2026, 3, 13)) == fast(date(2026, 6, 28)) == 30_000_000_000
    assert fast(date(2026, 6, 29)) == 5_000_000_000


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-8", "claude-opus-5-5", "claude-sonnet-4-5", "claude-haiku-5-5", "claude-fable-5-1"],
)
@pytest.mark.parametrize("size", [1000, 250_000])
def test_batches_cost_the_same_before_and_after_the_price_list_knew_them(
    shipped: Prices, model: str, size: int
) -> None:
    listed = datetime(2026, 10, 14, tzinfo=UTC)
    call = (size, *CALL[1:])
    before = shipped.price("anthropic", model, listed - timedelta(seconds=1), *call, service_tier="batch")
    after = shipped.price("anthropic", model, listed, *call, service_tier="batch")
    assert before == after
    assert before is not None
    assert before < (shipped.price("anthropic", model, listed, *call) or 0)


def test_every_shipped_model_name_is_one_that_the_price_list_has() -> None:
    unknown = [
        (rule.name, pattern)
        for rule in load_overrides().rules
        for pattern in rule.models
        if "*" not in pattern
        and pattern != "claude-mythos-5"
        and Prices().price(rule.provider, pattern, NOW, 1, 0, 0, 0, 0) is None
    ]
    assert unknown == []


def test_a_users_rates_price_a_model_that_no_list_knows(tmp_path: Path) -> None:
    prices = with_file(
        tmp_path,
        """
        [[rule]]
        name = "house-model"
        source = "internal price sheet 7"
        provider = "*"
        models = ["house-large*"]
        from = 2026-07-01
        rates = [
          { input = 1.5, output = 6, cache_read = 0.15, cache_write_1h = 3, web_search = 5 },
          { above = 100_000, input = 3, output = 12 },
        ]
        """,
    )
    july, june = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
    assert prices.price("gateway", "house-large-2", july, 1000, 1000, 1000, 1000, 1000, 100, 1) == (
        1_500_000 + 150_000 + 1_500_000 + 3_000_000 + 6_000_000 + 5_000_000
    )
    assert prices.price("", "House-Large", july, 100_000, 0, 0, 0, 0) == 150_000_000
    assert prices.price("", "House-Large", july, 100_001, 0, 0, 0, 0) == 300_003_000
    assert prices.price("gateway", "house-large-2", june, 1000, 0, 0, 0, 0) is None


def test_a_users_rates_replace_the_lists_and_the_factors_still_apply(tmp_path: Path) -> None:
    prices = with_file(
        tmp_path,
        '[[rule]]\nname = "deal"\nsource = "contract"\nprovider = "anthropic"\nmodels = ["claude-opus-5-5"]\n'
        "rates = [{ input = 3, output = 15 }]\n",
    )
    assert prices.price("anthropic", "claude-opus-5-5", NOW, 1_000_000, 0, 0, 0, 0) == 3_000_000_000
    assert (
        prices.price("anthropic", "claude-opus-5-5", NOW, 1_000_000, 0, 0, 0, 0, inference_geo="us")
        == 3_300_000_000
    )
    assert prices.price("aws", "claude-opus-5-5", NOW, 1_000_000, 0, 0, 0, 0) == 4_400_000_000


def test_a_users_rule_of_the_same_name_replaces_the_shipped_one(tmp_path: Path, shipped: Prices) -> None:
    prices = with_file(
        tmp_path,
        '[[rule]]\nname = "anthropic-us-inference"\nsource = "contract"\nprovider = "anthropic"\n'
        'models = ["*"]\nwhen = { inference_geo = "us" }\nfactor = 1\n',
    )
    assert prices.price("anthropic", "claude-opus-5-5", NOW, *CALL, inference_geo="us") == prices.price(
        "anthropic", "claude-opus-5-5", NOW, *CALL
    )
    assert prices.version != shipped.version


def test_a_model_can_be_declared_unpriced(tmp_path: Path) -> None:
    prices = with_file(tmp_path, f"[[rule]]\n{BASE}unpriced = true\n")
    assert prices.price("anthropic", "claude-opus-5-5", NOW, *CALL) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"[[rule]]\n{BASE}", "exactly one of"),
        (f"[[rule]]\n{BASE}factor = 1\nunpriced = true", "exactly one of"),
        (f"[[rule]]\n{BASE}factor = -1", "factor"),
        (f"[[rule]]\n{BASE}factor = inf", "factor"),
        (f"[[rule]]\n{BASE}factor = 1.0000000000000000001", "18 digits"),
        (f"[[rule]]\n{BASE}factor = true", "factor"),
        (f"[[rule]]\n{BASE}factor = 1\nfrom = 2026-02-01\nuntil = 2026-02-01", "from must be before until"),
        (f"[[rule]]\n{BASE}rates = [{{ input = 1 }}]", "output"),
        (f"[[rule]]\n{BASE}rates = [{{ input = 1, output = 1, above = 5 }}]", "the first of rates"),
        (
            f"[[rule]]\n{BASE}rates = [{{ input = 1, output = 1 }}, {{ input = 1, output = 1 }}]",
            "the first of rates",
        ),
        (f"[[rule]]\n{BASE}factor = 1\nfactr = 2", "factr"),
        (f"[[rule]]\n{BASE}factor = 1\nwhen = {{ weather = 'fine' }}", "weather"),
        ('[[rule]]\nname = "x"\nsource = "y"\nmodels = []\nfactor = 1', "models"),
        ("rule = 1", "rule"),
        ("[[rule", "prices.toml"),
        (f"[[rule]]\n{BASE}factor = 1\n[[rule]]\n{BASE}factor = 2", "used twice: x"),
    ],
)
def test_a_mistake_in_a_users_file_is_named_and_nothing_is_loaded(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(InvalidOverrides, match=complaint) as caught:
        with_file(tmp_path, text)
    assert "prices.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_a_mistake_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidOverrides, match="No such file"):
        Prices.load(str(tmp_path / "nowhere.toml"))


def test_rates_keep_every_digit_that_is_written(tmp_path: Path) -> None:
    (rule,) = parse_rules(
        f"[[rule]]\n{BASE}rates = [{{ input = 0.049999999999999996, output = 1 }}]".encode(), "f"
    )
    assert str(rule.rates[0].input) == "0.049999999999999996"
