"""Which provider answers a call: told by the model's name, or by what telemetry calls it."""

from __future__ import annotations

from typing import Final

_BY_MODEL: Final = (
    ("claude", "anthropic"),
    ("anthropic.claude", "aws"),
    ("gpt-", "openai"),
    ("gemini-", "google"),
    ("deepseek", "deepseek"),
    ("kimi", "moonshotai"),
)
# What OpenTelemetry's conventions, SDKs and gateways call whom the price lists call otherwise.
_BY_NAME: Final = {
    "amazon-bedrock": "aws",
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "mistral_ai": "mistral",
    "vertex_ai": "google",
    "vertexai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
    "z.ai": "zai",
    "z_ai": "zai",
}
# SDKs name a provider's interface after the provider: openai.responses, google.generative-ai.
_FAMILIES: Final = ("amazon-bedrock", "anthropic", "google-vertex", "google", "mistral", "openai", "xai")


def provider_of(model: str) -> str:
    """Return the provider that a model's name tells, "" where it does not: never a guess by the client.

    Other providers' models run inside Claude Code too, behind gateways.
    """
    # Bedrock's cross-region names put a geography in front: us.anthropic.claude-…
    regional = model.partition(".")[2] if ".anthropic." in model else model
    return next((name for prefix, name in _BY_MODEL if regional.startswith(prefix)), "")


def provider_named(name: str) -> str:
    """Return the provider that a source names, by the name that price lists use; "" stays ""."""
    given = name.strip().lower()
    if given not in _BY_NAME:
        given = next((family for family in _FAMILIES if given.startswith(f"{family}.")), given)
    return _BY_NAME.get(given, given)
