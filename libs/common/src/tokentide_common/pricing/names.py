"""What sources call a provider and a model, and what a price list calls them."""

from __future__ import annotations

import re
from collections.abc import Iterator

# OpenTelemetry's and gateways' names that genai-prices does not recognise by itself.
_PROVIDERS = {
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
    "z.ai": "zai",
    "z_ai": "zai",
}

# Names of wire protocols as much as of vendors: other vendors' models answer behind them.
_PROTOCOLS = frozenset({"", "anthropic", "openai", "litellm"})

_CONTEXT_SUFFIX = re.compile(r"\[[0-9]+[km]\]$")
_BEDROCK_ID = re.compile(r"(?:^|[/.])anthropic\.claude")
_VERTEX_DATE = re.compile(r"@(20[0-9]{6})$")
_VERTEX_DEFAULT = re.compile(r"@(?:default|latest)$")


def clean_provider(provider: str) -> str:
    """Return the provider in lower case under the name that price lists use; "" stays ""."""
    name = provider.strip().lower()
    return _PROVIDERS.get(name, name)


def clean_model(model: str) -> str:
    """Return the model id in lower case without what clients add to it (`[1m]`, `models/`)."""
    return _CONTEXT_SUFFIX.sub("", model.strip().lower()).removeprefix("models/")


def candidates(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """Yield (provider, model) pairs to look up, most explicit first; provider "" means: by the model.

    The model alone decides only where the provider is unknown or is a protocol that others speak too.
    A marketplace that does not list a model (`github-copilot`, `openrouter`) never gets its vendor's price.
    """
    given, name = clean_provider(provider), clean_model(model)
    if given in _PROTOCOLS:
        if _BEDROCK_ID.search(name):
            # Only Bedrock knows such ids, and its regional ones cost more than Anthropic's own.
            yield "aws", name.removeprefix("bedrock/")
            return
        head, slash, tail = name.partition("/")
        if slash:
            yield clean_provider(head), tail
    for spelling in _spellings(name):
        yield given, spelling
        if given in _PROTOCOLS and given:
            yield "", spelling


def _spellings(name: str) -> Iterator[str]:
    yield name
    for respelled in (_VERTEX_DATE.sub(r"-\1", name), _VERTEX_DEFAULT.sub("", name)):
        if respelled != name:
            yield respelled
