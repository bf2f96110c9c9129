import pytest

from tokentide_common.providers import provider_named, provider_of


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-opus-5-5", "anthropic"),
        ("us.anthropic.claude-opus-4-6-v1", "aws"),
        ("anthropic.claude-opus-4-6-v1", "aws"),
        ("gpt-5.6", "openai"),
        ("glm-5", ""),
        ("", ""),
    ],
)
def test_a_provider_is_told_by_the_models_name_or_not_at_all(model: str, provider: str) -> None:
    assert provider_of(model) == provider


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("anthropic", "anthropic"),
        ("OpenAI", "openai"),
        ("openai.responses", "openai"),
        ("gcp.gen_ai", "google"),
        ("google.generative-ai", "google"),
        ("aws.bedrock", "aws"),
        ("azure.ai.openai", "azure"),
        ("z_ai", "zai"),
        ("somebody's gateway", "somebody's gateway"),
        ("", ""),
    ],
)
def test_a_provider_gets_the_name_that_price_lists_use(name: str, provider: str) -> None:
    assert provider_named(name) == provider
