"""What the readers make of answers to real clients, against the account of the server that gave them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.observing import told
from infra.recorded_exchanges import Exchange, exchanges
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.reader import reader_for

EXCHANGES = exchanges()
ANSWERED = [e for e in EXCHANGES if (truth := e.truth()) and truth["status"] == 200]
WHOLE = [e for e in ANSWERED if (e.truth() or {}).get("completed", True)]
# A stream of each dialect and encoding that is short enough to be cut at every position.
SHORT = [
    next(e for e in ANSWERED if e.name.startswith(prefix))
    for prefix in ("claude-code/01", "claude-code/29", "codex/01", "gemini-cli/01", "opencode")
]


def read(exchange: Exchange, *cuts: int, whole: bool = True) -> Observed:
    reader = reader_for(exchange.dialect, exchange.path, exchange.status, exchange.headers)
    assert reader is not None
    places = [0, *sorted(cuts), len(exchange.body)]
    for start, end in pairwise(places):
        reader.feed(exchange.body[start:end])
    if whole:
        reader.end()
    return reader.observed


def expected(truth: dict[str, Any]) -> dict[str, int]:
    usage = truth["usage"]
    if truth["api"] == "anthropic":
        split = usage["cache_creation"]
        return {
            "input_tokens": usage["input_tokens"],
            "cache_read_tokens": usage["cache_read_input_tokens"],
            "cache_write_tokens": usage["cache_creation_input_tokens"],
            "cache_write_5m_tokens": split["ephemeral_5m_input_tokens"],
            "cache_write_1h_tokens": split["ephemeral_1h_input_tokens"],
            "output_tokens": usage["output_tokens"],
        }
    if truth["api"] == "gemini":
        return {
            "input_tokens": usage["promptTokenCount"] - usage["cachedContentTokenCount"],
            "cache_read_tokens": usage["cachedContentTokenCount"],
            "output_tokens": usage["candidatesTokenCount"] + usage["thoughtsTokenCount"],
            "reasoning_tokens": usage["thoughtsTokenCount"],
        }
    return {
        "input_tokens": usage["input_tokens"] - usage["input_tokens_details"]["cached_tokens"],
        "cache_read_tokens": usage["input_tokens_details"]["cached_tokens"],
        "output_tokens": usage["output_tokens"],
        "reasoning_tokens": usage["output_tokens_details"]["reasoning_tokens"],
    }


def test_every_recorded_run_of_every_client_is_here() -> None:
    assert {e.name.partition("/")[0] for e in WHOLE} == {"claude-code", "codex", "gemini-cli", "opencode"}
    assert len(EXCHANGES) == 71


@pytest.mark.parametrize("exchange", WHOLE, ids=lambda e: e.name)
def test_usage_equals_the_account_of_the_server(exchange: Exchange) -> None:
    truth, observed = exchange.truth(), read(exchange)
    assert truth is not None
    assert {name: getattr(observed, name) for name in expected(truth)} == expected(truth)
    assert observed.has_usage
    assert observed.finished
    assert observed.error_type == ""
    assert observed.response_id == truth.get("message_id", truth.get("response_id"))
    assert observed.model == truth["model"]
    assert observed.stop_reason == (truth.get("stop_reason") or observed.stop_reason) != ""


@pytest.mark.parametrize("exchange", [e for e in ANSWERED if e not in WHOLE], ids=lambda e: e.name)
def test_a_stream_that_breaks_off_is_a_lower_bound(exchange: Exchange) -> None:
    truth, observed = exchange.truth(), read(exchange, whole=False)
    assert truth is not None
    assert {name: getattr(observed, name) for name in expected(truth)} == {
        **expected(truth),
        "output_tokens": truth["message_start_usage"]["output_tokens"],
    }
    assert observed.has_usage
    assert not observed.finished


@pytest.mark.parametrize("exchange", [e for e in EXCHANGES if e.status >= 400], ids=lambda e: e.name)
def test_a_refusal_has_its_word_and_no_usage(exchange: Exchange) -> None:
    truth = exchange.truth()
    if truth is None:
        assert reader_for(exchange.dialect, exchange.path, exchange.status, exchange.headers) is None
        return
    observed = read(exchange)
    assert told(observed) == {"error_type": truth["error"], "finished": True}


@pytest.mark.parametrize("exchange", SHORT, ids=lambda e: e.name)
def test_it_does_not_matter_where_the_bytes_are_cut(exchange: Exchange) -> None:
    whole = told(read(exchange))
    for cut in range(1, len(exchange.body)):
        assert told(read(exchange, cut)) == whole
    assert told(read(exchange, *range(1, len(exchange.body)))) == whole


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_it_does_not_matter_how_often_the_bytes_are_cut(data: st.DataObject) -> None:
    exchange = data.draw(st.sampled_from(ANSWERED))
    cuts = data.draw(st.lists(st.integers(0, len(exchange.body)), max_size=20))
    assert told(read(exchange, *cuts)) == told(read(exchange))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_known_only_grows_while_a_stream_comes(data: st.DataObject) -> None:
    exchange = data.draw(st.sampled_from(WHOLE))
    cut = data.draw(st.integers(0, len(exchange.body)))
    part = exchange._replace(body=exchange.body[:cut])
    whole, known = told(read(exchange)), told(read(part, whole=False))
    for name, value in known.items():
        assert value == whole[name] or value <= whole[name]
