"""Answers of our own, in the words that each provider's SDK reads."""

from __future__ import annotations

import json

import pytest

from tokentide_common.errors import RateLimited, TooLarge, Unauthorized, Unavailable
from tokentide_proxy.exchange import Dialect, Upstream
from tokentide_proxy.refusals import Refusal, refusal
from tokentide_proxy.upstream_errors import UpstreamBroken, UpstreamTimeout


def told(error: Exception, dialect: Dialect) -> Refusal:
    return refusal(error, Upstream("", dialect, dialect, "https", "api.example", 443), "id-1")


@pytest.mark.parametrize(
    ("error", "status", "anthropic", "openai", "gemini"),
    [
        (Unauthorized("no"), 401, "authentication_error", "unauthorized", "UNAUTHENTICATED"),
        (TooLarge("no"), 413, "request_too_large", "too_large", "INVALID_ARGUMENT"),
        (Unavailable("no", code="keys_unavailable"), 503, "api_error", "keys_unavailable", "UNAVAILABLE"),
        (
            RateLimited("no", code="budget_used_up"),
            *(429, "rate_limit_error", "budget_used_up", "RESOURCE_EXHAUSTED"),
        ),
        (UpstreamBroken("no"), 502, "api_error", "upstream_broken", "UNAVAILABLE"),
        (UpstreamTimeout("no"), 504, "timeout_error", "upstream_timeout", "DEADLINE_EXCEEDED"),
        (RuntimeError("no"), 500, "api_error", "internal_error", "INTERNAL"),
    ],
)
def test_every_dialect_has_its_own_words(
    error: Exception, status: int, anthropic: str, openai: str, gemini: str
) -> None:
    assert {told(error, dialect).status for dialect in ("anthropic", "openai", "gemini")} == {status}
    assert json.loads(told(error, "anthropic").body)["error"]["type"] == anthropic
    assert json.loads(told(error, "openai").body)["error"]["code"] == openai
    assert json.loads(told(error, "gemini").body)["error"]["status"] == gemini
    assert json.loads(told(error, "gemini").body)["error"]["code"] == status


def test_what_nobody_expected_is_not_told() -> None:
    assert b"secret" not in told(RuntimeError("secret"), "openai").body


def test_whoever_may_come_back_is_told_when() -> None:
    assert (b"retry-after", b"1") in told(Unavailable("no"), "anthropic").headers
