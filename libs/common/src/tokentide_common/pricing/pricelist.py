"""genai-prices behind one boundary; the only file that imports it.

Its own `calc_price` does every sum here once per unit, so that its rules (which price covers which kind of
token, which price replaces which) are applied by itself and never rewritten by us.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import Final, NamedTuple

from genai_prices import Usage
from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from tokentide_common.pricing.names import candidates, clean_model
from tokentide_common.pricing.rates import ALWAYS, UnitRates
from tokentide_common.providers import provider_named

_EPOCH_DAY: Final = date(1970, 1, 1)
_PROBES: Final[tuple[dict[str, int], ...]] = (
    {"input_tokens": 1},
    {"input_tokens": 1, "cache_read_tokens": 1},
    {"input_tokens": 1, "cache_write_tokens": 1, "cache_write_5m_tokens": 1},
    {"input_tokens": 1, "cache_write_tokens": 1, "cache_write_1h_tokens": 1},
    {"output_tokens": 1},
    {"output_tokens": 1, "output_reasoning_tokens": 1},
    {"web_searches": 1},
)
# Any of these says that calls of a model are charged by what a call record carries.
_COUNTED: Final = frozenset({"input_mtok", "output_mtok", "requests_kcount"})


class Listing(NamedTuple):
    """One model of one provider, as the price list has it."""

    provider_id: str
    model_id: str
    ref: str
    """The spelling under which it was found."""
    model: ModelInfo
    variants: tuple[PriceVariant, ...]
    """Prices for a context. A model borrowed from another provider's list has none of them."""

    def relevant(self, context: Mapping[str, str]) -> dict[str, str]:
        """Return the part of a context that can change a price of this model."""
        known = {pair for variant in self.variants for pair in variant.when.items()}
        return {key: value for key, value in context.items() if (key, value) in known}

    def change_days(self) -> set[date]:
        """Return the UTC days on which a price may change."""
        return {c.start_date for c in self._constraints() if isinstance(c, StartDateConstraint)}

    def change_times(self) -> set[time]:
        """Return the UTC times of day at which a price may change, for vendors with peak hours."""
        daily = [c for c in self._constraints() if isinstance(c, TimeOfDateConstraint)]
        return {_utc_time(moment) for c in daily for moment in (c.start_time, c.end_time)}

    def rates_at(self, moment: datetime, context: Mapping[str, str]) -> list[tuple[int, UnitRates]] | None:
        """Return `(total input above which they hold, rates)`, ascending.

        None where the price is for something that a call record does not carry (audio, pages, characters).
        """
        price = self.model.get_prices(moment, dict(context) if self.variants else None)
        keys = {key: value for key, value in vars(price).items() if value is not None}
        if keys and not keys.keys() & _COUNTED:
            return None
        tiered = [value for value in keys.values() if isinstance(value, TieredPrices)]
        steps = sorted({ALWAYS, *(tier.start for value in tiered for tier in value.tiers)})
        return [(above, _unit_rates(_at_size(keys, above))) for above in steps]

    def _constraints(self) -> list[StartDateConstraint | TimeOfDateConstraint]:
        prices = self.model.prices
        conditional: list[ConditionalPrice | PriceVariant] = [*self.variants]
        if not isinstance(prices, ModelPrice):
            conditional += prices
        return [c.constraint for c in conditional if c.constraint is not None]


class PriceList:
    """The prices that ship with the installed genai-prices; it never goes to the network."""

    def __init__(self) -> None:
        self._providers: list[Provider] = get_snapshot().providers
        self.version = f"genai-prices {version('genai-prices')}"

    def provider_id(self, provider: str) -> str:
        """Return the list's id of a provider, or the cleaned name where the list has no such provider."""
        name = provider_named(provider)
        found = find_provider_by_id(self._providers, name) if name else None
        return found.id if found else name

    def find(self, provider: str, model: str) -> Listing | None:
        """Find a model by what a source called it; never by a likeness, and None where nothing fits.

        Walks the list itself: genai-prices' own lookup caches every name it ever saw, without a bound.
        """
        for provider_name, ref in candidates(provider, model):
            home = self._home(provider_name, ref)
            if home is not None and (info := home.find_model(ref, all_providers=self._providers)) is not None:
                own = any(info is listed for listed in home.models)
                return Listing(home.id, info.id, ref, info, tuple(info.price_variants or ()) if own else ())
        given = provider_named(provider)
        if given and find_provider_by_id(self._providers, given) is None:
            # An unheard-of provider is somebody's gateway: the model tells whose list price it is.
            return self.find("", clean_model(model))
        return None

    def _home(self, provider_name: str, ref: str) -> Provider | None:
        if provider_name:
            return find_provider_by_id(self._providers, provider_name)
        return next((p for p in self._providers if p.model_match and p.model_match.is_match(ref)), None)


def _at_size(keys: dict[str, Decimal | TieredPrices], above: int) -> ModelPrice:
    """Flatten tiered prices to those of a prompt just larger than `above`."""
    flat: dict[str, Decimal | TieredPrices | None] = {}
    for key, value in keys.items():
        if isinstance(value, TieredPrices):
            reached = [tier.price for tier in value.tiers if tier.start <= above]
            flat[key] = reached[-1] if reached else value.base
        else:
            flat[key] = value
    return ModelPrice(**flat)


def _unit_rates(price: ModelPrice) -> UnitRates:
    """Ask what one of each costs; prices are linear in disjoint buckets, so that is all there is to know."""
    with warnings.catch_warnings():
        # What genai-prices warns about is for its maintainers; a service must not print or raise it.
        warnings.simplefilter("ignore")
        request = price.calc_price(Usage())["total_price"]
        costs = [price.calc_price(Usage(**probe))["total_price"] - request for probe in _PROBES]
    return UnitRates._make([*costs, request])


def _utc_time(moment: time) -> time:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return datetime.combine(_EPOCH_DAY, moment).astimezone(UTC).timetz()
