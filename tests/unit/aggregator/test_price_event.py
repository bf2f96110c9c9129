"""What a call that used nothing costs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokentide_common.events import UsageEvent
from tokentide_common.pricing import Prices
from tokentide_common.pricing.call_price import price_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def call(**said: object) -> UsageEvent:
    known = {"call_id": "c", "source": "proxy", "occurred_at": NOW, "observed_at": NOW}
    return UsageEvent(**(known | said))  # type: ignore[arg-type] -- a test's short form


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def test_a_refused_call_costs_nothing_where_each_request_has_a_price(prices: Prices) -> None:
    cost, sonar = price_of(prices), {"provider": "perplexity", "model": "sonar-pro"}
    assert cost(call(**sonar))
    assert cost(call(**sonar, status="error", http_status=401)) == 0
    assert cost(call(**sonar, status="error", output_tokens=9))
