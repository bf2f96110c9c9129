"""Who works in the month on which the truth of every report is shown, and what calls cost in it.

Prices are the providers' own price pages, in nano-dollars a token; all of them are whole ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

Row = dict[str, Any]
FIRST: Final = datetime(2026, 10, 3, 12, tzinfo=UTC)
NOW: Final = datetime(2026, 11, 4, 10, 30, 7, 500_000, tzinfo=UTC)
"""Clocks change within it: on 4 October on Lord Howe, on 1 November in New York."""
TOKENS: Final = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
)  # fmt: skip
INPUTS: Final = TOKENS[:4]
WEB_SEARCH_NANO: Final = 10_000_000
Rates = tuple[int, int, int, int, int]
"""For a token of each of `TOKENS`."""
LONG_PROMPT: Final = 200_000
_SHORT: Final[Mapping[str, Rates]] = {
    "claude-opus-4-5": (5000, 500, 6250, 10_000, 25_000),
    "claude-opus-5": (5000, 500, 6250, 10_000, 25_000),
    "claude-sonnet-4-5": (3000, 300, 3750, 6000, 15_000),
    "claude-haiku-4-5": (1000, 100, 1250, 2000, 5000),
    "gpt-5": (1250, 125, 1250, 1250, 10_000),
    "gemini-2.5-pro": (1250, 125, 1250, 1250, 10_000),
}
_LONG: Final[Mapping[str, Rates]] = {
    "claude-sonnet-4-5": (6000, 600, 7500, 12_000, 22_500),
    "gemini-2.5-pro": (2500, 250, 2500, 2500, 15_000),
}
"""Of the whole call, where its prompt is longer than 200,000 tokens."""


class Person(NamedTuple):
    """Somebody whose calls are seen in one way. `user_id` and `email` are what their own key says."""

    way: str
    org_id: str
    user_id: str
    email: str
    zone: str
    models: tuple[str, ...]
    machines: tuple[str, ...]
    facts: Mapping[str, str] = {}
    """Team and the like, as telemetry or the key says it."""

    def secret(self, what: str) -> str:
        """Return an id of theirs that is long enough to be nobody else's."""
        return hashlib.sha256(f"{what} {self.org_id} {self.way}".encode()).hexdigest()


CLAUDE: Final = ("claude-opus-4-5", "claude-opus-5", "claude-sonnet-4-5", "claude-haiku-4-5")
CORE: Final = {"team": "core", "department": "r&d", "cost_center": "cc1"}
PEOPLE: Final = (
    Person("oauth", "org_a", "ann", "ann@acme.example", "America/New_York", CLAUDE, ("laptop", "tower"),
           {**CORE, "identity_provider": "okta"}),
    Person("proxied", "org_a", "bob", "Bob@Acme.Example", "Australia/Lord_Howe", CLAUDE, ("bobs",), CORE),
    Person("codex", "org_a", "cem", "cem@other.example", "Asia/Kathmandu", ("gpt-5",), ("cems",),
           {"team": "tools"}),
    Person("gemini", "org_a", "dee", "dee@acme.example", "America/Sao_Paulo", ("gemini-2.5-pro",), ("dees",),
           {"team": "tools", "identity_provider": "gateway-oidc"}),
    Person("api", "org_a", "e'v\\e", "", "Europe/Berlin", ("claude-opus-4-5", "acme-7b"), ("",)),
    Person("build", "org_a", "", "", "UTC", ("claude-haiku-4-5", "acme-7b"), ("build-1",)),
    Person("shared", "org_b", "", "fay@beta.example", "Asia/Kathmandu", CLAUDE, ("fays", "fays-other"),
           {"team": "core", "cost_center": "cc9"}),
    Person("device", "org_b", "gus", "", "Australia/Lord_Howe", CLAUDE[:2], ("guss",)),
    Person("walk-in", "org_b", "hal", "no address", "America/New_York", CLAUDE, ("",)),
)  # fmt: skip


def rates_of(row: Row) -> Rates | None:
    """Return what each token of a call costs; None where nobody has a price for its model."""
    prompt = sum(row[name] for name in INPUTS)
    rates = (_LONG if prompt > LONG_PROMPT else _SHORT).get(row["model"], _SHORT.get(row["model"]))
    if rates is None:
        return None
    factors = []
    if row["model"] == "claude-opus-5":
        factors += [(2, 1)] if row["speed"] == "fast" else []
        factors += [(11, 10)] if row["inference_geo"] == "us" else []
    if row["service_tier"] == "batch":
        factors.append((1, 2))
    scaled = list(rates)
    for times, over in factors:
        scaled = [rate * times for rate in scaled]
        assert not any(rate % over for rate in scaled), "prices of the month are whole nano-dollars"
        scaled = [rate // over for rate in scaled]
    return tuple(scaled)  # type: ignore[return-value]  # five of them


def costs_of(row: Row) -> dict[str, int] | None:
    """Return the cost of each kind of token of a call, in nano-dollars; None without a price."""
    rates = rates_of(row)
    if rates is None:
        return None
    costs = {name: row[name] * rate for name, rate in zip(TOKENS, rates, strict=True)}
    return {**costs, "web_search_requests": row["web_search_requests"] * WEB_SEARCH_NANO}
