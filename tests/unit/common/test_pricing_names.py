"""What sources call a model, and which price they get for it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.pricing import Prices

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PRICES = Prices.load()


def million_in(provider: str, model: str) -> int | None:
    """The price of a million input tokens, in micro-USD."""
    cost = PRICES.price(provider, model, NOW, 100_000, 0, 0, 0, 0)
    return None if cost is None else cost // 100


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-5-5"),
        ("", "claude-opus-5-5"),
        ("", "Claude-Opus-5-5 "),
        ("", "claude-opus-5-5[1m]"),
        ("anthropic", "claude-opus-5-5[1M]"),
        ("", "claude-opus-5-5-20261001"),
        ("", "claude-opus-5-5@20261001"),
        ("gcp.vertex_ai", "claude-opus-5-5@20261001"),
        ("", "vertex_ai/claude-opus-5-5"),
        ("", "anthropic/claude-opus-5-5"),
        ("litellm", "anthropic/claude-opus-5-5"),
        ("openrouter", "anthropic/claude-opus-5.5"),
        ("our own gateway", "claude-opus-5-5"),
        ("azure", "claude-opus-5-5"),
    ],
)
def test_every_spelling_of_a_model_gets_its_price(provider: str, model: str) -> None:
    assert million_in(provider, model) == 4_000_000


@pytest.mark.parametrize("provider", ["", "anthropic", "aws", "aws.bedrock"])
@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("us.anthropic.claude-opus-4-6-v1", 5_500_000),
        ("eu.anthropic.claude-opus-4-6-v1:0", 5_500_000),
        ("global.anthropic.claude-opus-4-6-v1", 5_000_000),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-6-v1", 5_500_000),
    ],
)
def test_bedrock_ids_get_bedrocks_price_with_its_regional_surcharge(
    provider: str, model: str, price: int
) -> None:
    assert million_in(provider, model) == price


@pytest.mark.parametrize("provider", ["", "anthropic", "openai"])
@pytest.mark.parametrize("model", ["kimi-k3", "deepseek-v4-pro", "glm-5", "MiniMax-M2"])
def test_other_vendors_models_behind_a_common_protocol_are_found_by_the_model(
    provider: str, model: str
) -> None:
    assert million_in(provider, model) is not None
    assert million_in(provider, model) == million_in("", model)


@pytest.mark.parametrize("provider", ["github-copilot", "openrouter", "together", "groq"])
def test_a_marketplace_that_does_not_list_a_model_never_gets_its_vendors_price(provider: str) -> None:
    assert million_in(provider, "claude-opus-5-5") is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("x_ai", "grok-4"),
        ("gcp.gen_ai", "models/gemini-2.5-pro"),
        ("azure.ai.openai", "gpt-5"),
        ("z.ai", "glm-4.6"),
    ],
)
def test_the_provider_names_of_opentelemetry_are_known(provider: str, model: str) -> None:
    assert million_in(provider, model) is not None


@given(provider=st.text(max_size=256), model=st.text(max_size=256))
def test_no_text_in_a_name_breaks_pricing(provider: str, model: str) -> None:
    PRICES.price(provider, model, NOW, 1, 1, 1, 1, 1)
