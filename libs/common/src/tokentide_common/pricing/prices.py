"""`Prices`: what a call costs, microseconds after the first call of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tokentide_common.pricing.names import clean_model
from tokentide_common.pricing.overrides import Rule, load_overrides
from tokentide_common.pricing.plan import Plan, make_plan
from tokentide_common.pricing.pricelist import Listing, PriceList
from tokentide_common.pricing.rates import LinearRates

# Real organisations use some dozens of (provider, model, context). The bound is against names from outside.
_MEMO_SIZE: Final = 4096

_Key = tuple[str, str, str, str, str]
_Shared = tuple[tuple[str, int] | tuple[()], tuple[tuple[str, str], ...], tuple[str, ...]]


class Prices:
    """Prices calls by memoised linear rates. Pure after `load`: no file, clock or network per call.

    `version` names the price data and is stored with each call that it priced.
    """

    def __init__(self, rules: Sequence[Rule] = (), *, version: str = "") -> None:
        self._list = PriceList()
        self._rules = tuple(rules)
        self.version = f"{self._list.version}+{version}" if version else self._list.version
        self._recent: dict[_Key, Plan | None] = {}
        self._older: dict[_Key, Plan | None] = {}
        self._plans: dict[_Shared, Plan] = {}

    @classmethod
    def load(cls, overrides_path: str | None = None) -> Prices:
        """Load the price list, the shipped overrides and the user's; raises `InvalidOverrides`."""
        overrides = load_overrides(overrides_path)
        return cls(overrides.rules, version=overrides.version)

    def price(  # noqa: PLR0917 - called per call: an argument object would cost more than the pricing
        self,
        provider: str,
        model: str,
        occurred_at: datetime,
        input_tokens: int,
        cache_read_tokens: int,
        cache_write_5m_tokens: int,
        cache_write_1h_tokens: int,
        output_tokens: int,
        reasoning_tokens: int = 0,
        web_search_requests: int = 0,
        service_tier: str = "",
        speed: str = "",
        inference_geo: str = "",
    ) -> int | None:
        """Return the cost in nano-USD, rounded half to even, or None where no price is known.

        Tokens are the disjoint buckets of `UsageEvent`; cache writes of unknown duration belong in the
        5-minute bucket. `occurred_at` is aware.
        """
        key = (provider, model, service_tier, speed, inference_geo)
        plan = self._recent.get(key)
        if plan is None and (plan := self._plan(key)) is None:
            return None
        rates = plan.constant or plan.rates_at(occurred_at)
        if rates is None:
            return None
        tier = rates.flat or rates.tier(
            input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
        )
        per_input, per_read, per_5m, per_1h, per_output, per_reasoning, per_search, per_request, nano = tier
        # Integers all the way: the sum is exact, and the one rounding is the one below.
        cost, rest = divmod(
            per_request
            + input_tokens * per_input
            + cache_read_tokens * per_read
            + cache_write_5m_tokens * per_5m
            + cache_write_1h_tokens * per_1h
            + output_tokens * per_output
            + reasoning_tokens * per_reasoning
            + web_search_requests * per_search,
            nano,
        )
        return cost + 1 if 2 * rest > nano or (2 * rest == nano and cost & 1) else cost

    def plan(
        self, provider: str, model: str, service_tier: str = "", speed: str = "", inference_geo: str = ""
    ) -> Plan | None:
        """Return the rates of a model in a context over its price periods, None where no price is known."""
        key = (provider, model, service_tier, speed, inference_geo)
        return self._recent.get(key) or self._plan(key)

    def rates(  # noqa: PLR0917 -- as `price`
        self,
        provider: str,
        model: str,
        occurred_at: datetime,
        total_input: int,
        service_tier: str = "",
        speed: str = "",
        inference_geo: str = "",
    ) -> LinearRates | None:
        """Return by which rates `price` prices a call with a prompt of this many tokens."""
        plan = self.plan(provider, model, service_tier, speed, inference_geo)
        tiers = None if plan is None else plan.rates_at(occurred_at)
        return None if tiers is None else tiers.tier(total_input)

    def _plan(self, key: _Key) -> Plan | None:
        """Look further than the recent memo, and remember the answer, also that there is none."""
        if key in self._recent:
            return None
        plan = self._older[key] if key in self._older else self._compile(key)
        if len(self._recent) >= _MEMO_SIZE // 2:
            # Two generations instead of an LRU: a hit costs nothing, and what is in use moves on.
            self._older, self._recent = self._recent, {}
        self._recent[key] = plan
        return plan

    def _compile(self, key: _Key) -> Plan | None:
        provider, model, service_tier, speed, inference_geo = key
        stated = {"service_tier": service_tier, "speed": speed, "inference_geo": inference_geo}
        context = {name: value.lower() for name, value in stated.items() if value}
        listing = self._list.find(provider, model)
        rules = self._rules_for(provider, model, listing, context)
        if listing is None and not any(rule.rates for rule in rules):
            return None
        in_list = listing.relevant(_list_context(context)) if listing else {}
        # Every spelling of a model shares one plan: there are as many as the data has, whatever names come.
        origin: tuple[str, int] | tuple[()] = (listing.provider_id, id(listing.model)) if listing else ()
        shared = (origin, tuple(in_list.items()), tuple(rule.name for rule in rules))
        plan = self._plans.get(shared)
        if plan is None:
            plan = self._plans[shared] = make_plan(listing, rules, in_list)
        return plan

    def _rules_for(
        self, provider: str, model: str, listing: Listing | None, context: dict[str, str]
    ) -> list[Rule]:
        spellings = [clean_model(model)]
        if listing:
            spellings += [listing.ref, listing.model_id]
        provider_id = listing.provider_id if listing else self._list.provider_id(provider)
        return [rule for rule in self._rules if rule.concerns(provider_id, spellings, context)]


def _list_context(context: dict[str, str]) -> dict[str, str]:
    """Say a call's context in genai-prices' words: batches are a way of processing there, not a tier."""
    if context.get("service_tier") == "batch":
        return {**{k: v for k, v in context.items() if k != "service_tier"}, "processing": "batch"}
    return context
