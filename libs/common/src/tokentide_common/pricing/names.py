"""What sources call a model, and what a price list calls it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokentide_common.providers import provider_named

# Names of wire protocols as much as of vendors: other vendors' models answer behind them.
_PROTOCOLS = frozenset({"", "anthropic", "openai", "litellm"})

_CONTEXT_SUFFIX = re.compile(r"\[[0-9]+[km]\]$")
_BEDROCK_ID = re.compile(r"(?:^|[/.])anthropic\.claude")
_VERTEX_DATE = re.compile(r"@(20[0-9]{6})$")
_VERTEX_DEFAULT = re.compile(r"@(?:default|latest)$")


def clean_model(model: str) -> str:
    """Return the model id in lower case without what clients add to it (`[1m]`, `models/`)."""
    return _CONTEXT_SUFFIX.sub("", model.strip().lower()).removeprefix("models/")


def candidates(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """Yield (provider, model) pairs to look up, most explicit first; provider "" means: by the model.

    The model alone decides only where the provider is unknown or is a protocol that others speak too.
    A marketplace that does not list a model (`github-copilot`, `openrouter`) never gets its vendor's price.
    """
    given, name = provider_named(provider), clean_model(model)
    if given in _PROTOCOLS:
        if _BEDROCK_ID.search(name):
            # Only Bedrock knows such ids, and its regional ones cost more than Anthropic's own.
            yield "aws", name.removeprefix("bedrock/")
            return
        head, slash, tail = name.partition("/")
        if slash:
            yield provider_named(head), tail
    for spelling in _spellings(name):
        yield given, spelling
        if given in _PROTOCOLS and given:
            yield "", spelling


def _spellings(name: str) -> Iterator[str]:
    yield name
    for respelled in (_VERTEX_DATE.sub(r"-\1", name), _VERTEX_DEFAULT.sub("", name)):
        if respelled != name:
            yield respelled
