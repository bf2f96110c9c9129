"""What an attempt to hand a request on amounts to: done, refused for good, or later again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import msgspec

from tokentide_ingest.otlp.forward_wire import Headers, WireAnswer, first

# The OTLP specification, "Retryable Response Codes" and "Failures" of OTLP/gRPC.
_RETRYABLE_HTTP: Final = frozenset({429, 502, 503, 504})
_RETRYABLE_GRPC: Final = frozenset({1, 4, 10, 11, 14, 15})
_RESOURCE_EXHAUSTED: Final = 8
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 15.0
# A collector may ask for patience, but a mistaken header must not stop the queue for a day.
_LONGEST_RETRY_AFTER_S: Final = 300.0


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of one attempt; `detail` is for the log and quotes nothing that was sent."""

    kind: Literal["delivered", "refused", "later"]
    detail: str = ""
    after_s: float = 0.0


DELIVERED: Final = Verdict("delivered")


def verdict_on_http(answer: WireAnswer) -> Verdict:
    """Return what an HTTP answer says of the request."""
    if 200 <= answer.status < 300:
        return DELIVERED
    detail = f"HTTP {answer.status}"
    if answer.status in _RETRYABLE_HTTP:
        return Verdict("later", detail, retry_after_s(answer.headers, datetime.now(UTC)))
    return Verdict("refused", detail)


def verdict_on_grpc(answer: WireAnswer) -> Verdict:
    """Return what a gRPC status says of the call."""
    if answer.grpc_status == 0:
        return DELIVERED
    # Exhausted for now if the collector says when to come back, else for good.
    wait = b"google.rpc.RetryInfo" in first(answer.headers, b"grpc-status-details-bin")
    again = answer.grpc_status in _RETRYABLE_GRPC or (answer.grpc_status == _RESOURCE_EXHAUSTED and wait)
    return Verdict("later" if again else "refused", f"gRPC {answer.grpc_status}")


def retry_after_s(headers: Headers, now: datetime) -> float:
    """Return the seconds that `Retry-After` asks for, bounded; 0 where it asks for nothing readable."""
    text = first(headers, b"retry-after").decode("latin-1").strip()
    try:
        seconds = float(text) if text.isdecimal() else (parsedate_to_datetime(text) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def pause_s(attempt: int, after_s: float) -> float:
    """Return how long to wait after a failed attempt (1, 2, …): full jitter, beyond what was asked for."""
    # The exponent is bounded, or a day's outage would overflow the float.
    most = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempt, 16))
    return after_s + random.uniform(0, most)  # noqa: S311 -- jitter, not a secret
