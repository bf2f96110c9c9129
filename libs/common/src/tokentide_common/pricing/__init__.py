"""What a call costs at list price: exact integer nano-USD, or `None` where no price is known.

    names.py      what sources call a provider and a model -> what a price list calls them
    pricelist.py  genai-prices, the only importer of it: which rates hold at a moment, in a context
    overrides.py  dated rules (overrides.toml and the user's own file) for what genai-prices lacks
    rates.py      exact rates, and the one multiplication that turns tokens into nano-USD
    plan.py       the rates of one model over its price periods
    call_price.py what a merged call record costs
    prices.py     `Prices`: memo and hot path

Needs the extra `pricing`. Explained in docs/reference/pricing.md.
"""

from tokentide_common.pricing.overrides import InvalidOverrides
from tokentide_common.pricing.prices import Prices

__all__ = ["InvalidOverrides", "Prices"]
